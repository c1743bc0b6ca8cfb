"""Choose how to re-score a search against hubs: every method at some temperatures, on pairs kept for that.

    tcl rescore runs/mine --val 'data/dev/*.tar' --bank 'data/train/*.tar'
    tcl rescore runs/mine --val 'data/dev/*.tar' --bank 'data/train/*.tar' --temperatures 0.02,0.05 --out rescore.json

Recalls by embedding, in percent; the gain is that of their mean over no re-scoring, with its 95 % interval over the
queries. The choice is none unless the best gain is above what chance gives. --bank: shards of other images, whose
captions and images are the queries by which candidates are judged.
"""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tcl.commands.model_options import add_model_options, load_model
from tcl.commands.parser import command_parser
from tcl.config.checks import require
from tcl.errors import InputError
from tcl.shown import say

if TYPE_CHECKING:
    from tcl.evaluation.choose_rescoring import Trial

SHOWN = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")


def parser() -> argparse.ArgumentParser:
    """What `tcl rescore --help` lists."""
    options = command_parser("tcl rescore", __doc__)
    add_model_options(options)
    options.add_argument("--val", required=True, metavar="PATTERN", help="shards of pairs to choose on")
    options.add_argument("--bank", required=True, metavar="PATTERN", help="shards of other pairs, the stored queries")
    options.add_argument(
        "--temperatures", default="0.01,0.02,0.05,0.1", metavar="T,T", help="to try (default 0.01,0.02,0.05,0.1)"
    )
    options.add_argument("--iterations", type=int, default=5, metavar="N", help="of sinkhorn (default 5)")
    options.add_argument("--out", type=Path, metavar="FILE", help="all that was tried, as JSON")
    return options


def main(arguments: list[str]) -> None:
    """InputError: impossible options, no model, no pairs, a bank that holds images of --val."""
    given = parser().parse_args(arguments)
    temperatures = [_temperature(one) for one in given.temperatures.split(",")]
    require(given.iterations >= 1, "iterations", given.iterations, "1 or more")
    import torch

    from tcl.data.sets.retrieval_set import load_retrieval_set
    from tcl.evaluation.choose_rescoring import best_trial, try_rescorings
    from tcl.evaluation.rescoring_bank import load_bank
    from tcl.inference.images import MAX_PIXELS
    from tcl.inference.own_towers import OwnTowers

    model = load_model(OwnTowers, given)
    reading = {"max_words": model.pretrained.max_words, "max_pixels": MAX_PIXELS}
    pairs = load_retrieval_set(given.val, field="val", **reading)
    bank = load_bank(given.bank, pairs, field="bank", **reading)
    embedded = [
        torch.from_numpy(features)
        for one in (pairs, bank)
        for features in (model.encode_image(one.images), model.encode_text(one.captions))
    ]
    say(f"{'':16}     T  " + "  ".join(f"{name:>7}" for name in SHOWN) + "  gain of their mean")
    trials = []
    for trial in try_rescorings(*embedded[:2], pairs.pairs, tuple(embedded[2:]), temperatures, given.iterations):
        trials.append(trial)
        say(_row(trial))
    chosen = best_trial(trials)
    say(_choice(chosen, trials))
    if given.out is not None:
        _write(given.out, {"chosen": asdict(chosen), "tried": [asdict(one) for one in trials]})


def _write(out: Path, found: dict) -> None:
    try:
        out.write_text(json.dumps(found, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror or error}); name another file") from error


def _temperature(said: str) -> float:
    try:
        temperature = float(said)
    except ValueError as error:
        raise InputError(f"temperatures: {said!r} is no number; give some > 0, separated by commas") from error
    require(0 < temperature < math.inf, "temperatures", temperature, "numbers > 0")
    return temperature


def _row(trial: "Trial") -> str:
    temperature = "" if trial.temperature is None else f"{trial.temperature:g}"
    recalls = "  ".join(f"{trial.metrics[name]:7.1f}" for name in SHOWN)
    gain = "" if trial.temperature is None else f"  {trial.gain:+.2f} +- {trial.margin:.2f}"
    return f"{trial.method:16} {temperature:>5}  {recalls}{gain}"


def _choice(chosen: "Trial", trials: list["Trial"]) -> str:
    if chosen.method != "none":
        return f"best: --eval.rescore {chosen.method} --eval.rescore_temperature {chosen.temperature:g}"
    near = max(trials[1:], key=lambda trial: trial.gain)
    gain = f"{near.gain:+.2f} +- {near.margin:.2f}"
    return f"best: none; {near.method} at {near.temperature:g} comes nearest to a gain, {gain}"
