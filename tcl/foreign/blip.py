"""BLIP's image-text matching (Li et al. 2022, section 3.1) in our fusion encoder, whose layers are the same: all layers
of its text encoder look at the image. Keys and values of an image are thus computed once for all its texts, the first
self-attention once for each text, and the last layer for [CLS] alone."""

from dataclasses import dataclass

from torch import Tensor, nn
from transformers import BlipConfig, BlipForImageTextRetrieval

from tcl.errors import InputError
from tcl.foreign.pictures import Transform, load_transform
from tcl.foreign.source import NEITHER, load_network, read_architecture
from tcl.foreign.words import Reader, load_reader
from tcl.models.fusion_encoder import FusionEncoder, fusion_encoder_from_bert

MODEL_TYPE = "blip"


class BlipMatching(nn.Module):
    """The networks of a BlipForImageTextRetrieval, less its embeddings of images and texts."""

    def __init__(self, theirs: BlipForImageTextRetrieval):
        super().__init__()
        texts = theirs.config.text_config
        self.vision_model = theirs.vision_model
        self.word_embeddings = theirs.text_encoder.embeddings
        self.fusion_encoder: FusionEncoder = fusion_encoder_from_bert(
            theirs.text_encoder.encoder.layer, theirs.config.vision_config.hidden_size, texts
        )
        self.itm_head = theirs.itm_head
        self.requires_grad_(False).eval()

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """[B, 3, height, width] -> [B, 1 + patches, width]."""
        return self.vision_model(pixel_values=pixels).last_hidden_state

    def text_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask [B, L] -> [B, L, width]; they have not looked at each other yet."""
        return self.word_embeddings(input_ids=input_ids)


@dataclass(frozen=True)
class Blip:
    """Networks with what belongs to them."""

    networks: BlipMatching
    transform: Transform
    reader: Reader


def load_blip(source: str, revision: str | None) -> Blip:
    """InputError: a BLIP for something else, and what `load_network`, `load_transform` and `load_reader` refuse."""
    architecture = read_architecture(source, revision)
    _check(architecture, source)
    network = load_network(BlipForImageTextRetrieval, architecture, source, revision)
    transform = load_transform(source, revision, architecture.vision_config.image_size)
    return Blip(BlipMatching(network), transform, load_reader(source, revision, architecture.text_config))


def _check(architecture: BlipConfig, source: str) -> None:
    named = getattr(architecture, "architectures", None) or [BlipForImageTextRetrieval.__name__]
    if named != [BlipForImageTextRetrieval.__name__]:
        raise InputError(f"source: {source!r} is a {named[0]}, which does not match texts with images; {NEITHER}")
    if not architecture.text_config.is_decoder:  # so transformers calls layers that look at an image
        raise InputError(f"source: the text encoder of {source!r} does not look at images; {NEITHER}")
