"""Grounding in the drawn scenes, where each object's place is known: the runs of `ablation_scenes`, arm all.

As they are, and fine-tuned on phrases without boxes.
"""

from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_scene_phrases, prepare_scenes

COLUMNS = {
    "pointing": "pointing",
    "accuracy": "boxes",
    "blind_middle": "pointing at the middle",
    "blind_random": "a random box",
    "blind_largest": "the largest box",
}
OPTIONS = {
    "config": "configs/finetune/demo_grounding.yaml",
    "init": "$runs/../ablation_scenes/all/$seed/pretrain",
    "data.val": "$data/scene_phrases/val/*.tar",
    "data.workers": 0,
}
TRAIN = {"data.train": "[{shards: '$data/scene_phrases/train/*.tar'}]"}


def prepare(source: Path, out: Path) -> None:
    """Scenes and phrases."""
    prepare_scenes(source, out)
    prepare_scene_phrases(source, out)


EXPERIMENT = Experiment(
    "Grounding in drawn scenes",
    arms={
        "before": Arm("as pre-trained", (Stage("evaluate", ("-m", "tcl", "evaluate"), OPTIONS),)),
        "tuned": Arm("fine-tuned on phrases", (Stage("train", ("finetune.py",), OPTIONS | TRAIN),)),
    },
    seeds=(0, 1, 2),
    columns=COLUMNS,
    compared=("pointing", "accuracy"),
    against={"tuned": "before"},
    prepare=prepare,
)
