"""YAML files of options and values on the command line: of every field, for pre-training and every task."""

from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from random import Random

import yaml

from tcl.commands.task_options import parse_finetune, parse_pretrain
from tcl.tasks import task_named, task_names
from tcl.tasks.pretrain import Config as PretrainConfig
from tests.data_files import write_shards
from tests.fuzz.case import Wrong
from tests.fuzz.mutate import NAMES, VALUES, damage, spoil

BOMBS = (
    "&a [*a]",
    "a: &a {b: *a}",
    "- " * 20_000,
    "[" * 20_000,
    "{a: " * 5_000,
    "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
    "!!python/object/apply:subprocess.check_call [[touch, PWNED]]",
    "model: {image: {overrides: {class_path: subprocess.Popen, init_args: {args: [touch, PWNED]}}}}",
    "data: 1e999999999",
    "seed: 1:2:3",
    "seed: 2001-01-01",
    "? {a: b}\n: c",
    "a: 1\na: 2",
)


def prepare(folder: Path) -> dict[str, dict]:
    """A whole configuration of pre-training and of each task, as plain values."""
    shards = write_shards(folder / "shards", [2])
    kinds = {"pretrain": PretrainConfig} | {task: task_named(task).Config for task in task_names()}
    found = {name: yaml.safe_load(yaml.safe_dump(_plain(asdict(kind())))) for name, kind in kinds.items()}
    for values in found.values():
        values["data"]["train"] = [{"shards": shards, "weight": None}]
        values["data"]["val"] = shards
    return found


def mutate(good: dict[str, dict], rng: Random, folder: Path) -> None:
    """NAME.yaml and the arguments of a command line, NAME.arguments, a line each."""
    name = rng.choice(list(good))
    text = yaml.safe_dump(spoil(good[name], rng) if rng.random() < 0.7 else good[name], sort_keys=False)
    content = rng.choice(BOMBS) if rng.random() < 0.1 else text
    content = content.encode("utf-8", "surrogatepass")
    (folder / f"{name}.yaml").write_bytes(damage(content, rng) if rng.random() < 0.3 else content)
    arguments = [f"--{_some_field(good[name], rng)}={_as_argument(rng)}" for _ in range(rng.randint(0, 2))]
    (folder / f"{name}.arguments").write_text("\0".join(arguments), errors="replace")


def read(good: dict[str, dict], folder: Path) -> None:
    (path,) = folder.glob("*.yaml")
    said = path.with_suffix(".arguments").read_text()
    arguments = ["--config", str(path), *(said.split("\0") if said else [])]
    if path.stem == "pretrain":
        config = parse_pretrain(arguments)
    else:
        config, _ = parse_finetune(["--task", path.stem, *arguments])
    _require_plain(config, "")


def _require_plain(value: object, place: str) -> None:
    """Nothing in a configuration is more than a number, a string, or a list, dict or section of them."""
    if is_dataclass(value):
        for field in fields(value):
            _require_plain(getattr(value, field.name), f"{place}.{field.name}")
    elif isinstance(value, (list, tuple)):
        for one in value:
            _require_plain(one, place)
    elif isinstance(value, dict):
        for one in (*value, *value.values()):
            _require_plain(one, place)
    elif not isinstance(value, (bool, int, float, str, type(None))):
        raise Wrong(f"{place} became a {type(value).__name__}")


def _some_field(values: dict, rng: Random) -> str:
    name = rng.choice(list(values))
    inner = values[name]
    return f"{name}.{_some_field(inner, rng)}" if isinstance(inner, dict) and inner and rng.random() < 0.9 else name


def _as_argument(rng: Random) -> str:
    value = rng.choice((*VALUES, *BOMBS[:3], *NAMES))
    return (
        value
        if isinstance(value, str)
        else yaml.safe_dump(value, default_flow_style=True, width=10**6).split("\n...")[0]
    )


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
