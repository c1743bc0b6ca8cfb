"""Retrieval fine-tuning on photographs: `flickr8k`, arm model, goes on with the published hard negatives."""

from experiments.experiment import Arm, Experiment, Stage
from experiments.flickr8k import ACCURACY, RECALLS, VAL, prepare, training

MODEL = "$runs/../flickr8k/model/$seed/train"
BEFORE = Stage(
    "evaluate",
    ("-m", "tcl", "evaluate"),
    {
        "task": "retrieval",
        "init": MODEL,
        "data.val": VAL,
        "data.max_tokens": 18,
        "eval.rerank_k": 16,
        "eval.rerank_similarity": 0.5,
    },
)
HARDER = {"init": MODEL, "objective.itm_hardness": 1.0, "optim.lr": 1e-4, "train.steps": 400}

EXPERIMENT = Experiment(
    "Retrieval fine-tuned on Flickr8k",
    arms={
        "before": Arm("before", (BEFORE,)),
        "harder": Arm("400 steps with hard negatives", (training(HARDER), ACCURACY)),
    },
    seeds=(0, 1, 2),
    columns={
        **RECALLS,
        "rerank_i2t_r1": "image to text R@1, re-ranked",
        "rerank_t2i_r1": "text to image R@1, re-ranked",
    },
    compared=("i2t_r1", "t2i_r1", "rerank_i2t_r1", "rerank_t2i_r1"),
    against={"harder": "before"},
    prepare=prepare,
)
