"""Environmental sounds (ESC-10) by a linear probe of the encoder of sound that `clips_flickr8k` has, arm fac.

As it begins (one step at a rate of nothing) and after it learned from one synthetic voice, the only sound at hand that
goes with anything; there is no learning from sound alone. 240 sounds of folds 1 to 3 to learn from, the 80 of fold 4 to
be judged by; fold 5 is held back. Chance is 10 %, mean and deviation of each log-mel bin with the same classifier come
to 81.2 %.
"""

from pathlib import Path

from experiments.clips_flickr8k import OPTIONS
from experiments.clips_flickr8k import prepare as prepare_clips
from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_sounds

START = OPTIONS | {
    "data.val": None,
    "optim.lr": 1.0e-12,
    "optim.warmup_lr": 1.0e-12,
    "optim.min_lr": 1.0e-12,
    "optim.weight_decay": 0.0,
    "train.batch_size": 2,
    "train.steps": 1,
}


def probe(init: str) -> Stage:
    return Stage(
        "probe",
        ("-m", "tcl", "evaluate"),
        {
            "task": "linear_probe",
            "init": init,
            "classes": "$data/sounds/classes.txt",
            "probe.features": "audio",
            "probe.train": "$data/sounds/train/*.tar",
            "probe.C": 0.01,
            "data.val": "$data/sounds/dev/*.tar",
            "data.workers": 0,
        },
    )


def prepare(source: Path, out: Path) -> None:
    """Shards and weights."""
    prepare_clips(source, out)
    prepare_sounds(source, out)


EXPERIMENT = Experiment(
    "ESC-10 by a linear probe",
    arms={
        "random": Arm("random weights", (Stage("start", ("pretrain.py",), START), probe("$here/start"))),
        "speech": Arm("after photographs and speech", (probe("$runs/../clips_flickr8k/fac/$seed/train"),)),
    },
    seeds=(0, 1, 2),
    columns={"top1": "accuracy"},
    compared=("top1",),
    against={"speech": "random"},
    prepare=prepare,
)
