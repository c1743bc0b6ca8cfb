"""Re-scoring on the drawn scenes: the runs of `ablation_scenes`, arm all."""

from experiments.prepare_data import prepare_scenes
from experiments.rescoring import rescoring_experiment

EXPERIMENT = rescoring_experiment(
    "Re-scoring on drawn scenes",
    {
        "init": "$runs/../ablation_scenes/all/$seed/pretrain",
        "data.val": "$data/scenes/val/*.tar",
        "data.max_tokens": 32,
        "eval.rerank_k": 16,
    },
    bank="$data/scenes/train/00000[0-1].tar",
    prepare=prepare_scenes,
)
