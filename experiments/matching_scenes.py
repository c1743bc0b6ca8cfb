"""Few tokens an image on drawn scenes: the runs of `scenes_96`."""

from experiments.few_tokens import matching_experiment
from experiments.prepare_data import prepare_large_scenes
from experiments.scenes_96 import VAL, WHOLE_SCENES

TRAINING = {
    **WHOLE_SCENES,
    "data.val": VAL,
    "objective.distil_itm_weight": 1.0,
    "optim.warmup_steps": 20,
    "train.batch_size": 64,
    "train.steps": 200,
    "eval.every": 200,
    "eval.rerank_k": 16,
}

EXPERIMENT = matching_experiment(
    "Few tokens on drawn scenes",
    "$runs/../scenes_96/model/$seed/pretrain",
    (64, 32, 16, 8),
    TRAINING,
    similarity=0.0,
    prepare=prepare_large_scenes,
)
