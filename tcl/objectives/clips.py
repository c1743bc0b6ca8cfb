"""Contrast of video, sound and text within the batch, each pair in its space: MMV (arXiv 2006.16228).

    total = va_weight NCE(video, sound) + vt_weight MIL-NCE(video, captions) [+ at_weight MIL-NCE(sound, captions)]

A sample that lacks a modality has no part in that modality's losses; its clip is a negative for others still.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tcl.config.checks import require
from tcl.config.clips_objective import ClipsObjectiveConfig, check_clips_objective
from tcl.config.model import ModelConfig
from tcl.data.batch import Batch
from tcl.losses.mil_nce import ELEMENTS
from tcl.models.activation_memory import SAVED_BY_LEAN_BLOCK, image_layers, kept_bytes, mixing_layers, text_layers
from tcl.models.clip_encoders import ClipEncoders, Embeddings, build_clip_encoders
from tcl.models.no_teacher import NoTargets
from tcl.objectives.clip_contrast import contrast
from tcl.objectives.kind import CardText, Kind
from tcl.objectives.objective import Losses, weighted
from tcl.objectives.pair_objective import PairObjective, PairSizes

PAIRS = {"va": ("video", "audio"), "vt": ("video", "text"), "at": ("audio", "text")}
"""By the name of the loss."""


class ClipsStudent(nn.Module):
    """The student: one forward call per step gives all losses. What no loss depends on is not trained, nor run."""

    loss_parameters = {}  # noqa: RUF012

    def __init__(self, encoders: ClipEncoders, objective: ClipsObjectiveConfig):
        super().__init__()
        self.encoders = encoders
        self.objective = objective
        self.weights = {name: getattr(objective, f"{name}_weight") for name in PAIRS}
        self.pairs = {name: pair for name, pair in PAIRS.items() if self.weights[name] > 0}
        self.modalities = {modality for pair in self.pairs.values() for modality in pair}
        self._freeze_what_is_not_used()

    @property
    def averaged(self) -> ClipEncoders:
        """All that is trained."""
        return self.encoders

    def forward(self, batch: Batch, targets: NoTargets) -> Losses:
        """The losses of the batches of all processes. Samples all have a clip; `batch.present` says which lack sound or
        text."""
        embedded, exist = self._embed(batch)
        device = embedded["video"]["va"].device
        with torch.autocast(device.type, enabled=False):
            each = {name: self._contrast(*pair, embedded, exist) for name, pair in self.pairs.items()}
        shares = {f"with_{name}": there.any(dim=1).float().mean() for name, there in exist.items() if name != "video"}
        return weighted(each, self.weights, shares)

    def _embed(self, batch: Batch) -> tuple[dict[str, Embeddings], dict[str, Tensor]]:
        """By modality: embeddings [B, dim] or, of captions, [B, K, dim], by space; which exist, bool [B, 1 or K]."""
        inputs, encoders = batch.inputs, self.encoders
        everyone = torch.ones(len(batch), dtype=torch.bool, device=inputs["video"].frames.device)
        there = {name: batch.present.get(name, everyone) for name in self.modalities}
        embedded = {"video": encoders.embed_clips(inputs["video"])}
        exist = {"video": everyone[:, None]}
        if "audio" in self.modalities:
            embedded["audio"] = encoders.embed_sounds(inputs["audio"], there["audio"])
            exist["audio"] = there["audio"][:, None]
        if "text" in self.modalities:
            exist["text"] = inputs["text"].exist & there["text"][:, None]
            embedded["text"] = encoders.embed_captions(inputs["text"], exist["text"])
        return embedded, exist

    def _contrast(self, one: str, other: str, embedded: dict[str, Embeddings], exist: dict[str, Tensor]) -> Tensor:
        """MIL-NCE of `one` with `other`; NCE, where there is one of it."""
        space = self.encoders.spaces.space_of(one, other)
        partners = embedded[other][space]
        return contrast(
            embedded[one][space],
            partners[:, None] if partners.ndim == 2 else partners,
            exist[other] & exist[one],
            self.objective.temperature,
            self.objective.positives,
            there=None if one == "video" else exist[one][:, 0],
        )

    def _freeze_what_is_not_used(self) -> None:
        """DDP waits for the gradient of every trainable parameter."""
        encoders, used = self.encoders, self.encoders.spaces.used_heads(list(self.pairs.values()))
        unused = [head for name, head in encoders.spaces.heads.items() if name not in used]
        unused += [] if "audio" in self.modalities else [encoders.audio_encoder]
        unused += [] if "text" in self.modalities else [encoders.text_encoder]
        for module in unused:
            module.requires_grad_(False)


def build_student(
    model: ModelConfig, objective: ClipsObjectiveConfig, tokenizer: PreTrainedTokenizerBase
) -> ClipsStudent:
    """Random or pre-trained networks, as `model` says, and random heads. InputError: they cannot be built."""
    audio_text = objective.at_weight > 0
    return ClipsStudent(build_clip_encoders(model, len(tokenizer), tokenizer.pad_token_id, audio_text), objective)


def weights_from(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of image-text pairs: the image encoder is that of frames, the text encoder stays, other parts are left out;
    or those of clips as they are."""
    if any(name.startswith("encoders.video_encoder.") for name in weights):
        return weights
    image, text, video = "encoders.image_encoder.", "encoders.text_encoder.", "encoders.video_encoder.image_encoder."
    of_frames = {video + name.removeprefix(image): one for name, one in weights.items() if name.startswith(image)}
    return of_frames | {name: one for name, one in weights.items() if name.startswith(text)}


def activation_bytes(student: ClipsStudent, objective: ClipsObjectiveConfig, sizes: PairSizes) -> float:
    """What a forward pass keeps, per device, over a batch of clips with the longest captions; sizes.max_tokens are of
    all captions of a clip."""
    B, encoders = sizes.batch_size, student.encoders
    layers = image_layers(encoders.image_encoder, B * encoders.video_encoder.frames)
    if not sizes.checkpointing:  # else it is computed again with the blocks
        layers += mixing_layers(encoders.video_encoder, B)
    if "audio" in student.modalities:
        audio = encoders.audio_encoder
        layers.append((len(audio.layers), B * audio.tokens * audio.width, SAVED_BY_LEAN_BLOCK))
    if "text" in student.modalities:
        layers += text_layers(encoders.text_encoder, B * sizes.max_tokens)
    return kept_bytes(layers, 0, ELEMENTS, checkpointing=sizes.checkpointing, bf16=sizes.bf16)


@dataclass
class Parts:
    """What describes a student beside its `model`."""

    audio_text: bool = False
    """Was sound compared with text in training?"""
    untrained: str | None = None
    """"audio" or "text", where no loss had a part of it, and its encoder is as it began."""

    def check(self, place: str) -> None:
        """InputError: no such modality."""
        given = self.untrained
        require(given in (None, "audio", "text"), f"{place}: untrained", given, "null, 'audio' or 'text'")


def _parts_of(student: ClipsStudent) -> Parts:
    (untrained,) = {"video", "audio", "text"} - student.modalities or {None}
    return Parts(student.encoders.spaces.audio_text, untrained)


def rebuild(model: ModelConfig, parts: Parts, tokenizer: PreTrainedTokenizerBase) -> ClipsStudent:
    """InputError: networks that cannot be built."""
    weights = {
        "va_weight": float(parts.untrained != "audio"),
        "vt_weight": float(parts.untrained != "text"),
        "at_weight": float(parts.audio_text),
    }
    return build_student(model, ClipsObjectiveConfig(**weights), tokenizer)


KIND = Kind(
    name="clips",
    build=rebuild,
    Parts=Parts,
    parts_of=_parts_of,
    opened_by="tcl.inference.clips_model:TCLForClips",
    card=CardText(
        what="Encoders of video, sound and text with spaces in which they find each other.",
        use="from tcl import TCLForClips\n\n"
        "model = TCLForClips.from_pretrained(folder_or_hub_id)\n"
        'corpus = model.embed_video(["dog.mp4", "street.mp4"])\n'
        'found = model.retrieve("a dog on a beach", corpus, k=1)\n'
        'features = model.encode_video("dog.mp4", to="audio")  # [1, dim], for the product with encode_audio(...)',
    ),
)

OBJECTIVE = PairObjective(
    kind=KIND,
    Config=ClipsObjectiveConfig,
    check=check_clips_objective,
    build_student=build_student,
    activation_bytes=activation_bytes,
    weights_from=weights_from,
    starts_random=("encoders.audio_encoder.", "encoders.spaces.", "encoders.video_encoder.mixers."),
)
