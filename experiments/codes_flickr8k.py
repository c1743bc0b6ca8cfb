"""What a photograph costs to keep for search: the runs of `flickr8k`, arm model, whose embeddings have 256 numbers.

Their towers are frozen: codes learn heads of their own on them, and the fusion encoder stays as it is.
"""

from experiments.flickr8k import PLAIN_PAIRS, RUN, VAL, prepare
from experiments.kept_bytes import search_experiment

SHARED = {
    **PLAIN_PAIRS,
    "optim.lr": 1e-3,
    "optim.warmup_steps": 60,
    "train.batch_size": 64,
    "train.steps": 600,
    "eval.every": 600,
    "eval.rerank_k": 16,
    "eval.rerank_similarity": 0.5,
    "objective.itm_weight": 0.0,
}
ALIGNMENT = {
    "objective.mlm_weight": 0.0,
    "objective.queue_size": 64,
    "objective.momentum": 0.9,
    "objective.alpha": 0.0,
    "objective.cma_weight": 3.0,
    "objective.imc_weight": 0.5,
    "objective.lmi_weight": 0.5,
}

EXPERIMENT = search_experiment(
    "Codes on Flickr8k",
    RUN,
    val=VAL,
    fitted_to="$data/flickr8k/train/*.tar",
    similarity=0.5,
    tuning=SHARED | ALIGNMENT,
    coding=SHARED | {"quantise.dim": 256},
    soft={"quantise.alpha": 30.0},  # of parts of 32 numbers: with 10, half of a part's mean is codewords that are far
    prepare=prepare,
)
