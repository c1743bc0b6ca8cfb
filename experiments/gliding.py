"""Directions in which crops glide over photographs: left, right, up or down, of 150 clips to learn from and 80 others.

A photograph comes in two opposite directions that show the same crops in reverse order: frames that do not know of each
other can tell the axis at best, which is 50 %. Learned as all clips are, by contrast with a caption, the direction's
name; judged by a linear probe of the features. Patches are 4 of 32 pixels, of which a crop moves by a quarter from
frame to frame: with 16 of 64, 300 steps taught no direction. Attention over frames begins as nothing: in a trial of 200
steps at a rate of 0.002, in which shift had learned, it came to know the axis alone.
"""

from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_gliding

TRAIN, VAL = "$data/gliding/train/*.tar", "$data/gliding/dev/*.tar"
OPTIONS = {
    "objective": "clips",
    "objective.va_weight": 0.0,  # the sound is the photograph's caption, read aloud
    "data.train": f"[{{shards: '{TRAIN}'}}]",
    "data.workers": 0,
    "data.max_tokens": 4,
    "data.clips.captions": 1,
    "data.augment.crop_scale": [0.6, 1.0],
    "data.augment.flip_prob": 0.0,
    "data.augment.color_jitter": [0.4, 0.4, 0.0, 0.0],
    "data.augment.grayscale_prob": 0.0,
    "data.augment.blur_prob": 0.0,
    "data.augment.randaugment_ops": 0,
    "model.image.name": "vit_tiny_patch16_224",
    "model.image.image_size": 32,
    "model.image.position_std": 0.5,
    "model.image.overrides": {
        **{"patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "weight_init": "jax"}
    },
    "model.video.frames": 4,
    "model.video.fps": 4.0,
    "model.audio.overrides": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "model.audio.seconds": 0.1,
    "model.text.tokenizer": "$data/words_of_gliding",
    "model.text.pooling": "mean",
    "model.text.overrides": {
        **{"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128},
        **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.06},
    },
    "model.spaces.coarse_dim": 64,
    "model.spaces.fine_dim": 64,
    "optim.lr": 5.0e-3,
    "optim.warmup_steps": 30,
    "optim.warmup_lr": 1.0e-4,
    "optim.min_lr": 1.0e-5,
    "optim.betas": [0.9, 0.98],
    "train.batch_size": 32,
    "train.steps": 300,
    "train.log_every": 40,
    "train.save_every": 1000,
}
PROBE = Stage(
    "probe",
    ("-m", "tcl", "evaluate"),
    {
        "task": "linear_probe",
        "init": "$here/train",
        "classes": "$data/gliding/classes.txt",
        "probe.features": "video",
        "probe.train": TRAIN,
        "probe.windows": 5,
        "data.val": VAL,
        "data.workers": 0,
    },
)


def arm(title: str, temporal: str) -> Arm:
    return Arm(title, (Stage("train", ("pretrain.py",), OPTIONS | {"model.video.temporal": temporal}), PROBE))


EXPERIMENT = Experiment(
    "Directions of gliding clips",
    arms={
        "none": arm("frames alone", "none"),
        "shift": arm("shift", "shift"),
        "attention": arm("attention over frames", "attention"),
    },
    seeds=(0, 1, 2),
    columns={"top1": "direction, linear probe"},
    compared=("top1",),
    against={"shift": "none", "attention": "none"},
    prepare=prepare_gliding,
)
