"""What a run trained, as an export would describe it."""

import warnings
from pathlib import Path
from typing import Any

from tcl.checkpoints.export_format import ANSWERS, ExportConfig, read_answers
from tcl.checkpoints.run_folder import MODEL, make_self_contained, read_run_config, read_run_model, tokenizer_of
from tcl.config.model import ModelConfig
from tcl.errors import InputError
from tcl.exports.kinds import kind_of_run
from tcl.runs.history import option
from tcl.typed_section import decode, warn_of_older


def config_of_run(run: Path) -> tuple[ExportConfig, list[str] | None]:
    """What the run trained, and the closed list from which it chooses answers, if it has one.

    Anybody may have written the folder: its tokenizer is the copy in it, and nothing that it names elsewhere, on disk
    or on the hub, is followed. InputError: the description is not one that a run of this version would leave.
    """
    if (run / MODEL).is_file():
        return read_run_model(run), read_answers(run)
    said, path = read_run_config(run), run / "config.yaml"
    absent: dict[str, Any] = {}
    model = decode(ModelConfig, said["model"], str(path), absent, "model.")
    warn_of_older(path, absent)
    make_self_contained(model, tokenizer_of(run), path)
    texts = {name: said["data"].get(name) for name in ("max_tokens", "max_words")}
    for name, value in texts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{path}: data.{name} is {value!r}; accepted: an integer, with which the run was trained")
    kind = kind_of_run(said, path)
    parts = {name: option(said, where) for name, where in kind.parts_in_run.items()}
    parts = {name: value for name, value in parts.items() if value is not None}
    answers = read_answers(run)
    if answers is None and option(said, "answers.list") is not None:
        warnings.warn(
            f"{path}: answers.list lies outside of the run and is not read: answers are written freely; copy the list "
            f"to {run / ANSWERS} to choose from it",
            stacklevel=2,
        )
    return ExportConfig(kind.name, model, **texts, parts=parts), answers
