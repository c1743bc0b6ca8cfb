"""The configurations of a run, one after the other: it may have been resumed with others.

<output_dir>/history/step_00000000.yaml     with which it was started; --config reads it, as it does config.yaml
<output_dir>/history/step_00000500.yaml     with which it went on from step 500
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from tcl.errors import InputError
from tcl.plain_values import read_yaml
from tcl.whole_file import write_whole

FOLDER = "history"
_NAME = re.compile(r"step_(\d{8,})\.yaml")


def stages_of(run: Path, step: int) -> list[tuple[int, dict]]:
    """(first step, configuration) of each stage that trained the weights of the run's checkpoint at `step`, >= 0.

    Without a history all of it was config.yaml. InputError: one of them cannot be read.
    """
    found = [(first, read_options(path)) for first, path in _files(run) if first < max(step, 1)]
    return found or [(0, read_options(run / "config.yaml"))]


def read_options(path: Path) -> dict:
    """The sections of a configuration as they were saved. InputError: it cannot be read, or is no file."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path}: no file; give a run as it was left")
    said = read_yaml(path, "output_dir")
    if not isinstance(said, dict):
        raise InputError(f"{path}: a {type(said).__name__} instead of sections of options; give a run as it was left")
    return said


def option(said: Any, name: str) -> Any:
    """The value of e.g. train.batch_size in a configuration, or, of data.train[].shards, a list of values; None: not
    there."""
    for part in name.split("."):
        part, is_list = part.removesuffix("[]"), part.endswith("[]")
        said = said.get(part) if isinstance(said, dict) else None
        if is_list:
            rest = name.partition("[].")[2]
            return [option(item, rest) for item in said] if isinstance(said, list) else None
    return said


def batch_of_a_process(run: Path | None, otherwise: int) -> int:
    """Samples of a step of one process by the config.yaml of `run`, where it says so. InputError: it cannot be read."""
    said = read_options(run / "config.yaml") if run is not None else {}
    factors = [option(said, f"train.{name}") for name in ("batch_size", "accumulate_steps")]
    return factors[0] * factors[1] if all(type(factor) is int and factor > 0 for factor in factors) else otherwise


def begin_stage(run: Path, step: int, config: str, former: list[tuple[int, str]]) -> None:
    """From `step` on the run has the configuration `config` (YAML); `former` are its stages up to there.

    What a run that went further had after `step` is forgotten: nothing of it is left in the weights. OSError.
    """
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    stages = {first: text for first, text in former if first < max(step, 1)}
    if not stages or stages[max(stages)] != config:
        stages[step if stages else 0] = config
    wanted = {f"step_{first:08d}.yaml": text for first, text in stages.items()}
    for _, path in _files(run):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8", errors="replace") != text:
            write_whole(folder / name, partial(Path.write_text, data=text, encoding="utf-8"))


def former_texts(run: Path) -> list[tuple[int, str]]:
    """The stages of `run` so far as YAML, for begin_stage; of one without a history, its config.yaml."""
    files = _files(run) or [(0, run / "config.yaml")]
    return [(first, path.read_text(encoding="utf-8", errors="replace")) for first, path in files if path.is_file()]


def _files(run: Path) -> list[tuple[int, Path]]:
    named = ((_NAME.fullmatch(path.name), path) for path in (run / FOLDER).glob("step_*.yaml"))
    return sorted((int(match[1]), path) for match, path in named if match)
