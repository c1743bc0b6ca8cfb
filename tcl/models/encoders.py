"""The networks that student and teacher have in common: the student trains them, the teacher averages them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcl.config.model import ModelConfig
from tcl.data.texts.text_tokens import Texts
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.clip_tokens import ClipTokens
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.text_encoder import TextEncoder, load_masked_lm, lower_layers
from tcl.encoders.text_tower import load_text_tower
from tcl.errors import InputError
from tcl.models.compress_tokens import build_compression
from tcl.models.fusion_encoder import FusionEncoder, fusion_encoder_from_bert
from tcl.models.mlm_head import MLMHead, mlm_head_on
from tcl.models.own_fusion import build_own_fusion


class Encoders(nn.Module):
    """Image and text encoders with their projections, and where pairs are fused a fusion encoder and the MLM head."""

    def __init__(
        self,
        image_encoder: ImageEncoder | ClipTokens,
        text_encoder: TextEncoder,
        fusion_encoder: FusionEncoder | None,
        mlm_head: MLMHead | None,
        embed_dim: int,
    ):
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.fusion_encoder = fusion_encoder
        self.mlm_head = mlm_head
        self.vision_proj = nn.Linear(image_encoder.width, embed_dim)
        self.text_proj = nn.Linear(text_encoder.width, embed_dim)

    def project_image(self, tokens: Tensor) -> Tensor:
        """[..., image width] -> unit vectors [..., embed_dim]: f for [CLS], local features for patches."""
        return F.normalize(self.vision_proj(tokens).float(), dim=-1)

    def project_text(self, tokens: Tensor) -> Tensor:
        """[..., text width] -> unit vectors [..., embed_dim]: g for [CLS], local features for the other tokens."""
        return F.normalize(self.text_proj(tokens).float(), dim=-1)

    @property
    def embed_dim(self) -> int:
        """Numbers of an embedding."""
        return self.text_proj.out_features

    def embed_images(self, tokens: Tensor) -> Tensor:
        """What images are found by: all tokens [B, N, image width] -> [B, embed_dim], rows of length 1."""
        return self.project_image(tokens[:, 0])

    def embed_texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The same of texts: all tokens [B, L, text width], mask [B, L] (1 token, 0 padding) -> [B, embed_dim]."""
        return self.project_text(tokens[:, 0])

    def embed_ids(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """The same of texts that no encoder has read yet: ids and mask [B, L] -> [B, embed_dim]."""
        return self.embed_texts(self.text_encoder(input_ids, mask), mask)

    def encode_texts(self, texts: Texts, *, plain: bool = True, masked: bool) -> tuple[Tensor, Tensor]:
        """Tokens [B, L, width] of the texts as they are and as they are masked; [0, L, width] of what is not asked for.

        One of the two at least is asked for.
        """
        if plain and masked and self.text_encoder.remembered is None:
            ids = torch.cat([texts.ids, texts.masked.ids])
            return self.text_encoder(ids, texts.mask.repeat(2, 1)).chunk(2)
        as_they_are = self.text_encoder(texts.ids, texts.mask) if plain else None
        with_masks = self.text_encoder(texts.masked.ids, texts.mask, comes_again=False) if masked else None
        if plain and masked:
            return as_they_are, with_masks
        return (as_they_are, as_they_are[:0]) if plain else (with_masks[:0], with_masks)

    def predict_tokens(self, fused: Tensor, positions: Tensor) -> Tensor:
        """Vocabulary logits at the masked positions only.

        fused [B, L, width], positions [M] (flat index b * L + l) -> [M, vocabulary].
        """
        states = fused.flatten(0, 1).index_select(0, positions)
        return self.mlm_head(states, self.text_encoder.embedding_matrix)


def build_encoders(
    config: ModelConfig, vocab_size: int, pad_id: int, image_encoder: ImageEncoder | ClipTokens | None = None
) -> Encoders:
    """Networks of `config`, random or pre-trained. `vocab_size` and `pad_id` come from the tokenizer.

    image_encoder: of clips; None: that of config.image. InputError: a name that cannot be built, fusion_layers outside
    1 .. layers - 1, or fusion.image_tokens of more than an image has.
    """
    image_encoder = build_image_encoder(config.image) if image_encoder is None else image_encoder
    encoders = _build_encoders(config, vocab_size, pad_id, image_encoder)
    # Last, so that the same seed gives all others the same weights with it and without.
    encoders.fusion_encoder.compression = build_compression(config.fusion.image_tokens, encoders.image_encoder)
    return encoders


def _build_encoders(
    config: ModelConfig, vocab_size: int, pad_id: int, image_encoder: ImageEncoder | ClipTokens
) -> Encoders:
    if config.fusion.layers is not None:
        text_encoder, model = load_text_tower(config.text, vocab_size, pad_id)
        fusion = build_own_fusion(config.fusion, text_encoder.width, image_encoder.width)
        return Encoders(image_encoder, text_encoder, fusion, mlm_head_on(fusion.config, model), config.embed_dim)
    masked_lm = load_masked_lm(config.text, vocab_size, pad_id)
    bert_layers = masked_lm.base_model.encoder.layer
    fusion_layers = len(bert_layers) // 2 if config.text.fusion_layers is None else config.text.fusion_layers
    if not 1 <= fusion_layers < len(bert_layers):
        raise InputError(
            f"model.text.fusion_layers: {fusion_layers} of {len(bert_layers)} layers; at least one layer must be left "
            f"to the text encoder and one to the fusion encoder (1 to {len(bert_layers) - 1})"
        )
    lower = len(bert_layers) - fusion_layers
    return Encoders(
        image_encoder,
        text_encoder=lower_layers(masked_lm, lower, config.text),
        fusion_encoder=fusion_encoder_from_bert(bert_layers[lower:], image_encoder.width, masked_lm.config),
        mlm_head=mlm_head_on(masked_lm.config, masked_lm),
        embed_dim=config.embed_dim,
    )


def build_towers(config: ModelConfig, vocab_size: int, pad_id: int) -> Encoders:
    """As `build_encoders`, without a fusion encoder: all layers of the text model are the text encoder's."""
    image_encoder = build_image_encoder(config.image)
    text_encoder, _ = load_text_tower(config.text, vocab_size, pad_id)
    return Encoders(image_encoder, text_encoder, fusion_encoder=None, mlm_head=None, embed_dim=config.embed_dim)
