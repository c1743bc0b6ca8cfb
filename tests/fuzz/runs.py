"""The folder of a run, one file of which is damaged, removed or swapped: loaded, used as initial weights, resumed."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

from tcl.checkpoints.initial import initial_weights
from tcl.config.optim import OptimConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig
from tcl.exports.pretrained import load_pretrained
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.tasks.pretrain import build as build_pretraining
from tcl.training.run import train
from tests.data_files import TOKENIZER, config, write_shards
from tests.fuzz.case import Wrong, run_cases
from tests.fuzz.exports import require_same
from tests.fuzz.folders import spoil_a_file
from tests.tiny import MODEL

STEPS = 2


class Good(NamedTuple):
    """A run of STEPS steps with a checkpoint of each."""

    run: Path
    config: PretrainConfig


def prepare(folder: Path) -> Good:
    TOKENIZER.save_pretrained(folder / "tokenizer")
    of_run = PretrainConfig(
        output_dir=str(folder / "run"),
        model=replace(MODEL, text=replace(MODEL.text, tokenizer=str(folder / "tokenizer"))),
        objective=ObjectiveConfig(queue_size=4),
        data=config(write_shards(folder / "shards", [4])),
        optim=OptimConfig(warmup_steps=0),
        train=TrainConfig(batch_size=2, steps=STEPS, save_every=1, log_every=1),
    )
    said = run_cases(lambda _: train(of_run, build_pretraining), [folder])  # this process stays without threads
    if said is not None:
        raise RuntimeError(said)
    return Good(folder / "run", of_run)


def mutate(good: Good, rng: Random, folder: Path) -> None:
    shutil.copytree(good.run, folder / rng.choice(("load", "load", "start", "resume")), symlinks=True)
    (run,) = folder.iterdir()
    spoil_a_file(run, rng)
    if run.name == "resume":  # a checkpoint that the next step would follow
        shutil.rmtree(run / "checkpoints" / f"step_{STEPS:08d}", ignore_errors=True)


def read(good: Good, folder: Path) -> None:
    warnings.simplefilter("ignore")
    (run,) = folder.iterdir()
    if run.name == "resume":
        train(replace(good.config, output_dir=str(run)), build_pretraining)
        return
    load = initial_weights if run.name == "start" else _loaded
    found = load(str(run))
    for step in (STEPS, STEPS - 1):  # the one before, where the newest is damaged
        expected = load(str(good.run / "checkpoints" / f"step_{step:08d}"))
        try:
            require_same(found, expected)
            return
        except Wrong:
            continue
    raise Wrong("the weights are those of no checkpoint")


def _loaded(path: str) -> dict:
    return load_pretrained(path).student.state_dict()
