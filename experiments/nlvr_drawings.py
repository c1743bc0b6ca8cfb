"""Sentences about two images: NLVR's drawings, from random weights.

Without any image, the commonest label is right in 55.3 % of dev, naive Bayes on the sentence in 53.8 %.
"""

from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_drawings

TRAINING = Stage(
    "train",
    ("finetune.py",),
    {
        "config": "configs/finetune/nlvr_drawings.yaml",
        "data.train": "[{shards: '$data/nlvr/train/*.tar'}]",
        "data.val": "$data/nlvr/dev/*.tar",
        "data.workers": 0,
        "model.text.tokenizer": "$data/words_of_nlvr",
    },
)

EXPERIMENT = Experiment(
    "NLVR's drawings",
    arms={"scratch": Arm("from random weights", (TRAINING,))},
    seeds=(0, 1, 2),
    columns={"accuracy": "accuracy", "consistency": "consistency"},
    compared=("accuracy",),
    prepare=prepare_drawings,
)
