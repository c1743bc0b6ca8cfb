"""Sound: what its encoder looks at, and the encoder."""

from dataclasses import dataclass, field
from typing import Any

from tcl.config.checks import require
from tcl.config.free import FREE
from tcl.config.video import VideoConfig


@dataclass
class SpectrogramConfig:
    """A log-mel spectrogram, by default MMV's (arXiv 2006.16228; DMVR's `compute_audio_spectrogram`)."""

    sample_rate: int = 48_000
    """Samples a second to which all sound is resampled, 1,000 to 192,000."""
    window: int = 2048
    """Samples of a Hann window, 2 to 65,536; 42.67 ms."""
    hop: int = 1024
    """Samples from one window to the next, 1 to window; 21.33 ms."""
    mel_bins: int = 80
    """Triangular filters, equally wide on the HTK mel scale, 1 to 1024."""
    low_hz: float = 80.0
    """Where the first filter begins, >= 0."""
    high_hz: float = 7600.0
    """Where the last one ends, above low_hz, at most half the sample rate."""

    def frames(self, samples: int) -> int:
        """Of `samples` samples: one for each hop that began, the last ones padded with silence."""
        return -(-samples // self.hop)


@dataclass
class AudioConfig:
    """The encoder of sound: a ViT on its log-mel spectrogram. The objectives `clips` and
    `video_text`, with its va_weight, have one."""

    name: str = "vit_tiny_patch16_224"
    """Of timm, a plain ViT with [CLS]; the patch size has to divide spectrogram.mel_bins."""
    pretrained: bool | str = field(default=False, metadata=FREE)
    """True: timm's weights of that name, of images, from the hub, averaged over colours and interpolated to the
    spectrogram; a path: from that file; False: random."""
    seconds: float | None = None
    """Of sound to each clip, above 0 to 600, around the clip's centre. None: as long as the clip, frames / fps of
    model.video, as published."""
    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    overrides: dict[str, Any] = field(default_factory=dict)
    """Arguments passed on to timm.create_model, e.g. {embed_dim: 192, depth: 6, num_heads: 3}."""


def seconds_of_sound(audio: AudioConfig, video: VideoConfig) -> float:
    """Of a clip."""
    return video.frames / video.fps if audio.seconds is None else audio.seconds


def check_audio(audio: AudioConfig) -> None:
    """InputError: the first impossible value."""
    seconds = audio.seconds
    accepted = "more than 0, at most 600 seconds"
    require(seconds is None or 0 < seconds <= 600, "model.audio.seconds", seconds, accepted)
    check_spectrogram(audio.spectrogram, "model.audio.spectrogram")


def check_spectrogram(given: SpectrogramConfig, section: str) -> None:
    """InputError, naming fields of the config section `section`: the first impossible value."""
    rate, window = given.sample_rate, given.window
    require(1000 <= rate <= 192_000, f"{section}.sample_rate", rate, "samples a second, 1,000 to 192,000")
    require(2 <= window <= 2**16, f"{section}.window", window, "samples, 2 to 65,536")
    require(1 <= given.hop <= window, f"{section}.hop", given.hop, f"samples, 1 to {section}.window, {window}")
    require(1 <= given.mel_bins <= 1024, f"{section}.mel_bins", given.mel_bins, "1 to 1024 filters")
    require(0 <= given.low_hz < given.high_hz, f"{section}.low_hz", given.low_hz, "at least 0, below high_hz")
    accepted = f"at most half of {section}.sample_rate, {rate / 2:g}"
    require(given.high_hz <= rate / 2, f"{section}.high_hz", given.high_hz, accepted)
