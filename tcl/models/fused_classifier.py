"""Networks that tell what a text is to one image or to two, by a head on the fused [CLS] (ALBEF, section 5)."""

from torch import Tensor, nn

from tcl.data.tokens.stored_tokens import StoredTokens
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.text_encoder import TextEncoder
from tcl.models.encoders import Encoders
from tcl.models.fusion_encoder import FusionEncoder
from tcl.models.paired_fusion import PairedFusion


class FusedClassifier(nn.Module):
    """What the student trains and the teacher averages, the head included: neither pooler nor dropout before it.

    images: the names of the inputs at which a text's fusion encoder looks, one for a FusionEncoder, two for a
    PairedFusion. classes: how many.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        fusion_encoder: FusionEncoder | PairedFusion,
        images: tuple[str, ...],
        classes: int,
    ):
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.fusion_encoder = fusion_encoder
        self.images = images
        width = fusion_encoder.width
        self.cls_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))

    def logits(
        self,
        views: Tensor | StoredTokens,
        ids: Tensor,
        mask: Tensor,
        places: Tensor | None = None,
        patch_drop: float = 0.0,
    ) -> Tensor:
        """Texts [B, L] with their mask (1 token, 0 padding) -> [B, classes].

        views [I, 3, H, W], normalised, or what was stored of I images. places [B, images of a text] in 0 .. I - 1:
        which of them a text is about; None: the first B are the first images of the texts, in order, the next B their
        second ones. patch_drop: as of `ImageEncoder`.
        """
        keys_values = self.fusion_encoder.image_keys_values(self.image_encoder(views, patch_drop))
        n = len(self.images)
        seen = [
            [image.part(i, n) if places is None else image.rows(places[:, i]) for image in keys_values]
            for i in range(n)
        ]
        return self.cls_head(self.fusion_encoder(self.text_encoder(ids, mask), mask, *seen)[:, 0])


def one_image_classifier(encoders: Encoders, image: str, classes: int) -> FusedClassifier:
    """Of `encoders`, less what a classifier has no use for."""
    fusion = encoders.fusion_encoder
    return FusedClassifier(encoders.image_encoder, encoders.text_encoder, fusion, (image,), classes)


def two_image_classifier(encoders: Encoders, images: tuple[str, str], classes: int) -> FusedClassifier:
    """The same with every fusion layer doubled."""
    fusion = PairedFusion(encoders.fusion_encoder)
    return FusedClassifier(encoders.image_encoder, encoders.text_encoder, fusion, images, classes)
