"""A TCL of a few thousand parameters and random batches for it."""

import torch

from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.masking import MaskedText
from tcl.data.texts.text_tokens import Texts
from tcl.models.encoders import build_encoders
from tcl.objectives.tcl import TCLStudent
from tcl.objectives.tcl_teacher import TCLTeacher

VOCABULARY = 50
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
MODEL = ModelConfig(
    image=ImageEncoderConfig(
        name="vit_tiny_patch16_224", image_size=32, overrides={"embed_dim": 24, "depth": 2, "num_heads": 2}
    ),
    text=TextEncoderConfig(overrides=BERT),
    embed_dim=8,
    lmi_regions=2,
)


def tiny_models(
    objective: ObjectiveConfig | None = None, model: ModelConfig = MODEL, seed: int = 0, with_ids: bool = False
) -> tuple[TCLStudent, TCLTeacher]:
    torch.manual_seed(seed)
    objective = objective or ObjectiveConfig(queue_size=12)
    encoders = build_encoders(model, VOCABULARY, pad_id=0)
    return TCLStudent(encoders, objective), TCLTeacher(encoders, objective, model.lmi_regions, seed, with_ids)


def random_batch(size: int, seed: int = 0, length: int = 7) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, length + 1, (size,), generator=generator)
    lengths[0] = length
    attention_mask = (torch.arange(length)[None, :] < lengths[:, None]).long()
    input_ids = torch.randint(5, VOCABULARY, (size, length), generator=generator) * attention_mask
    input_ids[:, 0] = 2
    positions = torch.arange(size) * length + 1
    masked_ids = input_ids.clone()
    masked_ids[:, 1] = 4
    images = Images(*(torch.randn(size, 3, 32, 32, generator=generator) for _ in range(2)))
    texts = Texts(input_ids, attention_mask, MaskedText(masked_ids, positions, input_ids[:, 1].clone()))
    return Batch([f"{seed}/{i}" for i in range(size)], {"image": images, "text": texts})
