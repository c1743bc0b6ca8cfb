"""Sound beside clips that are tokens already: its encoder, and the space in which both are compared."""

from torch import Tensor, nn

from tcl.config.model import ModelConfig
from tcl.data.audio.sounds import Sounds
from tcl.encoders.audio import AudioEncoder, encoder_of_sounds
from tcl.models.spaces import Spaces

SPACE = "va"
"""As `tcl.models.spaces` calls it."""


class SoundSpace(nn.Module):
    """MMV's heads of video and sound, and the encoder of sound. dim is model.spaces.fine_dim, or coarse_dim where the
    graph is `shared`."""

    def __init__(self, audio_encoder: AudioEncoder, spaces: Spaces):
        super().__init__()
        self.audio_encoder = audio_encoder
        self.spaces = spaces

    def embed_clips(self, tokens: Tensor) -> Tensor:
        """Tokens of clips [B, N, width], the global one first -> [B, dim], of any length."""
        return self.spaces("video", tokens[:, 0])[SPACE]

    def embed_sounds(self, sounds: Sounds, counts: Tensor | None = None) -> Tensor:
        """B sounds -> [B, dim], of any length. counts: bool [B], which are there (default: all)."""
        return self.spaces("audio", self.audio_encoder(sounds.log_mel, sounds.heard)[:, 0], counts)[SPACE]


def build_sound_space(model: ModelConfig, video_width: int) -> SoundSpace:
    """Random, or with a pre-trained encoder, as model.audio and model.spaces say. InputError: it cannot be built."""
    audio = encoder_of_sounds(model)
    return SoundSpace(audio, Spaces(model.spaces, {"video": video_width, "audio": audio.width}, only=SPACE))
