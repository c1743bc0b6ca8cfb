"""The demo's pre-training on scenes of 96 pixels in patches of 12: 65 tokens an image, to be made fewer."""

from experiments.ablation_scenes import EMBEDDINGS, RERANKED
from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_large_scenes

VAL = "$data/scenes_96/val/*.tar"
WHOLE_SCENES = {
    "data.train": "[{shards: '$data/scenes_96/train/*.tar'}]",
    "data.workers": 0,
    "data.max_tokens": 32,
    "data.augment.whole_image": True,
    "data.augment.flip_prob": 0.0,
    "data.augment.color_jitter_prob": 0.0,
    "data.augment.grayscale_prob": 0.0,
    "data.augment.blur_prob": 0.0,
    "data.augment.randaugment_ops": 0,
}
"""Options of a run that goes on from one of these and trains on its scenes as they are."""
TRAINING = Stage(
    "pretrain",
    ("pretrain.py",),
    {
        "config": "configs/pretrain/demo.yaml",
        "data.train": "[{shards: '$data/scenes_96/train/*.tar'}]",
        "data.val": VAL,
        "data.workers": 0,
        "model.embed_dim": 128,  # which 64 codes of a byte divide
        "model.image.image_size": 96,
        "model.image.overrides": {
            **{"embed_dim": 96, "depth": 3, "num_heads": 2, "mlp_ratio": 2, "weight_init": "jax"},
            "patch_size": 12,
        },
        "model.text.tokenizer": "$data/words_of_scenes",
        "objective.mlm_probability": 0.15,  # as published; the demo hides more, for its questions
        "train.steps": 1600,
        "eval.every": 800,
    },
)

EXPERIMENT = Experiment(
    "Drawn scenes of 65 tokens",
    arms={"model": Arm("CMA + IMC + LMI, ITM, MLM", (TRAINING,))},
    seeds=(0, 1, 2),
    columns=EMBEDDINGS | RERANKED,
    compared=("rerank_i2t_r1", "rerank_t2i_r1"),
    prepare=prepare_large_scenes,
)
