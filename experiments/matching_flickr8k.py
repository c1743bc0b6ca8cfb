"""Few tokens an image on photographs: the runs of `flickr8k`, arm model, whose images have 37 tokens."""

from experiments.few_tokens import matching_experiment
from experiments.flickr8k import PLAIN_PAIRS, RUN, VAL, prepare

TRAINING = {
    **PLAIN_PAIRS,
    "data.val": VAL,
    "objective.mlm_weight": 0.0,
    "objective.itm_hardness": 0.3,
    "objective.distil_itm_weight": 1.0,
    "optim.warmup_steps": 20,
    "train.batch_size": 64,
    "train.steps": 200,
    "eval.every": 200,
    "eval.rerank_k": 16,
    "eval.rerank_similarity": 0.5,
}

EXPERIMENT = matching_experiment(
    "Few tokens on Flickr8k",
    RUN,
    (32, 16, 8),
    TRAINING,
    similarity=0.5,
    prepare=prepare,
)
