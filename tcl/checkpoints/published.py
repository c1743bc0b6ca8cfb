"""Parameter names of the published TCL (and ALBEF) checkpoints, mapped to ours: pre-training, retrieval and VQA.

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
"""

import re
from dataclasses import dataclass, field

from torch import Tensor

from tcl.errors import InputError
from tcl.models.fusion_encoder import BERT_LAYER_NAMES

_MLM_HEAD_NAMES = {"transform.dense": "dense", "transform.LayerNorm": "norm"}
_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.(.+)\.(\w+)")
_MODULE = re.compile(r"(visual_encoder|text_encoder|text_decoder|vision_proj|text_proj)(_m)?\.(.+)")
_NO_BERT = re.compile(r"(text_encoder(?:_m)?)\.(?=embeddings\.|encoder\.)")
_QUEUES = ("image_queue", "text_queue", "id_queue")


@dataclass
class PublishedWeights:
    """A published checkpoint under our names."""

    student: dict[str, Tensor] = field(default_factory=dict)
    """State of `tcl.models.tcl.TCLStudent`, or of `tcl.models.vqa.VQAStudent`."""
    teacher: dict[str, Tensor] = field(default_factory=dict)
    """State of `tcl.models.momentum.Momentum`, or of `tcl.models.vqa.AnswerTeacher`."""
    source: dict[str, str] = field(default_factory=dict)
    """Our student name -> published name."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Published name -> why it is not needed."""


def count_text_layers(names: list[str] | dict[str, Tensor]) -> int:
    """F: the index of the first layer with cross-attention. InputError: no layer has any."""
    layers = (re.match(r"text_encoder\.(?:bert\.)?encoder\.layer\.(\d+)\.crossattention\.", name) for name in names)
    fused = [int(layer[1]) for layer in layers if layer]
    if not fused:
        raise InputError("checkpoint: no *.crossattention.* weights; a published TCL or ALBEF checkpoint has them")
    return min(fused)


def from_published(state: dict[str, Tensor]) -> PublishedWeights:
    """Map a published state dict, names as in the 2022 release. InputError: a name that is not known."""
    text_layers = count_text_layers(state)
    networks = "networks." if any(name.startswith("text_decoder.") for name in state) else "encoders."
    weights = PublishedWeights()
    for name, tensor in state.items():
        if reason := _reason_to_ignore(name, state):
            weights.ignored[name] = reason
        elif name in ("image_queue", "text_queue"):
            weights.teacher[f"{name}.features"] = tensor.T.contiguous()
        elif name == "idx_queue":
            weights.teacher["id_queue.ids"] = tensor.flatten()
        elif name == "queue_ptr":
            queues = _QUEUES if "idx_queue" in state else _QUEUES[:2]
            weights.teacher |= {f"{queue}.pointer": tensor.reshape(()).clone() for queue in queues}
        elif name == "temp":
            weights.student["temperature"], weights.source["temperature"] = tensor.reshape(1), name
        elif name.startswith("itm_head."):
            weights.student[name], weights.source[name] = tensor, name
        elif (match := _MODULE.fullmatch(_NO_BERT.sub(r"\1.bert.", name))) is None:
            raise InputError(
                f"checkpoint: unknown tensor {name!r}; expected the names of published TCL / ALBEF weights"
            )
        else:
            ours = networks + _our_module_name(match[1], match[3], text_layers)
            if match[2]:
                weights.teacher[ours] = tensor
            else:
                weights.student[ours], weights.source[ours] = tensor, name
    return weights


def _reason_to_ignore(name: str, state: dict[str, Tensor]) -> str | None:
    if name.endswith(".position_ids"):
        return "a constant: 0, 1, 2, ..."
    prefix = name.split(".", 1)[0]
    tied = {
        f"{prefix}.cls.predictions.decoder.weight": f"{prefix}.bert.embeddings.word_embeddings.weight",
        f"{prefix}.cls.predictions.decoder.bias": f"{prefix}.cls.predictions.bias",
    }
    if name in tied:
        if not state[name].equal(state[tied[name]]):
            raise InputError(f"checkpoint: {name} differs from {tied[name]}, to which it should be tied")
        return f"tied to {tied[name]}"
    return None


def _our_module_name(module: str, rest: str, text_layers: int) -> str:
    """'text_encoder', 'bert.encoder.layer.7.output.dense.weight' -> 'fusion_encoder.layers.1.feed_forward...'."""
    if module == "visual_encoder":
        return f"image_encoder.vit.{rest}"
    if module in ("vision_proj", "text_proj"):
        return f"{module}.{rest}"
    decoder = module == "text_decoder"
    if rest.startswith("cls.predictions."):
        inner = rest.removeprefix("cls.predictions.")
        for theirs, ours in _MLM_HEAD_NAMES.items():
            inner = inner.replace(theirs, ours)
        return f"{'decoder.head' if decoder else 'mlm_head'}.{inner}"
    layer = _LAYER.fullmatch(rest)
    if decoder:
        if layer is None:
            return f"decoder.{rest.removeprefix('bert.')}"
        return f"decoder.layers.{layer[1]}.{BERT_LAYER_NAMES[layer[2]]}.{layer[3]}"
    if layer is None or int(layer[1]) < text_layers:
        return f"text_encoder.{rest}"
    return f"fusion_encoder.layers.{int(layer[1]) - text_layers}.{BERT_LAYER_NAMES[layer[2]]}.{layer[3]}"
