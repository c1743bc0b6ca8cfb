"""Flickr8k from random weights, for comparison: 256,000 pairs of the contrastive losses alone, small networks."""

from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage
from experiments.flickr8k import RECALLS, VAL
from experiments.prepare_data import prepare_flickr8k
from tcl.data.texts.vocabulary import train_tokenizer

TRAINING = Stage(
    "pretrain",
    ("pretrain.py",),
    {
        "config": "configs/pretrain/flickr8k_cpu.yaml",
        "data.train": "[{shards: '$data/flickr8k/train/*.tar'}]",
        "data.val": VAL,
        "data.workers": 0,
        "model.text.tokenizer": "$data/words_of_flickr8k",
        "objective.itm_weight": 0,
        "objective.mlm_weight": 0,
        "train.batch_size": 128,
        "train.steps": 2000,
        "eval.every": 400,
        "eval.rerank_k": 0,
    },
)


def prepare(source: Path, out: Path) -> None:
    """Shards and a vocabulary of their own."""
    prepare_flickr8k(source, out)
    if not (out / "words_of_flickr8k").exists():
        train_tokenizer(f"{out}/flickr8k/train/*.tar", out / "words_of_flickr8k", vocab_size=4000)


EXPERIMENT = Experiment(
    "Flickr8k from random weights",
    arms={"align": Arm("CMA + IMC + LMI", (TRAINING,))},
    seeds=(0, 1, 2),
    columns=RECALLS,
    compared=("i2t_r10", "t2i_r10"),
    prepare=prepare,
)
