"""Parameter names of the published TCL and ALBEF checkpoints (pre-training and fine-tuned) to ours, and back.

Published name                                   ours (student; the `_m` copies go to the teacher)
visual_encoder.X                                 encoders.image_encoder.vit.X
text_encoder.bert.embeddings.X                   encoders.text_encoder.bert.embeddings.X
text_encoder.bert.encoder.layer.N.X, N < F       encoders.text_encoder.bert.encoder.layer.N.X
text_encoder.bert.encoder.layer.N.X, N >= F      encoders.fusion_encoder.layers.(N - F).X'
text_encoder.cls.predictions.X                   encoders.mlm_head.X'
vision_proj, text_proj                           encoders.vision_proj, encoders.text_proj
itm_head, temp                                   itm_head, temperature
image_queue, text_queue [D, K], idx_queue [1, K] image_queue, text_queue [K, D], id_queue [K]
queue_ptr                                        their pointers

F is the number of layers below the first one with cross-attention. X' is renamed inside the layer. Fine-tuned
checkpoints leave out the "bert." of the text encoder. In those of VQA "encoders" is "networks", and

text_decoder.bert.embeddings.X                   networks.decoder.embeddings.X
text_decoder.bert.encoder.layer.N.X              networks.decoder.layers.N.X'
text_decoder.cls.predictions.X                   networks.decoder.head.X'

In those of visual entailment and NLVR2 it is "networks", too, and cls_head is networks.cls_head. In those of NLVR2 and
text assignment, whose ta_head is ta_head, layers from F on are doubled: F + 2n is layers.n.first, F + 2n + 1 is
layers.n.second. Keys and values of the image are saved for both, and are ours once.
"""

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tcl.errors import InputError
from tcl.models.fusion_encoder import BERT_LAYER_NAMES

_MLM_HEAD_NAMES = {"transform.dense": "dense", "transform.LayerNorm": "norm"}
_PUBLISHED_MLM_HEAD_NAMES = {"": ""} | {ours: f"{theirs}." for theirs, ours in _MLM_HEAD_NAMES.items()}
_PUBLISHED_LAYER_NAMES = {ours: theirs for theirs, ours in BERT_LAYER_NAMES.items()}
_PUBLISHED_VIT = re.compile(
    r"vit\.(cls_token|pos_embed|(patch_embed\.proj|norm|blocks\.\d+\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12]))\.\w+)"
)
_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.(.+)\.(\w+)")
_MODULE = re.compile(r"(visual_encoder|text_encoder|text_decoder|vision_proj|text_proj|cls_head)(_m)?\.(.+)")
_KEYS_VALUES = re.compile(
    r"(text_encoder(?:_m)?\.(?:bert\.)?encoder\.layer\.)(\d+)(\.crossattention\.self\.(?:key|value)\.\w+)"
)
_HEADS = ("itm_head.", "ta_head.")
_NO_BERT = re.compile(r"(text_encoder(?:_m)?)\.(?=embeddings\.|encoder\.)")
_NUMBERS, _QUEUES = ("temp", "queue_ptr"), ("image_queue", "text_queue", "idx_queue")
_OUR_QUEUES = ("image_queue", "text_queue", "id_queue")


@dataclass
class PublishedWeights:
    """A published checkpoint under our names."""

    student: dict[str, Tensor] = field(default_factory=dict)
    """State of a student of tcl.objectives: tcl, text_assignment, question_answering or fused_classes."""
    teacher: dict[str, Tensor] = field(default_factory=dict)
    """State of its teacher."""
    source: dict[str, str] = field(default_factory=dict)
    """Our student name -> published name."""
    teacher_source: dict[str, str] = field(default_factory=dict)
    """Our teacher name -> published name."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Published name -> why it is not needed."""
    errors: dict[str, str] = field(default_factory=dict)
    """Published name -> why it cannot be used."""


def count_text_layers(names: list[str] | dict[str, Tensor]) -> int:
    """F: the index of the first layer with cross-attention. InputError: no layer has any."""
    layers = (re.match(r"text_encoder\.(?:bert\.)?encoder\.layer\.(\d+)\.crossattention\.", name) for name in names)
    fused = [int(layer[1]) for layer in layers if layer]
    if not fused:
        raise InputError("checkpoint: no *.crossattention.* weights; a published TCL or ALBEF checkpoint has them")
    return min(fused)


def has_doubled_layers(state: dict[str, Tensor]) -> bool:
    """Are its fusion layers made for two images: do the first two share their keys?"""
    if not any(name.startswith(("cls_head.", "ta_head.")) for name in state):
        return False
    pairs = (_pair_of(name, count_text_layers(state)) for name in state)
    first, second = next((pair for pair in pairs if pair is not None), ("", ""))
    return second in state and first in state and state[first].equal(state[second])


def _pair_of(name: str, text_layers: int) -> tuple[str, str] | None:
    """Of keys and values of the image, where layers are doubled: their names in the first and in the second layer of
    the pair. None: it is another tensor."""
    match = _KEYS_VALUES.fullmatch(name)
    if match is None or int(match[2]) < text_layers:
        return None
    first = text_layers + (int(match[2]) - text_layers) // 2 * 2
    return f"{match[1]}{first}{match[3]}", f"{match[1]}{first + 1}{match[3]}"


def from_published(state: dict[str, Tensor]) -> PublishedWeights:
    """Map a published state dict, names as in the 2022 release. InputError: a name that is not known."""
    weights = map_published(state)
    if weights.errors:
        name, why = next(iter(weights.errors.items()))
        more = f" and {len(weights.errors) - 1} more" if len(weights.errors) > 1 else ""
        raise InputError(f"checkpoint: {name!r}: {why}{more}; expected the names of published TCL / ALBEF weights")
    return weights


def map_published(state: dict[str, Tensor]) -> PublishedWeights:
    """As `from_published`, but what cannot be used is in `errors`. InputError: no layer with cross-attention."""
    return map_names(state, count_text_layers(state))


def map_names(state: dict[str, Tensor], text_layers: int) -> PublishedWeights:
    """As `map_published`, where the layers of the text encoder from `text_layers` (>= 1) up are the fusion encoder's,
    cross-attention or not.
    """
    weights, doubled = PublishedWeights(), has_doubled_layers(state)
    for name, tensor in state.items():
        pair = _pair_of(name, text_layers) if doubled else None
        tied = pair[0] if pair is not None and name != pair[0] else _tied_to(name)
        if problem := _problem(name, tensor, state, tied):
            weights.errors[name] = problem
        elif tied:
            weights.ignored[name] = f"tied to {tied}"
        elif name.endswith(".position_ids"):
            weights.ignored[name] = "a constant: 0, 1, 2, ..."
        elif not (places := _places(name, tensor, state, text_layers, doubled)):
            weights.errors[name] = "unknown tensor"
        else:
            for of_teacher, ours, value in places:
                (weights.teacher if of_teacher else weights.student)[ours] = value
                (weights.teacher_source if of_teacher else weights.source)[ours] = name
    return weights


def _problem(name: str, tensor: Tensor, state: dict[str, Tensor], tied: str | None) -> str | None:
    """Why a tensor whose name is known cannot be used."""
    if tied and not (tied in state and tensor.equal(state[tied])):
        return f"differs from {tied}, to which it should be tied"
    if (name in _NUMBERS and tensor.numel() != 1) or (name in _QUEUES and tensor.ndim != 2):
        return f"its shape is {tuple(tensor.shape)}"
    return None


def _places(
    name: str, tensor: Tensor, state: dict[str, Tensor], text_layers: int, doubled: bool
) -> list[tuple[bool, str, Tensor]]:
    """(whether it is the teacher's, our name, the tensor as ours): several of a pointer, none of an unknown tensor."""
    if name in ("image_queue", "text_queue"):
        return [(True, f"{name}.features", tensor.T.contiguous())]
    if name == "idx_queue":
        return [(True, "id_queue.ids", tensor.flatten())]
    if name == "queue_ptr":
        queues = _OUR_QUEUES if "idx_queue" in state else _OUR_QUEUES[:2]
        return [(True, f"{queue}.pointer", tensor.reshape(()).clone()) for queue in queues]
    if name == "temp":
        return [(False, "temperature", tensor.reshape(1))]
    if name.startswith(_HEADS):
        return [(False, name, tensor)]
    match = _MODULE.fullmatch(_NO_BERT.sub(r"\1.bert.", name))
    ours = _our_module_name(match[1], match[3], text_layers, doubled) if match else None
    if ours is None:
        return []
    networks = "networks." if any(other.startswith(("text_decoder.", "cls_head.")) for other in state) else "encoders."
    return [(match[2] is not None, networks + ours, tensor)]


def _tied_to(name: str) -> str | None:
    """The name of the tensor of which `name` is a second copy."""
    prefix = name.split(".", 1)[0]
    if name == f"{prefix}.cls.predictions.decoder.weight":
        return f"{prefix}.bert.embeddings.word_embeddings.weight"
    if name == f"{prefix}.cls.predictions.decoder.bias":
        return f"{prefix}.cls.predictions.bias"
    return None


def _our_module_name(module: str, rest: str, text_layers: int, doubled: bool) -> str | None:
    """'text_encoder', 'bert.encoder.layer.7.output.dense.weight' -> 'fusion_encoder.layers.1.feed_forward...'.

    None: such layers have no such part.
    """
    if module == "visual_encoder":
        return f"image_encoder.vit.{rest}"
    if module in ("vision_proj", "text_proj", "cls_head"):
        return f"{module}.{rest}"
    decoder = module == "text_decoder"
    if rest.startswith("cls.predictions."):
        inner = rest.removeprefix("cls.predictions.")
        for theirs, ours in _MLM_HEAD_NAMES.items():
            inner = inner.replace(theirs, ours)
        return f"{'decoder.head' if decoder else 'mlm_head'}.{inner}"
    layer = _LAYER.fullmatch(rest)
    if layer is None or (not decoder and int(layer[1]) < text_layers):
        return f"decoder.{rest.removeprefix('bert.')}" if decoder else f"text_encoder.{rest}"
    if layer[2] not in BERT_LAYER_NAMES:
        return None
    stack, number = ("decoder", int(layer[1])) if decoder else ("fusion_encoder", int(layer[1]) - text_layers)
    place = f"{number // 2}.{('first', 'second')[number % 2]}" if doubled and not decoder else number
    return f"{stack}.layers.{place}.{BERT_LAYER_NAMES[layer[2]]}.{layer[3]}"


def to_published(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_published`, constants and tied copies included. `teacher` may be empty.

    InputError: a tensor for which the published code, a plain ViT and a BERT, has no name.
    """
    bert = "bert." if "encoders.mlm_head.bias" in student else ""
    layers = (re.search(r"text_encoder\.bert\.encoder\.layer\.(\d+)\.", name) for name in student)
    text_layers = 1 + max(int(layer[1]) for layer in layers if layer)
    state: dict[str, Tensor] = {}
    for name, tensor in student.items():
        if name == "temperature":
            state["temp"] = tensor.reshape(())
        elif name.startswith(_HEADS):
            state[name] = tensor
        else:
            state[_published_name(name, "", bert, text_layers)] = tensor
    for name, tensor in teacher.items():
        if name.endswith("_queue.features"):
            state[name.removesuffix(".features")] = tensor.T.contiguous()
        elif name == "id_queue.ids":
            state["idx_queue"] = tensor[None]
        elif name.endswith("_queue.pointer"):
            state["queue_ptr"] = tensor.reshape(1)
        else:
            state[_published_name(name, "_m", bert, text_layers)] = tensor
    if any(".fusion_encoder.layers.0.second." in name for name in student):
        pairs = ((_pair_of(name, text_layers), tensor) for name, tensor in state.items())
        state |= {pair[1]: tensor for pair, tensor in pairs if pair is not None}
    return state | _constants_and_ties(state)


def _published_name(name: str, suffix: str, bert: str, text_layers: int) -> str:
    """'encoders.fusion_encoder.layers.1.feed_forward...' -> 'text_encoder.bert.encoder.layer.7.output.dense.weight'."""
    module, _, rest = name.removeprefix("networks.").removeprefix("encoders.").partition(".")
    if module == "image_encoder" and _PUBLISHED_VIT.fullmatch(rest):
        return f"visual_encoder{suffix}.{rest.removeprefix('vit.')}"
    if module in ("vision_proj", "text_proj", "cls_head"):
        return f"{module}{suffix}.{rest}"
    if module == "mlm_head" or rest.startswith("head."):
        theirs = "text_encoder" if module == "mlm_head" else "text_decoder"
        part, _, parameter = rest.removeprefix("head.").rpartition(".")
        return f"{theirs}{suffix}.cls.predictions.{_PUBLISHED_MLM_HEAD_NAMES[part]}{parameter}"
    if module == "text_encoder" and rest.startswith("bert."):
        return f"text_encoder{suffix}.{bert}{rest.removeprefix('bert.')}"
    if module == "decoder" and rest.startswith("embeddings."):
        return f"text_decoder{suffix}.bert.{rest}"
    layer = re.fullmatch(r"layers\.(\d+)\.(?:(first|second)\.)?(\w+\.\w+)\.(\w+)", rest)
    if layer is None or layer[3] not in _PUBLISHED_LAYER_NAMES:
        raise InputError(f"to: {name} has no name in the published code; it knows a plain ViT and a BERT")
    inner = f"{_PUBLISHED_LAYER_NAMES[layer[3]]}.{layer[4]}"
    if module == "decoder":
        return f"text_decoder{suffix}.bert.encoder.layer.{layer[1]}.{inner}"
    number = int(layer[1]) if layer[2] is None else 2 * int(layer[1]) + (layer[2] == "second")
    return f"text_encoder{suffix}.{bert}encoder.layer.{text_layers + number}.{inner}"


def _constants_and_ties(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the published code saves as well: position ids, and the output matrix that is the word embedding."""
    added = {}
    for name, tensor in state.items():
        if name.endswith("embeddings.position_embeddings.weight"):
            ids = torch.arange(len(tensor))[None]
            added[name.replace("position_embeddings.weight", "position_ids")] = ids
        elif name.endswith(".cls.predictions.bias"):
            module = name.removesuffix(".cls.predictions.bias")
            added[f"{module}.cls.predictions.decoder.bias"] = tensor
            words = state[f"{module}.bert.embeddings.word_embeddings.weight"]
            added[f"{module}.cls.predictions.decoder.weight"] = words
    return added
