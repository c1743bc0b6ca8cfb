"""TCL of video and text: CMA, IMC, LMI, ITM and MLM, of a clip's tokens in place of an image's, and on request MMV's
contrast of video and sound (arXiv 2006.16228) beside them.

    total = TCL(clip, caption) + va_weight NCE(clip, sound)

What stands for a clip (f of TCL's section 3.1) is the mean of its frames' [CLS]; its parts, for LMI, are regions of
the frames, each over all frames: of a clip that stands still both are its image's. The fusion encoder looks at [CLS]
and the patches of all frames. The teacher's view shows the same seconds, cut and coloured otherwise.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.config.model import ModelConfig
from tcl.config.video_text_objective import VideoTextObjectiveConfig, check_video_text_objective
from tcl.data.batch import Batch
from tcl.encoders.clip_tokens import build_clip_tokens
from tcl.losses.mil_nce import ELEMENTS
from tcl.models.activation_memory import SAVED_BY_LEAN_BLOCK, kept_bytes, mixing_layers
from tcl.models.encoders import Encoders, build_encoders
from tcl.models.sound_space import SoundSpace, build_sound_space
from tcl.objectives.clip_contrast import contrast
from tcl.objectives.hard_negatives import Negatives
from tcl.objectives.kind import CardText, Kind
from tcl.objectives.objective import Losses
from tcl.objectives.pair_objective import PairObjective, PairSizes
from tcl.objectives.tcl import OBJECTIVE as TCL
from tcl.objectives.tcl import TCLStudent, check_distilled
from tcl.objectives.tcl_memory import pair_activation_bytes
from tcl.objectives.tcl_teacher import TCLTargets


class VideoTextStudent(TCLStudent):
    """A TCLStudent whose image encoder is a `ClipTokens`. sound: None where no loss has a part of it; no teacher
    follows it."""

    def __init__(self, encoders: Encoders, objective: VideoTextObjectiveConfig, sound: SoundSpace | None):
        super().__init__(encoders, objective)
        self.sound = sound

    def forward(self, batch: Batch, targets: TCLTargets, negatives: Negatives | None = None) -> Losses:
        """As of a TCLStudent. Samples all have a clip and a caption; `batch.present` says which lack sound."""
        encoder = self.encoders.image_encoder
        tokens = encoder(batch.inputs["image"].view, encoder.student_drop)
        losses = self.losses(tokens, batch, targets, negatives)
        if self.sound is None:
            return losses
        va, there = self._contrast_with_sound(tokens, batch)
        shares = {"with_audio": there.float().mean()}
        return Losses(losses.each | {"va": va}, losses.metrics | shares, losses.total + self.objective.va_weight * va)

    def _contrast_with_sound(self, tokens: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """NCE of clips with their sounds, and which have one, bool [B]."""
        objective, everyone = self.objective, torch.ones(len(batch), dtype=torch.bool, device=tokens.device)
        there = batch.present.get("audio", everyone)
        clips, sounds = self.sound.embed_clips(tokens), self.sound.embed_sounds(batch.inputs["audio"], there)
        with torch.autocast(tokens.device.type, enabled=False):
            va = contrast(clips, sounds[:, None], there[:, None], objective.va_temperature, objective.va_positives)
        return va, there


def build_student(
    model: ModelConfig, objective: VideoTextObjectiveConfig, tokenizer: PreTrainedTokenizerBase
) -> VideoTextStudent:
    """Random or pre-trained networks, as `model` says. InputError: they cannot be built, or as of TCL."""
    check_distilled(model, objective)
    encoders = build_encoders(model, len(tokenizer), tokenizer.pad_token_id, build_clip_tokens(model))
    sound = build_sound_space(model, encoders.image_encoder.width) if objective.va_weight > 0 else None
    return VideoTextStudent(encoders, objective, sound)


def weights_from(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of image-text pairs, whose image encoder becomes that of frames; of --objective clips, whose encoders of
    video, sound and text are taken; or of this one as they are."""
    image, own, video = "encoders.image_encoder.", "encoders.image_encoder.video.", "encoders.video_encoder."
    if any(name.startswith(own) for name in weights):
        return weights
    if any(name.startswith(video) for name in weights):
        places = {video: own, "encoders.audio_encoder.": "sound.audio_encoder.", "encoders.text_encoder.": None}
        taken = {name: one for name, one in weights.items() if name.startswith(tuple(places))}
    else:
        places, taken = {image: f"{own}image_encoder."}, weights
    return {_moved(name, places): one for name, one in taken.items()}


def _moved(name: str, places: dict[str, str | None]) -> str:
    """With another beginning, where `places` has one for it."""
    old = next((old for old, new in places.items() if new and name.startswith(old)), "")
    return places[old] + name.removeprefix(old) if old else name


def activation_bytes(student: VideoTextStudent, objective: VideoTextObjectiveConfig, sizes: PairSizes) -> float:
    """What a forward pass keeps, per device, over a batch of clips with the longest captions."""
    B, logits = sizes.batch_size, 0
    layers = [] if sizes.checkpointing else mixing_layers(student.encoders.image_encoder.video, B)
    if student.sound is not None:
        audio, logits = student.sound.audio_encoder, ELEMENTS
        layers += [(len(audio.layers), B * audio.tokens * audio.width, SAVED_BY_LEAN_BLOCK)]
    beside = kept_bytes(layers, 0, logits, checkpointing=sizes.checkpointing, bf16=sizes.bf16)
    return pair_activation_bytes(student.encoders, objective, sizes) + beside


@dataclass
class Parts:
    """What describes a student beside its `model`."""

    hears: bool = False
    """Was sound compared with video in training?"""

    def check(self, place: str) -> None:
        """All values are possible."""


KIND = Kind(
    name="video_text",
    build=lambda model, parts, tokenizer: build_student(
        model, VideoTextObjectiveConfig(va_weight=float(parts.hears)), tokenizer
    ),
    Parts=Parts,
    parts_of=lambda student: Parts(student.sound is not None),
    opened_by="tcl.inference.video_text_model:TCLForVideo",
    card=CardText(
        what="Video and text encoders with a shared embedding space, and a fusion encoder that re-ranks pairs.",
        use="from tcl import TCLForVideo\n\n"
        "model = TCLForVideo.from_pretrained(folder_or_hub_id)\n"
        'corpus = model.embed_video(["dog.mp4", "street.mp4"])\n'
        'found = model.retrieve("a dog on a beach", corpus, k=1)',
    ),
    may_lack=TCL.kind.may_lack,
)

OBJECTIVE = PairObjective(
    kind=KIND,
    Config=VideoTextObjectiveConfig,
    check=check_video_text_objective,
    build_student=build_student,
    build_teacher=TCL.build_teacher,
    activation_bytes=activation_bytes,
    matches=True,
    two_views=True,
    masked_share=TCL.masked_share,
    distillation=TCL.distillation,
    weights_from=weights_from,
    starts_random=(
        "encoders.image_encoder.video.mixers.",
        "sound.",
        # What a model of --objective clips has not:
        *(
            "encoders.fusion_encoder.",
            "encoders.mlm_head.",
            "encoders.vision_proj.",
            "encoders.text_proj.",
            "itm_head.",
        ),
    ),
    not_needed=("sound.",),
    notices=TCL.notices,
)
