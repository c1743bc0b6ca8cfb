"""Checkpoints: everything a run needs to continue, in a folder that is either complete or not there.

checkpoints/step_00005000/
    student.safetensors, teacher.safetensors   weights; the teacher's queues and their pointers
    optimizer.pt                               AdamW's moments
    progress.json                              optimiser steps done, world size
    loader_0.json, loader_1.json, ...          each process' position in the data
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from tcl.data.batch_stream import LoaderState
from tcl.errors import InputError
from tcl.models.momentum import Momentum
from tcl.models.tcl import TCL

_NAME = re.compile(r"step_(\d{8,})")


@dataclass
class Progress:
    """How far a run is."""

    step: int
    """Optimiser steps done."""
    loader: LoaderState
    """This process' position in the data."""


def save_checkpoint(
    accelerator: Accelerator,
    folder: Path,
    student: TCL,
    teacher: Momentum,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    keep: int,
) -> Path:
    """Write `folder`/step_N and remove all but the newest `keep`. Called on every process; returns its path."""
    final = folder / f"step_{progress.step:08d}"
    partial = folder / f".partial_{final.name}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    _write_json(partial / f"loader_{accelerator.process_index}.json", progress.loader.to_json())
    if accelerator.is_main_process:
        _save_weights(student, partial / "student.safetensors")
        _save_weights(teacher, partial / "teacher.safetensors")
        torch.save(optimizer.state_dict(), partial / "optimizer.pt")
        _write_json(partial / "progress.json", {"step": progress.step, "num_processes": accelerator.num_processes})
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in list_checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in `folder`, oldest first."""
    found = [path for path in folder.glob("step_*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(_NAME.fullmatch(path.name)[1]))


def checkpoint_to_resume(resume: str, folder: Path) -> Path | None:
    """What train.resume ('auto', 'none' or a path) stands for. InputError: a path without a checkpoint, or 'none'
    where `folder` holds one."""
    found = list_checkpoints(folder)
    if resume == "auto":
        return found[-1] if found else None
    if resume == "none":
        if found:
            raise InputError(f"train.resume: none, but {found[-1]} exists; use auto, or another output_dir")
        return None
    if not (Path(resume) / "progress.json").is_file():
        raise InputError(f"train.resume: {resume!r} is not a checkpoint; give auto, none or a step_* folder")
    return Path(resume)


def load_checkpoint(
    accelerator: Accelerator, path: Path, student: TCL, teacher: Momentum, optimizer: torch.optim.Optimizer
) -> Progress:
    """Fill the models and the optimiser from `path`. InputError: another architecture or number of processes."""
    progress = json.loads((path / "progress.json").read_text())
    if progress["num_processes"] != accelerator.num_processes:
        raise InputError(
            f"train.resume: {path} was written by {progress['num_processes']} processes, this run has "
            f"{accelerator.num_processes}; start as many"
        )
    _load_weights(student, path / "student.safetensors")
    _load_weights(teacher, path / "teacher.safetensors")
    optimizer.load_state_dict(torch.load(path / "optimizer.pt", map_location=accelerator.device, weights_only=True))
    loader = json.loads((path / f"loader_{accelerator.process_index}.json").read_text())
    return Progress(progress["step"], LoaderState.from_json(loader))


def _save_weights(model: nn.Module, path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def _load_weights(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(f"train.resume: {path} does not fit this model: {first}; use the run's own config") from error


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1))
