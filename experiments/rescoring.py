"""Re-scoring against hubs, as an experiment: a trained model, evaluated in each way.

Captions and images of training are the bank. Temperatures are given, not chosen on what is evaluated.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage

BY_BANK = {
    "inverted_softmax": ("inverted softmax, 0.05", "inverted_softmax", 0.05),
    "inverted_softmax_cold": ("inverted softmax, 0.02", "inverted_softmax", 0.02),
    "sinkhorn": ("Sinkhorn, 0.05", "sinkhorn", 0.05),
    "sinkhorn_cold": ("Sinkhorn, 0.02", "sinkhorn", 0.02),
    "dsl": ("dual softmax, 0.05", "dsl", 0.05),
    "qb_norm": ("QB-Norm, 0.05", "qb_norm", 0.05),
}


def rescoring_experiment(
    title: str, model: Mapping[str, object], bank: str, prepare: Callable[[Path, Path], None]
) -> Experiment:
    """model: options of `tcl evaluate` that say what is evaluated on what. bank: shards."""

    def evaluated(arm: str, **rescore: object) -> Arm:
        options = {"task": "retrieval", **model, **{f"eval.{name}": value for name, value in rescore.items()}}
        return Arm(arm, (Stage("evaluate", ("-m", "tcl", "evaluate"), options),))

    by_bank = {
        name: evaluated(arm, rescore=method, rescore_bank=bank, rescore_temperature=temperature)
        for name, (arm, method, temperature) in BY_BANK.items()
    }
    by_themselves = {
        "transductive": evaluated("Sinkhorn of the test queries, 0.05", rescore="sinkhorn", rescore_temperature=0.05)
    }
    return Experiment(
        title,
        arms={"none": evaluated("as they are"), **by_bank, **by_themselves},
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
        against=dict.fromkeys([*by_bank, *by_themselves], "none"),
        prepare=prepare,
    )
