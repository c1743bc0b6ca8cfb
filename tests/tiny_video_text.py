"""A TCL of clips of a few thousand parameters, and random batches for it."""

from dataclasses import replace

import torch
from tiny import MODEL, VOCABULARY, random_batch
from tiny_clips import SPECTROGRAM, TINY_VIT, F

from tcl.config.audio import AudioConfig
from tcl.config.model import ModelConfig
from tcl.config.spaces import SpacesConfig
from tcl.config.video import VideoConfig
from tcl.config.video_text_objective import VideoTextObjectiveConfig
from tcl.data.audio.sounds import Sounds
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.objectives.tcl_teacher import TCLTeacher
from tcl.objectives.video_text import VideoTextStudent, build_student

T = 3


class Tokenizer:
    """All that building a student asks of one."""

    pad_token_id = 0

    def __len__(self) -> int:
        return VOCABULARY


def video_text_model(frames: int = T, temporal: str = "shift", graph: str = "fac") -> ModelConfig:
    return replace(
        MODEL,
        video=VideoConfig(frames=frames, fps=4.0, temporal=temporal),
        audio=AudioConfig(overrides=TINY_VIT, spectrogram=SPECTROGRAM, seconds=0.5),
        spaces=SpacesConfig(graph, fine_dim=12, coarse_dim=8),
    )


def video_text_models(
    objective: VideoTextObjectiveConfig, model: ModelConfig, seed: int = 0
) -> tuple[VideoTextStudent, TCLTeacher]:
    torch.manual_seed(seed)
    student = build_student(model, objective, Tokenizer())
    return student, TCLTeacher(student.encoders, objective, model.lmi_regions, seed)


def video_text_batch(size: int, seed: int = 0, frames: int = T, length: int = 7) -> Batch:
    """Every fourth lacks sound."""
    batch, generator = random_batch(size, seed, length), torch.Generator().manual_seed(seed)
    views = [torch.randn(size, frames, 3, 32, 32, generator=generator) for _ in range(2)]
    heard = torch.arange(F) < torch.randint(1, F + 1, (size, 1), generator=generator)
    sounds = Sounds(torch.randn(size, F, SPECTROGRAM.mel_bins, generator=generator) - 4, heard)
    batch.inputs |= {"image": Images(*views), "audio": sounds}
    batch.present = {"audio": torch.arange(size) % 4 != 1}
    return batch
