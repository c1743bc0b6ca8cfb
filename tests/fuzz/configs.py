"""Configurations: YAML text, and the values of every field."""

import random
from dataclasses import asdict
from pathlib import Path

import yaml

from tcl.command_line import parse_pretrain, save_config
from tcl.config import DataConfig, PretrainConfig, SourceConfig
from tcl.errors import InputError
from tcl.tasks import retrieval, vqa
from tcl.tasks.command_line import parse_finetune
from tests.fuzz.mutate import change_bytes, change_value

GOOD = {
    "pretrain": PretrainConfig(data=DataConfig(train=[SourceConfig("x/*.tar")])),
    "retrieval": retrieval.Config(data=DataConfig(train=[SourceConfig("x/*.tar")])),
    "vqa": vqa.Config(data=DataConfig(train=[SourceConfig("x/*.tar")])),
}
TEXTS = [
    "a: &a [*a]",
    "&a\n? *a\n: 1",
    "model: &m {image: *m}",
    "x: &a [1]\ny: &b [*a, *a]\n" + "".join(f"z{i}: &c{i} [{'*b, ' * 9}*b]\n" for i in range(9)),
    "\n".join(
        ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    ),
    "[" * 3000,
    "{a: " * 3000,
    "!!python/object/apply:subprocess.Popen [[touch, PWNED]]",
    "train: !!python/object/apply:os.system ['touch PWNED']",
    "a: 1: 2",
    "? {}\n: 1",
    "- 1",
    "1",
    "",
    "---\n---\n",
    "\t",
    "train: {batch_size: 0x10, steps: 1_000, seed: 12:30:45}",
    "seed: 2001-01-01",
    "data: {train: [{shards: *x}]}",
    "<<: {seed: 1}",
]


def prepare(folder: Path) -> None:
    """A good configuration of each program."""
    for name, config in GOOD.items():
        save_config(config, folder / f"{name}.yaml")


def make(good: Path, folder: Path, rng: random.Random) -> str:
    """PROGRAM.yaml, changed."""
    name = rng.choice(list(GOOD))
    way = rng.choice(["value", "value", "value", "bytes", "text"])
    if way == "value":
        value, said = change_value(yaml.safe_load((good / f"{name}.yaml").read_text()), rng)
        content = yaml.safe_dump(value, sort_keys=False).encode("utf-8", "surrogatepass")
    elif way == "bytes":
        content, said = change_bytes((good / f"{name}.yaml").read_bytes(), rng)
    else:
        said = rng.choice(TEXTS)
        content = said.encode()
        if rng.random() < 0.3:
            content = (good / f"{name}.yaml").read_bytes() + b"\n" + content
    (folder / f"{name}.yaml").write_bytes(content)
    return f"{name}: {way}: {said[:80]}"


def check(folder: Path) -> None:
    """What is accepted can be written, and reads as the same again."""
    (path,) = folder.iterdir()
    again = Path("again.yaml")

    def parse(file: Path):
        if path.stem == "pretrain":
            return parse_pretrain(["--config", str(file)])
        return parse_finetune(["--task", path.stem, "--config", str(file)])[0]

    config = parse(path)
    save_config(config, again)
    try:
        same = parse(again)
    except InputError as error:
        raise AssertionError(f"accepted, but what it saves is not: {error}") from error
    assert repr(asdict(same)) == repr(asdict(config)), "reads as another"
