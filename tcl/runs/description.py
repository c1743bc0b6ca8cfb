"""What a run leaves of itself in its folder beside checkpoints and metrics: config.yaml, its history, the tokenizer."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tcl.config.command_line import save_config
from tcl.runs.history import begin_stage, former_texts


def describe_run_folder(
    config: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    describe_model: Callable[[Path], None],
    *,
    step: int,
    former_run: Path | None,
) -> str | None:
    """Into config.output_dir, for a run that goes on at `step` from a checkpoint of `former_run`, if from one.

    config: of any kind that trains. tokenizer: None where no texts are read. describe_model: writes into a folder what
    the weights can be built from. Returns why it cannot be written, None if it could.

    Each file is whole at every moment: the former one, or the new one.
    """
    folder = Path(config.output_dir)
    partial = folder / ".partial_config.yaml"
    try:
        former = former_texts(former_run) if former_run else []
        # What train.resume said was said for this start alone.
        save_config(replace(config, train=replace(config.train, resume=None)), partial)
        begin_stage(folder, step, partial.read_text(encoding="utf-8"), former)
        if tokenizer is not None:
            _save_tokenizer(tokenizer, folder / "tokenizer")
        describe_model(folder)
        partial.replace(folder / "config.yaml")
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return f"output_dir: {folder} cannot be written ({error.strerror or error}); make room or name another folder"
    return None


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    partial = folder.with_name(".partial_tokenizer")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        tokenizer.save_pretrained(partial)
    except OSError:
        raise
    except Exception as error:  # tokenizers raises its own: "No space left on device (os error 28)"
        raise OSError(str(error)) from error
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
