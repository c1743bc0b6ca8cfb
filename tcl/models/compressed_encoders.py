"""The networks of a model that keeps images and texts as codes: those of TCL, with heads of their own."""

from torch import Tensor

from tcl.models.compressed_heads import CompressedHeads
from tcl.models.encoders import Encoders


class CompressedEncoders(Encoders):
    """Embeddings are those of `heads`, all levels side by side, of length 1; their inner product is the mean over the
    levels of the cosines of each. The projections of `encoders` are carried along: nothing here reads or trains them.
    """

    def __init__(self, encoders: Encoders, heads: CompressedHeads):
        super().__init__(
            encoders.image_encoder,
            encoders.text_encoder,
            encoders.fusion_encoder,
            encoders.mlm_head,
            encoders.embed_dim,
        )
        self.vision_proj, self.text_proj = encoders.vision_proj, encoders.text_proj
        self.heads = heads

    @property
    def embed_dim(self) -> int:
        """Numbers of an embedding, (1 + L) dim."""
        return (1 + self.heads.sizes.levels) * self.heads.sizes.dim

    def embed_images(self, tokens: Tensor) -> Tensor:
        """[B, N, image width] -> [B, embed_dim]."""
        return side_by_side(self.heads.image_levels(tokens))

    def embed_texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """[B, L, text width], mask [B, L] -> [B, embed_dim]; shorter than 1 without words."""
        return side_by_side(self.heads.text_levels(tokens, mask))

    def codes_of(self, embeddings: Tensor) -> Tensor:
        """[n, embed_dim] -> uint8 [n, 1 + L, parts]."""
        words = self.heads.quantiser.codebooks
        return self.heads.quantiser.codes(embeddings.unflatten(-1, (*words.shape[:2], words.shape[3])))


def side_by_side(levels: Tensor) -> Tensor:
    """[B, V, M, d], parts of length 1 -> [B, V M d], of length 1."""
    return levels.flatten(1) / (levels.shape[1] * levels.shape[2]) ** 0.5
