"""What a scene costs to keep for search: the runs of `scenes_96`, whose embeddings have 128 numbers."""

from experiments.kept_bytes import search_experiment
from experiments.prepare_data import prepare_large_scenes
from experiments.scenes_96 import VAL, WHOLE_SCENES

SHARED = {
    **WHOLE_SCENES,
    "optim.lr": 5e-4,
    "optim.warmup_steps": 40,
    "train.batch_size": 64,
    "train.steps": 600,
    "eval.every": 600,
    "eval.rerank_k": 16,
}

EXPERIMENT = search_experiment(
    "Codes on drawn scenes",
    "$runs/../scenes_96/model/$seed/pretrain",
    val=VAL,
    fitted_to="$data/scenes_96/train/00000[0-9].tar",
    similarity=0.0,
    tuning=SHARED | {"objective.mlm_weight": 0.0, "objective.queue_size": 64, "objective.momentum": 0.98},
    coding=SHARED | {"quantise.dim": 128},
    soft={},
    prepare=prepare_large_scenes,
)
