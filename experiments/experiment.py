"""What an experiment is: arms that are compared, each a few commands one after the other, run with several seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One command, which leaves a metrics.jsonl in the folder that it is given as --output_dir."""

    name: str
    """Its folder, within that of the arm and the seed."""
    script: tuple[str, ...]
    """What Python runs: ("pretrain.py",) or ("-m", "experiments.matching")."""
    options: Mapping[str, object]
    """Of the command, beside --output_dir and --seed. In texts, $data is the folder of prepared data, $here that of
    the arm's stages with this seed, $runs/ARM/$seed that of another arm's."""


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    title: str
    """Of its row."""
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Experiment:
    """Arms, and what is read from them. A file of experiments/ declares one as EXPERIMENT and is called as it is."""

    title: str
    arms: Mapping[str, Arm]
    """By a short name, which is also a folder's."""
    seeds: tuple[int, ...]
    columns: Mapping[str, str]
    """Figures of the last evaluation of any stage -> heading. A later stage's figure replaces an earlier one's."""
    compared: tuple[str, ...]
    """Those of the columns whose differences are told."""
    against: Mapping[str, str] = field(default_factory=dict)
    """Arm -> the arm with which it is compared, seed by seed."""
    prepare: Callable[[Path, Path], None] = lambda source, out: None
    """Makes what the commands read: (the folder --data, the folder $data)."""
