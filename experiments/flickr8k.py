"""The model at hand: Flickr8k's photographs on frozen pre-trained towers, all losses from the start.

ITM's negatives are drawn with a hardness of 0.3: with the published 1 a new fusion encoder was still at the prior of
ITM after 150 steps, since embeddings on good towers are good at once, and negatives as hard. What the negatives'
similarity takes from ITM, the re-ranking adds again (eval.rerank_similarity).
"""

from collections.abc import Mapping
from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_encoders, prepare_flickr8k

WEIGHTS = {
    "model.image.pretrained": "$data/mobilenet.safetensors",
    "model.text.name": "$data/minilm",
    "model.text.tokenizer": "$data/minilm",
    "model.fusion.pretrained": "$data/minilm",
}
VAL = "$data/flickr8k/dev/*.tar"
RUN = "$runs/../flickr8k/model/$seed/train"
"""That of arm model, from which other experiments start."""
PLAIN_PAIRS = {
    "data.train": "[{shards: '$data/flickr8k/train/*.tar'}]",
    "data.workers": 0,
    "data.max_tokens": 18,
    "data.augment.views": 2,
    "data.augment.crop_scale": [0.6, 1.0],
    "data.augment.color_jitter_prob": 0.0,
    "data.augment.grayscale_prob": 0.0,
    "data.augment.blur_prob": 0.0,
    "data.augment.randaugment_ops": 0,
}
"""Options of a run that goes on from one of these and trains on its pairs, in views that change little but the crop."""
RECALLS = {
    "i2t_r1": "image to text R@1",
    "i2t_r10": "image to text R@10",
    "t2i_r1": "text to image R@1",
    "t2i_r10": "text to image R@10",
}


def training(options: Mapping[str, object] | None = None) -> Stage:
    """On the pairs of the train split, evaluated on dev."""
    plain = {
        "config": "experiments/flickr8k.yaml",
        "data.train": "[{shards: '$data/flickr8k/train/*.tar'}]",
        "data.val": VAL,
        **WEIGHTS,
    }
    return Stage("train", ("finetune.py",), plain | dict(options or {}))


ACCURACY = Stage("accuracy", ("-m", "experiments.matching"), {"run": "$here/train", "val": VAL})


def prepare(source: Path, out: Path) -> None:
    """Shards and weights."""
    prepare_flickr8k(source, out)
    prepare_encoders(source, out)


EXPERIMENT = Experiment(
    "Flickr8k on frozen pre-trained towers",
    arms={
        "model": Arm("CMA + IMC + LMI, ITM", (training(), ACCURACY)),
        "hard": Arm("the same with the published hardness 1", (training({"objective.itm_hardness": 1.0}), ACCURACY)),
    },
    seeds=(0, 1, 2),
    columns={
        **RECALLS,
        "rerank_i2t_r1": "image to text R@1, re-ranked",
        "rerank_t2i_r1": "text to image R@1, re-ranked",
        "itm_accuracy": "ITM accuracy",
    },
    compared=("i2t_r10", "t2i_r10", "rerank_i2t_r1", "rerank_t2i_r1"),
    against={"hard": "model"},
    prepare=prepare,
)
