"""The folder of a run: each of its files, and what lies around them."""

import random
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from data_files import write_shards

from tcl.checkpoints.hub import load_pretrained
from tcl.checkpoints.initial import initial_weights
from tcl.command_line import parse_pretrain
from tcl.errors import InputError
from tcl.training.pretrain import build_pretraining
from tcl.training.run import train
from tests.fuzz.tree import change_a_file
from tools.train_tokenizer import train_tokenizer

good: dict[str, object] = {}
"""The configuration of the run, and the weights after each of its steps."""
STEPS = ("step_00000001", "step_00000002")


def prepare(folder: Path) -> None:
    """A run of two steps, as it was left."""
    shards = write_shards(folder / "data", [8])
    train_tokenizer(shards, folder / "tokenizer", vocab_size=100)
    good["config"] = parse_pretrain(
        [
            f"--data.train=[{{'shards': '{shards}'}}]",
            "--data.workers=0",
            "--data.shuffle_buffer=2",
            "--model.embed_dim=8",
            "--model.image.image_size=32",
            "--model.image.overrides={embed_dim: 24, depth: 1, num_heads: 2}",
            f"--model.text.tokenizer={folder / 'tokenizer'}",
            "--model.text.overrides={hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, "
            "intermediate_size: 32}",
            "--objective.queue_size=8",
            "--train.batch_size=2",
            "--train.steps=2",
            "--train.save_every=1",
            "--train.precision=fp32",
            f"--output_dir={folder / 'run'}",
        ]
    )
    train(good["config"], build_pretraining)
    for step in STEPS:
        good[step] = weights_of(folder / "run" / "checkpoints" / step)


def weights_of(place: Path) -> dict[str, torch.Tensor]:
    """What a model that is loaded from there holds."""
    return load_pretrained(str(place)).student.state_dict()


def make(prepared: Path, folder: Path, rng: random.Random) -> str:
    """A copy of the run with one file changed, gone, or another kind of file."""
    shutil.copytree(prepared / "run", folder / "run", symlinks=True)
    return change_a_file(folder / "run", rng)


def check(folder: Path) -> None:
    """Loaded, fine-tuned from, and gone on with."""
    run = folder / "run"
    newest = run / "checkpoints" / STEPS[1]
    for place, accepted in ((run, STEPS), (newest, STEPS[1:])):  # a run whose newest is damaged has another
        with suppress(InputError):
            weights = weights_of(place)
            assert any(same(weights, good[step]) for step in accepted), "changed weights are accepted"
        with suppress(InputError):
            initial_weights(str(place))
    train(replace(good["config"], output_dir=str(run)), build_pretraining)


def same(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    """Bit by bit, whatever more there is."""
    return all(name in weights and torch.equal(weights[name], tensor) for name, tensor in others.items())
