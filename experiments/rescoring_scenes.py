"""Re-scoring against hubs on the drawn scenes: the runs of `ablation_scenes` (arm all), evaluated in each way.

Captions and images of training are the bank. Temperatures are given, not chosen on what is evaluated.
"""

from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_scenes

BANK_SHARDS = "$data/scenes/train/00000[0-1].tar"


def evaluated(title: str, **rescore: object) -> Arm:
    """The trained model, with some fields of `eval`."""
    options = {
        "task": "retrieval",
        "init": "$runs/../ablation_scenes/all/$seed/pretrain",
        "data.val": "$data/scenes/val/*.tar",
        "data.max_tokens": 32,
        "eval.rerank_k": 16,
        **{f"eval.{name}": value for name, value in rescore.items()},
    }
    return Arm(title, (Stage("evaluate", ("-m", "tcl", "evaluate"), options),))


def rescored(title: str, method: str, temperature: float) -> Arm:
    """By the bank."""
    return evaluated(title, rescore=method, rescore_bank=BANK_SHARDS, rescore_temperature=temperature)


BY_BANK = {
    "inverted_softmax": rescored("inverted softmax, 0.05", "inverted_softmax", 0.05),
    "inverted_softmax_cold": rescored("inverted softmax, 0.02", "inverted_softmax", 0.02),
    "sinkhorn": rescored("Sinkhorn, 0.05", "sinkhorn", 0.05),
    "sinkhorn_cold": rescored("Sinkhorn, 0.02", "sinkhorn", 0.02),
    "dsl": rescored("dual softmax, 0.05", "dsl", 0.05),
    "qb_norm": rescored("QB-Norm, 0.05", "qb_norm", 0.05),
}
BY_THEMSELVES = {
    "transductive": evaluated("Sinkhorn of the test queries, 0.05", rescore="sinkhorn", rescore_temperature=0.05)
}

EXPERIMENT = Experiment(
    "Re-scoring on drawn scenes",
    arms={"none": evaluated("as they are"), **BY_BANK, **BY_THEMSELVES},
    seeds=(0, 1, 2),
    columns={
        "i2t_r1": "image to text",
        "t2i_r1": "text to image",
        "rescored_i2t_r1": "image to text, re-scored",
        "rescored_t2i_r1": "text to image, re-scored",
        "transductive_i2t_r1": "image to text, transductive",
        "transductive_t2i_r1": "text to image, transductive",
        "rerank_i2t_r1": "image to text, re-ranked",
        "rerank_t2i_r1": "text to image, re-ranked",
    },
    compared=("rerank_i2t_r1", "rerank_t2i_r1"),
    against=dict.fromkeys([*BY_BANK, *BY_THEMSELVES], "none"),
    prepare=prepare_scenes,
)
