"""Photographs, speech and text from the runs of `flickr8k`, arm model: 753 photographs, a caption spoken, four written.

The spoken caption is none of the written ones. One synthetic voice reads all: this says nothing of human speech. Image
and text towers are the frozen ones of that run, the encoder of sound and all heads begin random. Sound and text are
never compared in training (zero-shot); with disjoint spaces they have none in common.
"""

from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage
from experiments.flickr8k import RUN
from experiments.flickr8k import prepare as prepare_pairs
from experiments.prepare_data import prepare_speech

OPTIONS = {
    "objective": "clips",
    "init": RUN,
    "data.train": "[{shards: '$data/speech/train/*.tar'}]",
    "data.val": "$data/speech/dev/*.tar",
    "data.workers": 0,
    "data.max_tokens": 18,
    "data.clips.captions": 4,
    "data.augment.whole_image": True,  # whose features are computed once
    "data.augment.flip_prob": 0.0,
    "data.augment.color_jitter_prob": 0.0,
    "data.augment.grayscale_prob": 0.0,
    "data.augment.blur_prob": 0.0,
    "data.augment.randaugment_ops": 0,
    "model.image.remember": 1000,
    "model.text.remember": 4000,
    "model.video.frames": 1,
    "model.video.temporal": "none",
    "model.audio.seconds": 6.0,
    "model.audio.spectrogram": {"sample_rate": 16000, "window": 1024, "hop": 320, "mel_bins": 80, "high_hz": 7600.0},
    "model.audio.overrides": {"patch_size": [10, 80], "embed_dim": 192, "depth": 4, "num_heads": 3},
    "optim.lr": 1.0e-3,
    "optim.warmup_steps": 20,
    "optim.warmup_lr": 1.0e-5,
    "optim.min_lr": 1.0e-5,
    "optim.betas": [0.9, 0.98],
    "train.batch_size": 64,
    "train.steps": 80,
    "train.log_every": 20,
    "train.save_every": 1000,
    "eval.every": 80,
    "eval.max_images": None,
}
COLUMNS = {
    f"{one}2{other}_r{k}": f"{name} R@{k}"
    for one, other, name in (
        ("video", "audio", "photo to speech"),
        ("audio", "video", "speech to photo"),
        ("video", "text", "photo to text"),
        ("text", "video", "text to photo"),
        ("audio", "text", "speech to text"),
        ("text", "audio", "text to speech"),
    )
    for k in (1, 5, 10)
}


def arm(title: str, graph: str) -> Arm:
    return Arm(title, (Stage("train", ("pretrain.py",), OPTIONS | {"model.spaces.graph": graph}),))


def prepare(source: Path, out: Path) -> None:
    """Shards and weights."""
    prepare_pairs(source, out)
    prepare_speech(source, out)


EXPERIMENT = Experiment(
    "Photographs, speech and text",
    arms={
        "shared": arm("one space for all", "shared"),
        "disjoint": arm("disjoint spaces", "disjoint"),
        "fac": arm("fine and coarse spaces", "fac"),
    },
    seeds=(0, 1, 2),
    columns=COLUMNS,
    compared=("video2audio_r10", "audio2video_r10", "video2text_r10", "text2video_r10"),
    against={"shared": "fac", "disjoint": "fac"},
    prepare=prepare,
)
