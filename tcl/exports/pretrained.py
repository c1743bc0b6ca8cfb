"""A trained model as a whole, with its tokenizer: loaded from wherever it is, written in the format of exports.

model.safetensors         the student's weights, fp32
teacher.safetensors       those of the momentum teacher and its queues, on request
config.json, preprocessor_config.json, answers.txt     see tcl.checkpoints.export_format
tokenizer.json, ...       the tokenizer, where texts are read
README.md                 the model card
tcl_classes.py            on request, see tcl.checkpoints.loading_code
manifest.json             size and checksum of all but the two before, see tcl.checkpoints.export_files
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.checkpoint_store import pointed_checkpoint
from tcl.checkpoints.export_files import READ, TEACHER, WEIGHTS, check_export, put_in_place
from tcl.checkpoints.export_format import (
    ExportConfig,
    check_self_contained,
    is_export,
    read_answers,
    read_config,
    write_answers,
    write_config,
)
from tcl.checkpoints.initial import fill, weights_folder
from tcl.checkpoints.loading_code import CODE
from tcl.checkpoints.manifest import MANIFEST
from tcl.checkpoints.run_folder import facts_of_run, run_folder_of
from tcl.checkpoints.weights_file import find_weights, read_weights, write_weights
from tcl.config.model import ModelConfig
from tcl.data.texts.save_tokenizer import save_tokenizer
from tcl.data.texts.tokenize import load_tokenizer
from tcl.errors import InputError
from tcl.exports.describe import build_student, describe
from tcl.exports.kinds import kind_named
from tcl.exports.model_card import model_card
from tcl.exports.run_model import config_of_run
from tcl.objectives.kind import Kind

ACCEPTED = "an export, a run's output_dir, a step_* folder, or a hub id"
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass
class Pretrained:
    """A trained model and what is needed to use it. Images are normalised by student.averaged.image_encoder's mean and
    std."""

    student: nn.Module
    """A `tcl.objectives.objective.Student` in eval mode, fp32, on the CPU."""
    tokenizer: PreTrainedTokenizerBase | None
    """None: it reads no texts."""
    kind: Kind
    """What the student is."""
    model: ModelConfig
    """With which the student can be built again."""
    max_tokens: int | None
    """Longest text in tokens, [CLS] included; None: it reads none."""
    max_words: int | None
    """Longest text in words after cleaning; None: it reads none."""
    answers: list[str] | None = None
    """The closed list from which answers are chosen; None: there is none."""
    card: str = ""
    """The model card, markdown."""
    lacks: tuple[str, ...] = ()
    """Prefixes of the student's parameters that were not in the weights and are random: published retrieval checkpoints
    have no MLM head. They are not saved either."""
    teacher: dict[str, Tensor] | None = None
    """State of its teacher, where it was asked for."""
    with_code: bool = False
    """Is what is saved to load by `trust_remote_code=True` as well? A folder that does is saved as one again."""


def load_pretrained(source: str, *, revision: str | None = None, with_teacher: bool = False) -> Pretrained:
    """The model at `source`: an export, a run's output_dir (its newest intact checkpoint), one of its step_* folders
    (whatever it was trained with, ZeRO 3 included), or an export on the hub.

    revision: branch, tag or commit on the hub. with_teacher: read the momentum teacher's state as well.
    InputError: no such model, damaged or forged files, an export of a newer version, no teacher.
    """
    folder = folder_of(source, revision, with_teacher)
    return _load_export(folder, with_teacher) if is_export(folder) else _load_checkpoint(folder, with_teacher)


def folder_of(source: str, revision: str | None = None, with_teacher: bool = False) -> Path:
    """Where the files of `load_pretrained` lie: an export, or the step_* folder of a run. InputError: no such model."""
    folder = pointed_checkpoint(Path(source)) or Path(source)
    if os.path.isdir(folder):
        if revision is not None:
            raise InputError(f"revision: {revision!r}, but {source} is a folder; revisions are of models on the hub")
    elif os.path.isfile(folder):
        raise InputError(f"source: {source} is a file; accepted: {ACCEPTED}; `tcl convert` reads .pth")
    else:
        folder = _download(source, revision, with_teacher)
    return weights_folder(str(folder), "source", ACCEPTED)


def save_pretrained(pretrained: Pretrained, folder: Path, *, card: str | None = None) -> None:
    """Write `pretrained` as an export into `folder`, in place of an export that is there.

    card: the README.md instead of pretrained.card. The teacher is written where there is one. InputError: the folder
    is a run's or cannot be written, or the model cannot be described without files from elsewhere.
    """
    if (folder / "checkpoints").exists() or (folder / "student.safetensors").exists():
        raise InputError(f"folder: {folder} belongs to a run; name another one")
    known, student = pretrained, pretrained.student
    config = describe(known.kind, known.model, student, known.max_tokens, known.max_words)
    check_self_contained(config.model, folder)
    weights = {name: t for name, t in student.state_dict().items() if not name.startswith(pretrained.lacks)}

    def write(partial: Path) -> None:
        if pretrained.tokenizer is not None:
            save_tokenizer(pretrained.tokenizer, partial, pretrained.max_tokens)
        write_weights(weights, partial / WEIGHTS)
        if pretrained.teacher is not None:
            write_weights(pretrained.teacher, partial / TEACHER)
        write_answers(pretrained.answers, partial)
        (partial / "README.md").write_text(card or pretrained.card, encoding="utf-8")
        write_config(config, partial, with_code=pretrained.with_code)

    try:
        put_in_place(folder, write)
    except OSError as error:
        said = error.strerror or error
        raise InputError(f"folder: {folder} cannot be written ({said}); name another one") from error


def _load_export(folder: Path, with_teacher: bool) -> Pretrained:
    config = read_config(folder)
    check_export(folder, "source", with_teacher=with_teacher)
    card = folder / "README.md"
    loaded = _load(
        config,
        find_weights(folder) or folder / WEIGHTS,
        with_teacher,
        answers=read_answers(folder),
        card=card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
    )
    loaded.with_code = (folder / CODE).is_file()
    return loaded


def _load_checkpoint(folder: Path, with_teacher: bool) -> Pretrained:
    run = run_folder_of(str(folder))
    if run is None:
        raise InputError(f"source: {folder} lies in no run with a config.yaml; give a run's output_dir or an export")
    config, answers = config_of_run(run)
    loaded = _load(config, folder / "student.safetensors", with_teacher, answers=answers)
    loaded.card = model_card(config, facts_of_run(run, folder), kind_named(config.kind, "source").card)
    return loaded


def _load(
    config: ExportConfig, file: Path, with_teacher: bool, *, answers: list[str] | None, card: str = ""
) -> Pretrained:
    teacher_file = file.with_name(TEACHER)
    if with_teacher and not teacher_file.is_file():
        raise InputError(f"with_teacher: {file.parent} has no {TEACHER}; export the run with its teacher")
    tokenizer = load_tokenizer(config.model.text.tokenizer) if config.reads_text else None
    weights = read_weights(file, "source", ACCEPTED)
    kind = kind_named(config.kind, "source")
    student = build_student(config, tokenizer)
    lacks = tuple(part for part in kind.may_lack if not any(name.startswith(part) for name in weights))
    fill(student, weights, str(file), may_lack=lacks, field="source")
    return Pretrained(
        student,
        tokenizer,
        kind,
        config.model,
        config.max_tokens,
        config.max_words,
        answers,
        card,
        lacks,
        read_weights(teacher_file, "source", ACCEPTED) if with_teacher else None,
    )


def _download(source: str, revision: str | None, with_teacher: bool) -> Path:
    """An export on the hub, at `revision`, to the local cache. No other files are fetched than those that we read."""
    if not _HUB_ID.fullmatch(source):
        raise InputError(f"source: {source!r} is not there; accepted: {ACCEPTED}")
    wanted = [*READ, MANIFEST, "README.md", *([TEACHER] if with_teacher else [])]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the client raises errors of its own, of httpx and of the file system
        said = " ".join(str(error).split())[:200]
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"source: {source!r} is no folder here, and not to be had from the hub{at} ({said}); accepted: {ACCEPTED}"
        ) from error
