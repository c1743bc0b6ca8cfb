"""Grounding in photographs: phrases of COCO's captions, by the runs of `flickr8k`, arm model.

As they are, and fine-tuned on Flickr8k's captions with ALBEF's weights of the losses.
"""

from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage
from experiments.flickr8k import RUN
from experiments.flickr8k import prepare as prepare_pairs
from experiments.grounding_scenes import COLUMNS
from experiments.prepare_data import prepare_coco_phrases

OPTIONS = {
    "config": "configs/finetune/grounding_coco_mini.yaml",
    "init": RUN,
    "data.val": "$data/coco_phrases/dev/*.tar",
    "data.workers": 0,
    "data.max_tokens": 18,
}
TRAIN = {"data.train": "[{shards: '$data/flickr8k/train/*.tar'}]"}


def prepare(source: Path, out: Path) -> None:
    """Pairs, phrases and weights."""
    prepare_pairs(source, out)
    prepare_coco_phrases(source, out)


EXPERIMENT = Experiment(
    "Grounding in photographs",
    arms={
        "before": Arm("as pre-trained", (Stage("evaluate", ("-m", "tcl", "evaluate"), OPTIONS),)),
        "tuned": Arm("fine-tuned on captions", (Stage("train", ("finetune.py",), OPTIONS | TRAIN),)),
    },
    seeds=(0, 1, 2),
    columns=COLUMNS,
    compared=("pointing", "accuracy"),
    against={"tuned": "before"},
    prepare=prepare,
)
