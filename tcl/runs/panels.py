"""Which of a run's numbers are drawn in one panel: those that have one scale and one meaning."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

NO_LOSSES = (
    *("step", "epoch", "loss", "grad_norm", "temperature", "bias"),
    *("learning_rate", "samples_per_second", "data_wait", "eta_seconds"),
)
"""What else rows of steps hold, beside accuracies and what these are without learning."""
PAIRS = re.compile(r"(?:(?P<loss>.+)_)?(?P<side>image|text|i2t|t2i)")
RECALL = re.compile(r"eval_(?P<how>.*?)_?(?P<way>i2t|t2i)_r(?P<k>1|10)")
WAYS = {"i2t": "image to text", "t2i": "text to image"}
LEFT_OUT = re.compile(r".*(i2t|t2i)_.*|.*(mean|_rank|_r\d+)")
"""Evaluations beside R@1 and R@10 of retrieval, which say the same once more."""


@dataclass
class Panel:
    """What one pair of axes shows."""

    title: str
    logarithmic: bool = False
    series: dict[str, str] = field(default_factory=dict)
    """By their labels, names of the numbers that rows hold."""
    priors: dict[str, str] = field(default_factory=dict)
    """Likewise, of constants: what is reached without learning."""


def panels_of(rows: list[dict]) -> list[Panel]:
    """Losses, their total first, accuracies in training, then evaluations."""
    panels: dict[str, Panel] = {}

    def panel(title: str, logarithmic: bool = False) -> Panel:
        return panels.setdefault(title, Panel(title, logarithmic))

    names = names_of_steps(rows)
    if "loss" in names:
        panel("loss", True).series["loss"] = "loss"
    for name in loss_names(rows):
        pair = PAIRS.fullmatch(name)
        if pair is None:
            panel(name, True).series[name] = name
        else:
            panel(pair["loss"] or "cma", True).series[WAYS.get(pair["side"], pair["side"])] = name
    for name in names:
        if name.endswith("accuracy"):
            panel("told right in training").series[name.replace("_", " ")] = name
        elif name.endswith("_prior"):
            panel("told right in training").priors[f"{name.removesuffix('_prior')}, nothing learned"] = name
    for name in dict.fromkeys(name for row in rows for name in row if name.startswith("eval_")):
        recall = RECALL.fullmatch(name)
        if not with_number(rows, name):
            continue
        if recall is not None:
            how = f" {recall['how'].replace('rerank', 're-ranked')}" if recall["how"] else ""
            panel(f"R@{recall['k']}{how}, %").series[WAYS[recall["way"]]] = name
        elif LEFT_OUT.fullmatch(name) is None:
            said = name.removeprefix("eval_").replace("_", " ")
            panel(f"evaluation: {said}").series[said] = name
    return list(panels.values())


def loss_names(rows: list[dict]) -> list[str]:
    """Each loss of a run, less their total."""
    no_losses = ("accuracy", "_prior")
    return [name for name in names_of_steps(rows) if name not in NO_LOSSES and not name.endswith(no_losses)]


def names_of_steps(rows: list[dict]) -> list[str]:
    """The numbers that rows of steps hold, in their order."""
    steps = [row for row in rows if "loss" in row]
    names = dict.fromkeys(name for row in steps for name in row)
    return [name for name in names if with_number(steps, name)]


def with_number(rows: Iterable[dict], name: str) -> list[dict]:
    """Those in which `name` is a number."""
    return [row for row in rows if _is_number(row.get(name))]


def _is_number(value: object) -> bool:
    """One that can be drawn: neither infinite nor NaN, nor an integer beyond all floats."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
