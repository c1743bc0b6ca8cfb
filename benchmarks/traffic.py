"""What one training step moves between processes and what each process holds, measured: the checks of docs/scaling.md.

    torchrun --nproc_per_node 2 -m benchmarks.traffic --mode zero2 [--global_negatives] [--out FILE.json]

Two processes on gloo take a step of a ViT and a BERT of width 192 on random pairs. Bytes are those of the tensors that
a process hands to the collectives, counted by torch's profiler; memory is the sum over the tensors a part consists of.
"""

import argparse
import json
import logging
from collections import Counter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.small_model import MODES, build_models, config_of, random_batch
from tcl.models.global_batch import world
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.training.accelerator import build_accelerator
from tcl.training.describe_run import estimate_memory
from tcl.training.engine import build_engine
from tcl.training.full_weights import adamw_of
from tcl.training.step import train_step

B = 8


def measure(config: PretrainConfig, mode: str) -> dict:
    accelerator = build_accelerator(config)
    student, teacher = build_models(config)
    rank, processes = world()
    stage = int(mode[-1]) if mode != "ddp" else None
    expected = estimate_memory(student, teacher, processes=processes, zero_stage=stage, bf16=False, activations=0.0)
    parameters = sum(p.numel() for p in student.parameters())
    engine = build_engine(accelerator, student, config.optim)

    def step(number: int) -> None:
        batch = random_batch(B, seed=2 * number + rank)
        train_step(engine, teacher, [batch], step=number, seed=0, learning_rate=1e-4, alpha=0.4)

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
    parser.add_argument("--mode", choices=MODES, default="ddp")
    parser.add_argument("--global_negatives", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    measured = measure(config_of(options.mode, B, options.global_negatives), options.mode)
    if world()[0] == 0:
        print(json.dumps(measured, indent=1))
        if options.out:
            options.out.write_text(json.dumps(measured, indent=1))
