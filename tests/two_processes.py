"""Run by tests/test_distributed.py: steps of a tiny TCL on this process' share of the batches.

torchrun --nproc_per_node 2 tests/two_processes.py OUT_DIR MODE PRECISION [global]

MODE: ddp, zero0 or the name of one of configs/deepspeed. Every third step has a window of one pass, the others of two.
OUT_DIR/RANK.pt gets the scalars of every step, the student's weights before each of them, and what the student, the
teacher and AdamW hold after the last.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from launching import ROOT
from tiny import random_batch, tiny_models

from tcl.config.optim import OptimConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig
from tcl.data.batch import Batch
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.training.accelerator import build_accelerator
from tcl.training.engine import build_engine
from tcl.training.full_weights import full_moments, full_weight
from tcl.training.step import train_step

STEPS, SIZE = 10, 4
BROKEN_STEP = 4
"""One process of two gets a pixel that is not a number."""
OBJECTIVE = ObjectiveConfig(queue_size=20, momentum=0.9)


def batch_of(step: int, place: int) -> Batch:
    """The batch of forward pass `place` of all passes of a step, over processes and accumulation."""
    batch = random_batch(SIZE, seed=10 * step + place)
    if step == BROKEN_STEP and place == 1:
        batch.inputs["image"].view[0, 0, 0, 0] = torch.nan
    return batch


def passes_of(step: int) -> int:
    """Forward passes of each of two processes."""
    return 1 if step % 3 == 2 else 2


def make_accelerator(mode: str, precision: str, folder: Path) -> Accelerator:
    path = None
    if mode != "ddp":
        shipped = ROOT / "configs" / "deepspeed" / f"{mode}.json"
        settings = json.loads(shipped.read_text()) if shipped.exists() else {"zero_optimization": {"stage": 0}}
        # Parameters this small would otherwise all stay whole under ZeRO 3.
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        path = folder / "deepspeed.json"
        path.write_text(json.dumps(settings))
    train = TrainConfig(batch_size=SIZE, precision=precision, deepspeed=str(path) if path else None)
    return build_accelerator(PretrainConfig(train=train, output_dir=str(folder)))


def run(mode: str, precision: str, global_negatives: bool, folder: Path, halves: int = 1) -> dict[str, torch.Tensor]:
    """What this process sees; `halves` = 2 does both processes' passes in this one, by accumulation."""
    accelerator = make_accelerator(mode, precision, folder)
    student, teacher = tiny_models(replace(OBJECTIVE, global_negatives=global_negatives))
    engine = build_engine(accelerator, student, OptimConfig(eps=1e-3))
    world, rank = accelerator.num_processes, accelerator.process_index
    result = {}
    for step in range(STEPS):
        for name, parameter in student.encoders.named_parameters():
            result[f"before/{step}/{name}"] = full_weight(parameter).clone()
        batches = [batch_of(step, i * world + rank) for i in range(halves * passes_of(step))]
        done = train_step(engine, teacher, batches, step=step, seed=0, learning_rate=1e-3, alpha=0.4)
        scalars = {"loss": done.losses.total} | done.losses.each | done.metrics
        result |= {f"{step}/{name}": value for name, value in scalars.items()}
        result[f"{step}/finite"] = torch.tensor(done.finite)
    for name, parameter in student.named_parameters():
        result[f"student/{name}"] = full_weight(parameter).clone()
        if parameter.requires_grad:
            moments = full_moments(engine.optimizer, parameter)
            result |= {f"moments/{name}/{key}": value.clone() for key, value in moments.items()}
    return result | {f"teacher/{name}": value.clone() for name, value in teacher.state_dict().items()}


if __name__ == "__main__":
    out, mode, precision, *rest = sys.argv[1:]
    outcome = run(mode, precision, rest == ["global"], Path(out))
    torch.save(outcome, Path(out) / f"{torch.distributed.get_rank()}.pt")
