"""Models and batches of the sizes that the training benchmarks use."""

from dataclasses import dataclass

import torch

from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.masking import MaskedText
from tcl.data.texts.text_tokens import Texts
from tcl.models.encoders import build_encoders
from tcl.objectives.hard_negatives import Negatives
from tcl.objectives.tcl import TCLStudent
from tcl.objectives.tcl_teacher import TCLTeacher

VOCABULARY, TOKENS, MASKED, ALPHA = 30522, 25, 4, 0.4
WIDTHS = {"half-Ti": 96, "Ti": 192, "S": 384, "B": 768}


@dataclass
class Size:
    """ViT-<name>/16 with a 12-layer BERT of the same width, and a batch for it."""

    name: str = "Ti"
    """Of WIDTHS."""
    batch: int = 64
    queue: int = 65536
    image_size: int = 256


def model_of_width(width: int, image_size: int, **vit: int) -> ModelConfig:
    """ViT-*/16 and BERT of 12 layers and one width, heads of 64. vit: further arguments of timm's, such as depth."""
    heads = width // 64
    bert = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width}
    return ModelConfig(
        image=ImageEncoderConfig(image_size=image_size, overrides={"embed_dim": width, "num_heads": heads, **vit}),
        text=TextEncoderConfig(overrides=bert),
    )


def build_models(size: Size) -> tuple[TCLStudent, TCLTeacher]:
    """The same random weights at every call."""
    torch.manual_seed(0)
    model = model_of_width(WIDTHS[size.name], size.image_size)
    objective = ObjectiveConfig(queue_size=size.queue)
    encoders = build_encoders(model, VOCABULARY, pad_id=0)
    return TCLStudent(encoders, objective), TCLTeacher(encoders, objective, model.lmi_regions, seed=0)


def random_batch(size: Size) -> Batch:
    """Pairs whose texts all have the full length: what is gained on padding is not counted."""
    generator = torch.Generator().manual_seed(0)
    B = size.batch
    ids = torch.randint(5, VOCABULARY, (B, TOKENS), generator=generator)
    positions = torch.cat([b * TOKENS + 1 + torch.randperm(TOKENS - 1, generator=generator)[:MASKED] for b in range(B)])
    masked = ids.clone()
    masked.view(-1)[positions] = 4
    image, image_aug = torch.randn(2, B, 3, size.image_size, size.image_size, generator=generator)
    labels, keys = ids.view(-1)[positions], [str(b) for b in range(B)]
    texts = Texts(ids, torch.ones_like(ids), MaskedText(masked, positions, labels))
    return Batch(keys, {"image": Images(image, image_aug), "text": texts})


def fixed_negatives(B: int, device: torch.device) -> Negatives:
    """Neighbours, for steps whose losses are compared."""
    own, yes = torch.arange(B, device=device), torch.ones(B, dtype=torch.bool, device=device)
    return Negatives((own + 1) % B, (own + B - 1) % B, yes, yes)
