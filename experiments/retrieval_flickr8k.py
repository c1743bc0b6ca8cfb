"""Retrieval fine-tuning on photographs: `flickr8k`, arm model, goes on with the published hard negatives.

As it was, and with both towers trained, which it had left as others made them.
"""

from experiments.experiment import Arm, Experiment, Stage
from experiments.flickr8k import ACCURACY, RECALLS, RUN, VAL, prepare, training

TUNED = "$runs/../retrieval_flickr8k/towers/$seed/train"
"""The run of arm towers, from which other experiments start."""
BEFORE = Stage(
    "evaluate",
    ("-m", "tcl", "evaluate"),
    {
        "task": "retrieval",
        "init": RUN,
        "data.val": VAL,
        "data.max_tokens": 18,
        "eval.rerank_k": 16,
        "eval.rerank_similarity": 0.5,
    },
)
HARDER = {"init": RUN, "objective.itm_hardness": 1.0, "optim.lr": 1e-4, "train.steps": 400}
TOWERS = HARDER | {
    "model.image.frozen": False,
    "model.image.frozen_norms": True,  # these weights have their batch norms folded in
    "model.image.remember": 0,
    "model.text.frozen": False,
    "model.text.remember": 0,
    "data.augment.views": None,
    "optim.min_lr": 1e-6,
    "optim.warmup_lr": 1e-6,
}

EXPERIMENT = Experiment(
    "Retrieval fine-tuned on Flickr8k",
    arms={
        "before": Arm("before", (BEFORE,)),
        "harder": Arm("400 steps with hard negatives", (training(HARDER), ACCURACY)),
        "towers": Arm("the same, both towers trained", (training(TOWERS), ACCURACY)),
    },
    seeds=(0, 1, 2),
    columns={
        **RECALLS,
        "rerank_i2t_r1": "image to text R@1, re-ranked",
        "rerank_t2i_r1": "text to image R@1, re-ranked",
        "itm_accuracy": "ITM accuracy",
    },
    compared=("i2t_r1", "t2i_r1", "rerank_i2t_r1", "rerank_t2i_r1"),
    against={"harder": "before", "towers": "before"},
    prepare=prepare,
)
