"""DAQUAR's questions, answered by the fusion encoder of `flickr8k` (arm model), by that and the towers of
`retrieval_flickr8k` (arm towers), and by a new one on the towers of `flickr8k`."""

from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage
from experiments.flickr8k import RUN, WEIGHTS
from experiments.prepare_data import prepare_daquar, prepare_encoders
from experiments.retrieval_flickr8k import TUNED

OPTIONS = {
    "config": "experiments/daquar.yaml",
    "data.train": "[{shards: '$data/daquar/train/*.tar'}]",
    "data.val": "$data/daquar/dev/*.tar",
    "answers.list": "$data/daquar/answers.txt",
}
PRETRAINED = {"init": RUN}
TOWERS = {"init": TUNED}


def prepare(source: Path, out: Path) -> None:
    """Shards, answers and weights."""
    prepare_daquar(source, out)
    prepare_encoders(source, out)


EXPERIMENT = Experiment(
    "DAQUAR",
    arms={
        "scratch": Arm("a new fusion encoder", (Stage("vqa", ("finetune.py",), OPTIONS | WEIGHTS),)),
        "pretrained": Arm("that of flickr8k", (Stage("vqa", ("finetune.py",), OPTIONS | WEIGHTS | PRETRAINED),)),
        "towers": Arm(
            "all of retrieval_flickr8k, both towers trained",
            (Stage("vqa", ("finetune.py",), OPTIONS | WEIGHTS | TOWERS),),
        ),
    },
    seeds=(0, 1, 2),
    columns={"accuracy": "accuracy"},
    compared=("accuracy",),
    against={"pretrained": "scratch", "towers": "scratch"},
    prepare=prepare,
)
