"""The small model of the benchmarks with several processes: ViT of 4 layers and BERT of 2 + 2, width 192, 64 px."""

import torch

from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.masking import MaskedText
from tcl.data.texts.text_tokens import Texts
from tcl.models.encoders import build_encoders
from tcl.objectives.tcl import TCLStudent
from tcl.objectives.tcl_teacher import TCLTeacher
from tcl.tasks.pretrain import Config as PretrainConfig

MODES = ("ddp", "zero1", "zero2", "zero3")
L, VOCABULARY, MASKED = 25, 1000, 3
MODEL = ModelConfig(
    image=ImageEncoderConfig("vit_tiny_patch16_224", image_size=64, overrides={"depth": 4}),
    text=TextEncoderConfig(
        overrides={
            "hidden_size": 192,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "intermediate_size": 768,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
    ),
)


def config_of(mode: str, B: int, global_negatives: bool = False) -> PretrainConfig:
    """mode: one of MODES; B pairs a process and step."""
    settings = None if mode == "ddp" else f"configs/deepspeed/{mode}.json"
    objective = ObjectiveConfig(queue_size=4096, global_negatives=global_negatives)
    train = TrainConfig(batch_size=B, precision="fp32", deepspeed=settings)
    return PretrainConfig(model=MODEL, objective=objective, train=train)


def build_models(config: PretrainConfig) -> tuple[TCLStudent, TCLTeacher]:
    """The same random weights at every call."""
    torch.manual_seed(0)
    encoders = build_encoders(config.model, VOCABULARY, pad_id=0)
    return TCLStudent(encoders, config.objective), TCLTeacher(
        encoders, config.objective, config.model.lmi_regions, seed=0
    )


def random_batch(B: int, seed: int) -> Batch:
    """B pairs whose texts have L tokens, the first MASKED words of each masked."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (B, L), generator=generator)
    view, other_view = (torch.randn(B, 3, 64, 64, generator=generator) for _ in range(2))
    positions = torch.cat([torch.arange(B) * L + i for i in range(1, 1 + MASKED)])
    masked = MaskedText(ids, positions, torch.zeros(B * MASKED, dtype=torch.long))
    texts = Texts(ids, torch.ones(B, L, dtype=torch.long), masked)
    inputs = {"image": Images(view, other_view), "text": texts}
    return Batch([str(i) for i in range(B)], inputs, ids=torch.arange(B) + B * seed)
