"""Grounding in the drawn scenes, where each object's place is known: the runs of `scenes_96`, of 8 x 8 patches.

As they are, by the layers of the fusion encoder and the later blocks of the ViT, and with encoders tuned on phrases
without boxes. (The demo's own model has 3 x 3 patches, each as large as an object and its neighbour.)
"""

from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_large_scenes, prepare_scene_phrases

COLUMNS = {
    "pointing": "pointing",
    "accuracy": "boxes",
    "blind_middle": "pointing at the middle",
    "blind_random": "a random box",
    "blind_largest": "the largest box",
}
OPTIONS = {
    "config": "configs/finetune/demo_grounding.yaml",
    "init": "$runs/../scenes_96/model/$seed/pretrain",
    "data.val": "$data/scene_phrases_96/val/*.tar",
    "data.workers": 0,
}
TRAIN = {
    "eval.mode": "itc",
    "eval.layer": 1,
    "objective.itm_weight": 0.0,
    "objective.lmi_weight": 1.0,
    "data.train": "[{shards: '$data/scene_phrases_96/train/*.tar'}]",
}


def evaluated(**how: object) -> Stage:
    """how: fields of the section eval."""
    options = OPTIONS | {f"eval.{name}": value for name, value in how.items()}
    return Stage("evaluate", ("-m", "tcl", "evaluate"), options)


def prepare(source: Path, out: Path) -> None:
    """Scenes and phrases."""
    prepare_large_scenes(source, out)
    prepare_scene_phrases(source, out)


EXPERIMENT = Experiment(
    "Grounding in drawn scenes",
    arms={
        "first": Arm("as pre-trained, first fusion layer", (evaluated(layer=0),)),
        "second": Arm("as pre-trained, second fusion layer", (evaluated(layer=1),)),
        "vit": Arm("as pre-trained, second of three blocks of the ViT", (evaluated(layer=1, mode="itc"),)),
        "vit_last": Arm("as pre-trained, last block of the ViT", (evaluated(layer=2, mode="itc"),)),
        "tuned": Arm("fine-tuned on phrases, second block", (Stage("train", ("finetune.py",), OPTIONS | TRAIN),)),
    },
    seeds=(0, 1, 2),
    columns=COLUMNS,
    compared=("pointing", "accuracy"),
    against=dict.fromkeys(["first", "second", "vit_last", "tuned"], "vit"),
    prepare=prepare,
)
