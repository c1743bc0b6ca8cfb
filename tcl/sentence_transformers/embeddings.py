"""The first stage for `SentenceTransformer`: embeddings of texts and of images, in the space that they share."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput

from tcl.checkpoints.transformers_config import TCLConfig
from tcl.exports.pretrained import Pretrained
from tcl.inference.own_towers import OwnTowers
from tcl.sentence_transformers.export_model import ExportModel


@dataclass
class TextAndImageEmbeddings(ModelOutput):
    """fp32, rows of length 1; None of what was not given."""

    text_embeds: Tensor | None = None
    """[T, embed_dim]."""
    image_embeds: Tensor | None = None
    """[I, embed_dim]."""


class TCLEmbeddings(ExportModel):
    """What `TCL` and `TwoTowers` give as `encode_text` and `encode_image`."""

    opened_as = OwnTowers
    can = "embed texts and images"

    def __init__(self, config: TCLConfig, pretrained: Pretrained):
        """InputError: a model without embeddings that texts and images share."""
        super().__init__(config, pretrained)
        config.projection_dim = self.student.encoders.embed_dim

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask [T, L] -> fp32 [T, embed_dim], rows of length 1."""
        return self.student.encoders.embed_ids(input_ids, attention_mask)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Pixels [I, 3, height, width], normalised -> fp32 [I, embed_dim], rows of length 1."""
        return self.student.encoders.embed_images(self.student.encoders.image_encoder(pixel_values))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
    ) -> TextAndImageEmbeddings:
        """Texts, images or both, as above."""
        return TextAndImageEmbeddings(
            text_embeds=None if input_ids is None else self.get_text_features(input_ids, attention_mask),
            image_embeds=None if pixel_values is None else self.get_image_features(pixel_values),
        )
