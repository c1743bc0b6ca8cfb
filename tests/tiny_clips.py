"""Networks of clips of a few thousand parameters, and random batches for them."""

from dataclasses import replace

import torch
from tiny import MODEL, VOCABULARY

from tcl.config.audio import AudioConfig, SpectrogramConfig
from tcl.config.clips_objective import ClipsObjectiveConfig
from tcl.config.model import ModelConfig
from tcl.config.spaces import SpacesConfig
from tcl.config.video import VideoConfig
from tcl.data.audio.sounds import Sounds
from tcl.data.batch import Batch
from tcl.data.texts.caption_tokens import Captions
from tcl.data.video.clips import Clips
from tcl.models.clip_encoders import build_clip_encoders
from tcl.objectives.clips import ClipsStudent

T, K, L, F, BINS = 2, 3, 6, 20, 32
SPECTROGRAM = SpectrogramConfig(sample_rate=8000, window=256, hop=200, mel_bins=BINS, high_hz=4000.0)
"""F frames are half a second."""
TINY_VIT = {"embed_dim": 16, "depth": 1, "num_heads": 2}


def clips_model(graph: str = "fac", temporal: str = "shift") -> ModelConfig:
    return replace(
        MODEL,
        video=VideoConfig(frames=T, fps=4.0, temporal=temporal),
        audio=AudioConfig(overrides=TINY_VIT, spectrogram=SPECTROGRAM),
        spaces=SpacesConfig(graph, fine_dim=12, coarse_dim=8),
    )


def clips_student(objective: ClipsObjectiveConfig, model: ModelConfig, seed: int = 0) -> ClipsStudent:
    torch.manual_seed(seed)
    encoders = build_clip_encoders(model, VOCABULARY, 0, audio_text=objective.at_weight > 0)
    return ClipsStudent(encoders, objective)


def clips_batch(size: int, seed: int = 0) -> Batch:
    """Some lack sound, some text, and there are up to K captions."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    lengths = torch.randint(2, L + 1, (size, K, 1), generator=generator)
    mask = (torch.arange(L) < lengths).long()
    ids = torch.randint(5, VOCABULARY, (size, K, L), generator=generator) * mask
    ids[..., 0] = 2
    exist = torch.arange(K) < torch.randint(1, K + 1, (size, 1), generator=generator)
    heard = torch.arange(F) < torch.randint(1, F + 1, (size, 1), generator=generator)
    present = {name: torch.arange(size) % 4 != place for name, place in (("audio", 1), ("text", 2))}
    return Batch(
        [f"{seed}/{i}" for i in range(size)],
        {
            "video": Clips(random(size, T, 3, 32, 32)),
            "audio": Sounds(random(size, F, BINS) - 4, heard),
            "text": Captions(ids, mask, exist),
        },
        present=present,
    )
