"""What a run needs to go on, whole and independent of who holds which piece of it.

checkpoints/step_00005000/
    student.safetensors     weights, fp32
    teacher.safetensors     weights, queues and their pointers
    optimizer.safetensors   AdamW's moments, NAME.exp_avg and NAME.exp_avg_sq
    progress.json           optimiser steps, samples, best score, every process' position in the data

The same files come from one process, DDP and every ZeRO stage, and any of them goes on from any other's. Random
numbers are functions of the seed and the step (tcl.training.step), so their state needs no saving.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from tcl.checkpoints.checkpoint_store import CheckpointStore, Files, list_checkpoints, newest_intact, pointed_checkpoint
from tcl.checkpoints.manifest import verify
from tcl.checkpoints.weights_file import read_weights
from tcl.data.feed.loader_state import LoaderState
from tcl.errors import InputError
from tcl.plain_values import read_json
from tcl.runs.together import raise_together
from tcl.training.engine import Engine
from tcl.training.full_weights import (
    MOMENTS,
    agree_on_buffers,
    full_moments,
    full_weight,
    saved_buffers,
    set_full_moments,
    set_full_weight,
    set_steps_taken,
    steps_taken,
)
from tcl.typed_section import typed


@dataclass
class Progress:
    """How far a run is."""

    step: int
    """Optimiser steps done, skipped ones included."""
    steps_taken: int
    """Of these, those that AdamW took."""
    samples: int | None
    """Given to the run in these steps, over all processes; None: by a version that did not count them."""
    first_batch: int | None
    """Samples of the run's first step, over all processes; None: by a version that did not keep it."""
    best_score: float | None
    """The highest evaluation score so far; None before the first."""
    loaders: list[LoaderState]
    """Every process' position in the data, in the order of ranks."""


def save_checkpoint(
    accelerator: Accelerator,
    store: CheckpointStore,
    engine: Engine,
    teacher: nn.Module,
    *,
    step: int,
    samples: int,
    first_batch: int,
    best_score: float | None,
    loader: LoaderState,
    is_best: bool,
) -> Path:
    """Collect the run's state on the main process, which writes it. Called on every process; returns the path.

    InputError on all processes: it cannot be written.
    """
    loaders = gather_object([loader.to_json()])
    agree_on_buffers(engine.student)
    writes = accelerator.is_main_process
    tensors = {
        "student.safetensors": _on_cpu(_student_weights(engine), writes),
        "optimizer.safetensors": _on_cpu(_moments(engine), writes),
    }
    problem, path = None, store.folder / f"step_{step:08d}"
    if writes:
        tensors["teacher.safetensors"] = _on_cpu(teacher.state_dict().items(), writes)
        progress = {
            "step": step,
            "samples": samples,
            "first_batch": first_batch,
            "steps_taken": steps_taken(engine.optimizer),
            "best_score": best_score,
            "loaders": loaders,
        }
        try:
            store.write(step, Files(tensors, {"progress.json": progress}), is_best=is_best)
        except InputError as error:
            problem = str(error)
    raise_together(problem)
    return path


def finish_saving(store: CheckpointStore) -> None:
    """Wait for an asynchronous save. Called on every process. InputError on all of them: it failed."""
    problem = None
    try:
        store.wait()
    except InputError as error:
        problem = str(error)
    raise_together(problem)


def checkpoint_to_resume(accelerator: Accelerator, resume: str, folder: Path) -> tuple[Path | None, list[str]]:
    """What train.resume ('auto', 'none' or a path) stands for, and a line for each damaged checkpoint passed over.

    The main process reads and decides; called on every process. InputError on all of them: a path without a checkpoint
    or with a damaged one, or behind others of the same run; 'none' where `folder` holds one; 'auto' where all are
    damaged.
    """
    found: tuple[Path | None, list[str]] = (None, [])
    problem = None
    if accelerator.is_main_process:
        try:
            found = _find_checkpoint(resume, folder)
        except InputError as error:
            problem = str(error)
    raise_together(problem)
    return gather_object([found])[0]


def _find_checkpoint(resume: str, folder: Path) -> tuple[Path | None, list[str]]:
    there = list_checkpoints(folder)
    if resume == "none":
        if there:
            raise InputError(f"train.resume: none, but {there[-1]} exists; use auto, or another output_dir")
        return None, []
    if resume == "auto":
        intact, passed_over = newest_intact(folder)
        if intact is None and there:
            raise InputError(
                f"train.resume: auto, but every checkpoint is damaged ({passed_over[0]}); remove {folder} to start "
                f"from the beginning"
            )
        return intact, passed_over
    path = pointed_checkpoint(Path(resume)) or Path(resume)
    if not os.path.isfile(path / "progress.json"):
        raise InputError(f"train.resume: {resume!r} is not a checkpoint; give auto, none or a step_* folder")
    if wrong := verify(path):
        raise InputError(f"train.resume: {resume} is damaged: {wrong}; use auto or another step_* folder")
    if there and path.resolve().parent == folder.resolve() and path.name < there[-1].name:
        raise InputError(
            f"train.resume: {resume} is behind {there[-1].name} of the same run, which auto would take the next time; "
            f"remove the later ones, or branch off into another output_dir"
        )
    return path, []


def read_progress(path: Path) -> Progress:
    """How far the run was at the checkpoint `path`. InputError: progress.json is not as we write it."""
    place = f"train.resume: {path / 'progress.json'}"
    said = read_json(path / "progress.json", "train.resume")
    kinds = {"step": int, "steps_taken": int, "samples": int | None, "first_batch": int | None}
    kinds["best_score"] = float | None
    try:
        found = {name: typed(said.get(name), kind, f"{place}: {name}") for name, kind in kinds.items()}
        return Progress(**found, loaders=[LoaderState.from_json(loader) for loader in said["loaders"]])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{place} is not one that a run leaves ({error!r}); use another checkpoint") from error


def load_checkpoint(path: Path, engine: Engine, teacher: nn.Module) -> None:
    """Fill the models and the optimiser from `path`, on every process.

    InputError: another architecture, weights that are not finite.
    """
    weights, moments = (_tensors(path / name) for name in ("student.safetensors", "optimizer.safetensors"))
    progress = read_progress(path)
    parameters = dict(engine.student.named_parameters())
    buffers = saved_buffers(engine.student)
    shapes = {name: getattr(parameter, "ds_shape", parameter.shape) for name, parameter in parameters.items()}
    _require_same_shapes(path, weights, shapes | {name: buffer.shape for name, buffer in buffers.items()})
    trained = {name: shapes[name] for name, parameter in parameters.items() if parameter.requires_grad}
    _require_same_shapes(path, moments, {f"{name}.{key}": shape for name, shape in trained.items() for key in MOMENTS})
    for name, parameter in parameters.items():
        set_full_weight(parameter, weights[name].to(parameter.device))
        if parameter.requires_grad:
            set_full_moments(engine.optimizer, parameter, {key: moments[f"{name}.{key}"] for key in MOMENTS})
    for name, buffer in buffers.items():
        buffer.copy_(weights[name])
    set_steps_taken(engine.optimizer, progress.steps_taken)
    _load_teacher(teacher, path / "teacher.safetensors")


def _tensors(path: Path) -> dict[str, Tensor]:
    return read_weights(path, "train.resume", "a step_* folder as a run left it")


def _require_same_shapes(path: Path, there: dict[str, Tensor], here: dict[str, torch.Size]) -> None:
    for name in sorted(here.keys() | there.keys()):
        theirs = tuple(there[name].shape) if name in there else "not there"
        ours = tuple(here[name]) if name in here else "not there"
        if ours != theirs:
            raise InputError(
                f"train.resume: {path} does not fit this model: {name} is {theirs}, here {ours}; use the run's own "
                f"config"
            )


def _load_teacher(teacher: nn.Module, path: Path) -> None:
    try:
        teacher.load_state_dict(_tensors(path))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(f"train.resume: {path} does not fit this model: {first}; use the run's own config") from error


def _student_weights(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in engine.student.named_parameters():
        yield name, full_weight(parameter)
    yield from saved_buffers(engine.student).items()


def _moments(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in engine.student.named_parameters():
        if parameter.requires_grad:
            for key, moment in full_moments(engine.optimizer, parameter).items():
                yield f"{name}.{key}", moment


def _on_cpu(tensors: Iterator[tuple[str, Tensor]], keep: bool) -> dict[str, Tensor]:
    """Private copies in the host's memory; every process takes part, but only one has to `keep` them."""
    kept = {}
    for name, tensor in tensors:
        if keep:
            kept[name] = torch.empty_like(tensor, device="cpu", memory_format=torch.contiguous_format).copy_(tensor)
    return kept
