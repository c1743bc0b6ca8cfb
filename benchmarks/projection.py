"""Memory and traffic per device of large runs by the formulas of docs/scaling.md: prints its tables.

python benchmarks/projection.py
"""

import torch

from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig
from tcl.models.encoders import build_encoders
from tcl.objectives.pair_objective import PairSizes
from tcl.objectives.tcl import TCLStudent
from tcl.objectives.tcl_memory import pair_activation_bytes
from tcl.objectives.tcl_teacher import TCLTeacher
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.training.describe_run import estimate_memory

VOCABULARY = 30522
LARGE_BERT = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
MODELS = {
    "ViT-B/16 + BERT-base": (ImageEncoderConfig("vit_base_patch16_224", image_size=256), {}),
    "ViT-L/16 + BERT-large": (ImageEncoderConfig("vit_large_patch16_224", image_size=256), LARGE_BERT),
    "ViT-g/14 + BERT-large": (ImageEncoderConfig("vit_giant_patch14_clip_224", image_size=224), LARGE_BERT),
}
BATCH = 64
MODES = {"DDP": None, "ZeRO 1": 1, "ZeRO 2": 2, "ZeRO 3": 3}
GIB = 2**30


def traffic(parameters: int, mode: int | None, processes: int, tokens_bytes: int) -> float:
    """Bytes a device sends in a step of one pass in bf16, ring algorithms: gradients, weights, features."""
    share = (processes - 1) / processes
    gradients = 2 * 4 * parameters * share if mode is None else 2 * parameters * share * (2 if mode == 1 else 1)
    weights = {None: 0, 1: 2, 2: 2, 3: 4}[mode] * parameters * share
    masters = 0 if mode is None else 2 * 4 * parameters * share * (0.5 if mode == 3 else 1)
    return gradients + weights + masters + tokens_bytes


def main() -> None:
    print(
        "| model | mode | devices | weights | gradients | optimiser | teacher | queues | activations | total | sent |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, (image, bert) in MODELS.items():
        config = PretrainConfig(
            model=ModelConfig(image=image, text=TextEncoderConfig(overrides=bert)),
            objective=ObjectiveConfig(),
            train=TrainConfig(batch_size=BATCH),
        )
        with torch.device("meta"):
            encoders = build_encoders(config.model, VOCABULARY, pad_id=0)
            student = TCLStudent(encoders, config.objective)
        teacher = TCLTeacher(encoders, config.objective, config.model.lmi_regions, seed=0)
        parameters = sum(p.numel() for p in student.parameters())
        for mode, stage in MODES.items():
            for devices in (8, 64, 512):
                sizes = PairSizes(BATCH, config.data.max_tokens, config.model.lmi_regions, devices, False, bf16=True)
                activations = pair_activation_bytes(encoders, config.objective, sizes)
                memory = estimate_memory(
                    student, teacher, processes=devices, zero_stage=stage, bf16=True, activations=activations
                )
                features = 2 * BATCH * config.model.embed_dim * 4 * (devices - 1)
                parts = " | ".join(f"{value / GIB:.2f}" for value in vars(memory).values())
                sent = traffic(parameters, stage, devices, features) / GIB
                label = f"{name} ({parameters / 1e6:.0f}M)"
                print(f"| {label} | {mode} | {devices} | {parts} | {memory.total / GIB:.1f} | {sent:.2f} |")


if __name__ == "__main__":
    main()
