"""Scenes of coloured shapes with true captions, and questions about them, as webdataset shards: data of `make demo`.

    python -m tools.make_demo_data --out demo/data [--train 20000 --val 500 --vqa_train 10000 --vqa_val 500]
                                   [--seed 0 --image_size 64 --workers 2]

OUT/train, OUT/val: KEY.png and KEY.json with captions and the scene. OUT/vqa_train, OUT/vqa_val: KEY.png and KEY.json
with a question and its answer; question i asks about scene i modulo --train, or --val. OUT/answers.txt: all answers
there can be.
"""

import io
import json
import random
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import jsonargparse

from tcl.data.seeding import seed_of
from tcl.data.shards.shard_writer import ShardWriter
from tcl.errors import InputError
from tcl.shown import say, shown
from tools.demo_questions import ANSWERS, make_question_sample
from tools.demo_scenes import Scene, draw_scene, place, render

SHARD_SIZE = 1000
FORMER_RECORD = ("train", "val", "seed", "image_size")
"""What demo_data.json held before there were questions."""


def full_caption(scene: Scene, rng: random.Random) -> str:
    """Names every object with size, colour, shape and place."""
    things = list(scene.objects)
    rng.shuffle(things)
    return " and ".join(f"{t.size} {t.colour} {t.shape} {place(t)}" for t in things)


def relation_caption(scene: Scene, rng: random.Random) -> str:
    """Where one object lies as seen from another, along an axis on which their cells differ."""
    a, b = rng.sample(scene.objects, 2)
    relations = []
    if a.column != b.column:
        relations.append("left of" if a.column < b.column else "right of")
    if a.row != b.row:
        relations.append("above" if a.row < b.row else "below")
    return f"{a.size} {a.colour} {a.shape} {rng.choice(relations)} {b.size} {b.colour} {b.shape}"


def counting_caption(scene: Scene, rng: random.Random) -> str:
    """How many objects there are, their colours and shapes, and the background."""
    things = list(scene.objects)
    rng.shuffle(things)
    number = ("one shape", "two shapes")[len(things) - 1]
    return f"{number} on {scene.background}: " + ", ".join(f"{t.colour} {t.shape}" for t in things)


def captions(scene: Scene, rng: random.Random) -> list[str]:
    """True captions for training: six full ones, one that counts and, of two objects, one that relates them."""
    made = [full_caption(scene, rng) for _ in range(6)] + [counting_caption(scene, rng)]
    return [*made, relation_caption(scene, rng)] if len(scene.objects) > 1 else made


def make_sample(index: int, seed: int, split: str, image_size: int) -> tuple[str, dict[str, bytes], tuple]:
    """(key, files of the shard, the scene's description)."""
    scene = draw_scene(seed, split, index)
    rng = random.Random(seed_of(seed, split, index, "captions"))
    texts = [full_caption(scene, rng)] if split == "val" else captions(scene, rng)
    png = io.BytesIO()
    render(scene, image_size).save(png, "PNG", compress_level=1)
    text = json.dumps({"captions": texts, "scene": asdict(scene)})
    return f"{index:09d}", {"png": png.getvalue(), "json": text.encode()}, scene.description


def make_demo_data(
    out: Path,
    train: int = 20000,
    val: int = 500,
    vqa_train: int = 10000,
    vqa_val: int = 500,
    seed: int = 0,
    image_size: int = 64,
    workers: int = 2,
    overwrite: bool = False,
) -> None:
    """Write all of OUT; does nothing where the same arguments made OUT before.

    Data of the same scenes, made before there were questions, are replaced. train, val: number of scenes, >= 1.
    vqa_train, vqa_val: number of questions, >= 1; more than scenes go through them again. image_size: side in pixels,
    >= 16. workers: processes, >= 1. overwrite: replace demo data made with other arguments. InputError: an impossible
    value, more validation scenes than there are, an OUT that holds something else or cannot be written.
    """
    for name, value, least in (
        ("train", train, 1),
        ("val", val, 1),
        ("vqa_train", vqa_train, 1),
        ("vqa_val", vqa_val, 1),
        ("image_size", image_size, 16),
        ("workers", workers, 1),
    ):
        if value < least:
            raise InputError(f"{name}: {value} is not possible; accepted: an integer >= {least}")
    counts = {"train": train, "val": val, "vqa_train": vqa_train, "vqa_val": vqa_val}
    made_with = {**counts, "seed": seed, "image_size": image_size}
    record = out / "demo_data.json"
    found = _read_record(record)
    if found == made_with:
        say(f"{out} is there already")
        return
    without_questions = found == {name: made_with[name] for name in FORMER_RECORD}
    if out.exists() and not without_questions and not (overwrite and record.is_file()):
        way_out = "add --overwrite" if record.is_file() else "remove it or name another folder"
        raise InputError(f"out: {out} exists and was not made with {made_with}; {way_out}")
    try:
        _write(out, made_with, workers)
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror}); name another folder") from error
    say(f"{out}: {train} training and {val} validation scenes, {vqa_train} and {vqa_val} questions")


def _read_record(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _write(out: Path, made_with: dict[str, int], workers: int) -> None:
    """All files of OUT; it replaces what is there only when it is complete."""
    partial_out = out.with_name(out.name + ".partial")
    shutil.rmtree(partial_out, ignore_errors=True)
    with ProcessPoolExecutor(workers) as pool:
        for split in ("train", "val"):
            count = made_with[split]
            make = partial(make_sample, seed=made_with["seed"], split=split, image_size=made_with["image_size"])
            seen = set()
            indices = range(2 * count if split == "val" else count)
            with ShardWriter(partial_out / split, shard_size=SHARD_SIZE) as writer:
                for key, files, description in pool.map(make, indices, chunksize=250):
                    # Two validation scenes with one description would have two right answers.
                    if split == "val" and (description in seen or len(seen) == count):
                        continue
                    seen.add(description)
                    writer.write(key, files)
            if split == "val" and len(seen) < count:
                raise InputError(f"val: {count} is not possible; among {2 * count} scenes only {len(seen)} differ")
            _write_questions(pool, partial_out / f"vqa_{split}", split, made_with)
    (partial_out / "answers.txt").write_text("".join(f"{answer}\n" for answer in ANSWERS))
    (partial_out / "demo_data.json").write_text(json.dumps(made_with))
    if out.exists():
        shutil.rmtree(out)
    partial_out.rename(out)


def _write_questions(pool: ProcessPoolExecutor, folder: Path, split: str, made_with: dict[str, int]) -> None:
    make = partial(
        make_question_sample,
        seed=made_with["seed"],
        split=split,
        image_size=made_with["image_size"],
        scenes=made_with[split],
    )
    with ShardWriter(folder, shard_size=SHARD_SIZE) as writer:
        for key, files in pool.map(make, range(made_with[f"vqa_{split}"]), chunksize=250):
            writer.write(key, files)


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description="Generate the demo's scenes and questions as webdataset shards.")
    parser.add_function_arguments(make_demo_data, skip={"overwrite"})
    parser.add_argument("--overwrite", action="store_true", help="replace demo data made with other arguments")
    arguments = parser.parse_args()
    try:
        make_demo_data(**vars(arguments))
    except InputError as error:
        print(f"error: {shown(str(error))}", file=sys.stderr)
        sys.exit(2)
