"""What one training step moves between processes and what each process holds, measured: the checks of docs/scaling.md.

    torchrun --nproc_per_node 2 benchmarks/traffic.py --mode zero2 [--global_negatives] [--out FILE.json]

Two processes on gloo take a step of a ViT and a BERT of width 192 on random pairs. Bytes are those of the tensors that
a process hands to the collectives, counted by torch's profiler; memory is the sum over the tensors a part consists of.
"""

import argparse
import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from tcl.config import ImageEncoderConfig, ModelConfig, ObjectiveConfig, PretrainConfig, TextEncoderConfig, TrainConfig
from tcl.data.batch import Batch
from tcl.models.encoders import build_encoders
from tcl.models.global_batch import world
from tcl.models.momentum import Momentum
from tcl.models.tcl import TCLStudent
from tcl.training.accelerator import build_accelerator
from tcl.training.engine import build_engine
from tcl.training.full_weights import adamw_of
from tcl.training.step import train_step
from tcl.training.world import estimate_memory

B, L, VOCABULARY, MASKED = 8, 25, 1000, 3
CONFIG = PretrainConfig(
    model=ModelConfig(
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
    ),
    objective=ObjectiveConfig(queue_size=4096),
    train=TrainConfig(batch_size=B, precision="fp32"),
)


def random_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (B, L), generator=generator)
    return Batch(
        image=torch.randn(B, 3, 64, 64, generator=generator),
        image_aug=torch.randn(B, 3, 64, 64, generator=generator),
        input_ids=ids,
        attention_mask=torch.ones(B, L, dtype=torch.long),
        masked_ids=ids,
        mask_positions=torch.cat([torch.arange(B) * L + i for i in range(1, 1 + MASKED)]),
        mask_labels=torch.zeros(B * MASKED, dtype=torch.long),
        keys=[str(i) for i in range(B)],
    )


def measure(config: PretrainConfig, mode: str) -> dict:
    accelerator = build_accelerator(config)
    torch.manual_seed(0)
    encoders = build_encoders(config.model, VOCABULARY, pad_id=0)
    student, teacher = TCLStudent(encoders, config.objective), Momentum(encoders, config.objective, 4, seed=0)
    rank, processes = world()
    stage = int(mode[-1]) if mode != "ddp" else None
    expected = estimate_memory(student, teacher, processes=processes, zero_stage=stage, bf16=False, activations=0.0)
    parameters = sum(p.numel() for p in student.parameters())
    engine = build_engine(accelerator, student, config.optim)

    def step(number: int) -> None:
        train_step(
            engine, teacher, [random_batch(2 * number + rank)], step=number, seed=0, learning_rate=1e-4, alpha=0.4
        )

    step(0)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        step(1)
    moved: Counter[str] = Counter()
    for event in profiler.events():
        if event.name.startswith("gloo:"):
            moved[event.name] += sum(4 * torch.Size(shape).numel() for shape in event.input_shapes if shape)
    state = adamw_of(engine.optimizer).state
    held = {
        "weights": sum(_bytes(p) for p in student.parameters()),
        "optimizer": sum(_bytes(t) for one in state.values() for t in one.values())
        + (sum(_bytes(p) for p in state) if stage else 0),
        "teacher": sum(_bytes(p) for p in teacher.parameters()),
        "queues": _bytes(teacher.image_queue.features) + _bytes(teacher.text_queue.features),
    }
    return {
        "mode": mode,
        "processes": processes,
        "global_negatives": config.objective.global_negatives,
        "parameters": parameters,
        "moved_bytes": dict(moved),
        "held_bytes": held,
        "estimated_bytes": {name: value for name, value in vars(expected).items() if name in held},
    }


def _bytes(tensor: torch.Tensor) -> int:
    own = getattr(tensor, "ds_tensor", tensor)  # ZeRO 3 leaves a process its piece
    return own.numel() * own.element_size()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["ddp", "zero1", "zero2", "zero3"], default="ddp")
    parser.add_argument("--global_negatives", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    settings = None if options.mode == "ddp" else f"configs/deepspeed/{options.mode}.json"
    config = replace(
        CONFIG,
        objective=replace(CONFIG.objective, global_negatives=options.global_negatives),
        train=replace(CONFIG.train, deepspeed=settings),
    )
    measured = measure(config, options.mode)
    if world()[0] == 0:
        print(json.dumps(measured, indent=1))
        if options.out:
            options.out.write_text(json.dumps(measured, indent=1))
