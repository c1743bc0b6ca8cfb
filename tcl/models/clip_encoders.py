"""The networks of video, sound and text, and the spaces in which they are compared."""

from torch import Tensor, nn

from tcl.config.model import ModelConfig, TextEncoderConfig
from tcl.data.audio.sounds import Sounds
from tcl.data.texts.caption_tokens import Captions
from tcl.data.video.clips import Clips
from tcl.encoders.audio import AudioEncoder, encoder_of_sounds
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.text_encoder import TextEncoder, load_masked_lm, lower_layers
from tcl.encoders.text_tower import load_text_tower
from tcl.encoders.video import VideoEncoder, build_video_encoder, clip_features
from tcl.errors import InputError
from tcl.models.spaces import Spaces

Embeddings = dict[str, Tensor]
"""[N, dim] by the name of the space, as heads give them, of any length."""


class ClipEncoders(nn.Module):
    """Encoders of three modalities, with `spaces`. There is no fusion encoder."""

    fusion_encoder = None
    mlm_head = None

    def __init__(self, video: VideoEncoder, audio: AudioEncoder, text: TextEncoder, spaces: Spaces):
        super().__init__()
        self.video_encoder = video
        self.audio_encoder = audio
        self.text_encoder = text
        self.spaces = spaces

    @property
    def image_encoder(self) -> ImageEncoder:
        """That of a clip's frames."""
        return self.video_encoder.image_encoder

    def embed_clips(self, clips: Clips, counts: Tensor | None = None) -> Embeddings:
        """Frames [B, T, 3, H, W], prepared -> [B, dim] by space. counts: bool [B], which are there (default: all)."""
        tokens = self.video_encoder(clips.frames, self.image_encoder.student_drop)
        return self.spaces("video", clip_features(tokens), counts)

    def embed_sounds(self, sounds: Sounds, counts: Tensor | None = None) -> Embeddings:
        """B sounds -> [B, dim] by space; counts as above."""
        return self.spaces("audio", self.audio_encoder(sounds.log_mel, sounds.heard)[:, 0], counts)

    def embed_texts(self, ids: Tensor, mask: Tensor, counts: Tensor | None = None) -> Embeddings:
        """Ids and mask [N, L] -> [N, dim] by space; counts: bool [N], as above."""
        return self.spaces("text", self.text_encoder(ids, mask)[:, 0], counts)

    def embed_captions(self, captions: Captions, counts: Tensor) -> Embeddings:
        """B clips' K captions -> [B, K, dim] by space; counts: bool [B, K], as above."""
        found = self.embed_texts(captions.ids.flatten(0, 1), captions.mask.flatten(0, 1), counts.flatten())
        return {space: rows.unflatten(0, counts.shape) for space, rows in found.items()}


def build_clip_encoders(model: ModelConfig, vocab_size: int, pad_id: int, audio_text: bool) -> ClipEncoders:
    """Random or pre-trained, as `model` says. audio_text: sound is compared with text in training. InputError: they
    cannot be built."""
    video = build_video_encoder(model)
    audio = encoder_of_sounds(model)
    text = _text_encoder(model.text, vocab_size, pad_id)
    widths = {"video": video.width, "audio": audio.width, "text": text.width}
    return ClipEncoders(video, audio, text, Spaces(model.spaces, widths, audio_text))


def _text_encoder(config: TextEncoderConfig, vocab_size: int, pad_id: int) -> TextEncoder:
    """All layers, or, where model.text.fusion_layers is given, all but as many: those of a model that was trained with
    a fusion encoder in their place."""
    upper = config.fusion_layers
    if upper is None:
        return load_text_tower(config, vocab_size, pad_id)[0]
    masked_lm = load_masked_lm(config, vocab_size, pad_id)
    layers = len(masked_lm.base_model.encoder.layer)
    if not 1 <= upper < layers:
        raise InputError(
            f"model.text.fusion_layers: {upper} of {layers} layers; at least one must be left to read text "
            f"(1 to {layers - 1}, or null: all read text)"
        )
    return lower_layers(masked_lm, layers - upper, config)
