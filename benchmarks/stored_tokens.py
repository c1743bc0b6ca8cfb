"""Training on top of a frozen ViT-S/16 from stored tokens, against training from pixels with the same tower and views.

    OMP_NUM_THREADS=1 python -m benchmarks.stored_tokens [--rows '[tcl/flickr8k, clip/S]' --batch 8 --repeats 5]

Whole steps as a run makes them on one core: the loader in the trainer's process (JPEGs of 640 x 480 or files of tokens,
from shards), preparation, teacher, student, optimiser. 256 px, texts of 25 tokens, a queue of 65,536, four views an
image. A row is an objective and a text side: `flickr8k`, that of configs/pretrain/flickr8k_cpu.yaml (4 layers of width
128); `S`, a BERT of 12 layers as wide as the tower; `base`, BERT-base, that of the published recipe. Each side is a
process of its own; they take turns, step by step. Seconds are those of the processor where a single thread works.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import jsonargparse
import numpy as np
import torch
from accelerate import Accelerator
from transformers import BertTokenizerFast

from benchmarks.measure import device, ratio, save, synchronise
from benchmarks.photographs import photographs
from benchmarks.sides import Side, Sides
from tcl.config.clip_objective import CLIPObjectiveConfig
from tcl.config.data import AugmentConfig, DataConfig, SourceConfig
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig
from tcl.data.batch import to_device
from tcl.data.feed.loader import train_loader
from tcl.data.shards.shard_writer import ShardWriter
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.image_encoder import ImageEncoder
from tcl.inference.hardware import find_hardware
from tcl.inference.token_shards import TokenRecipe, write_token_shards
from tcl.precision import mixed_precision
from tcl.tasks.pretrain import Config, build
from tcl.training.engine import build_engine
from tcl.training.host_memory import keep_freed_memory
from tcl.training.layers import prepare_layers
from tcl.training.step import train_step

IMAGES, VIEWS, WORDS, VOCABULARY = 16, 4, 24, 30522
STORAGES = ("fp16", "int8")
IMAGE = ImageEncoderConfig(
    name="vit_small_patch16_224", image_size=256, frozen=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
SMALL = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
TEXTS = {
    "flickr8k": SMALL | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "S": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {},
}
OBJECTIVES = {"tcl": ObjectiveConfig, "clip": CLIPObjectiveConfig}
ROWS = ["tcl/S", "tcl/flickr8k", "clip/S", "tcl/base", "clip/flickr8k"]


def now() -> float:
    """Seconds; of one thread's work on a CPU, which others may use as well, those of the processor."""
    on_one = not torch.cuda.is_available() and torch.get_num_threads() == 1
    return time.process_time() if on_one else time.perf_counter()


@dataclass
class Options:
    """What a side is built from."""

    folder: Path
    """With pixels/, fp16/, int8/ and tokenizer/."""
    row: str
    batch: int = 8
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(views=VIEWS))


def write_pixels(folder: Path) -> None:
    """Photographs with captions of random words, and the tokenizer that knows these."""
    draw = np.random.default_rng(0)
    with ShardWriter(folder / "pixels", shard_size=IMAGES // 4) as writer:
        for i, image in enumerate(photographs(None, IMAGES)):
            caption = " ".join(f"w{word}" for word in draw.integers(0, VOCABULARY - 5, WORDS))
            writer.write(f"{i:06d}", {"jpg": image, "txt": caption.encode()})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(VOCABULARY - 5))]
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder / "tokenizer")


def write_tokens(options: Options) -> dict[str, float]:
    """Images a second that are encoded and stored in each storage."""
    torch.manual_seed(0)
    encoder, hardware = build_image_encoder(IMAGE).eval(), find_hardware(None, "auto")
    speeds = {}
    for storage in STORAGES:
        tower = TokenRecipe(encoder.to(hardware.device), IMAGE, hardware, options.augment, storage, batch_size=16)
        started = now()
        write_token_shards(str(options.folder / "pixels" / "*.tar"), options.folder / storage, tower, workers=0)
        speeds[storage] = IMAGES / (now() - started)
    return speeds


def from_pixels(options: Options) -> Side:
    return _side(options, "pixels")


def from_fp16(options: Options) -> Side:
    return _side(options, "fp16")


def from_int8(options: Options) -> Side:
    return _side(options, "int8")


SIDES = {"pixels": from_pixels, "fp16": from_fp16, "int8": from_int8}


def _config(options: Options, source: str) -> Config:
    objective, text = options.row.split("/")
    tokenizer = str(options.folder / "tokenizer")
    model = ModelConfig(image=replace(IMAGE), text=TextEncoderConfig(tokenizer=tokenizer, overrides=TEXTS[text]))
    shards = SourceConfig(str(options.folder / source / "*.tar"))
    return Config(
        model=model,
        objective=OBJECTIVES[objective](),
        data=DataConfig(train=[shards], workers=0, shuffle_buffer=IMAGES, augment=options.augment),
        train=TrainConfig(batch_size=options.batch),
    )


def _side(options: Options, source: str) -> Side:
    """Answers with the seconds of a step and, of these, of the loader and of the tower."""
    steps = _steps(_config(options, source), _timed_tower())
    return lambda _: next(steps)


def _timed_tower() -> list[float]:
    """Grows by the seconds of each call of an image encoder's network, or of what stands in its place."""
    seconds: list[float] = []
    whole = ImageEncoder.features

    def features(self, *given):
        synchronise()
        started = now()
        found = whole(self, *given)
        synchronise()
        seconds.append(now() - started)
        return found

    ImageEncoder.features = features
    return seconds


def _steps(config: Config, tower: list[float]) -> Iterator[dict[str, float]]:
    if device().type == "cpu":
        keep_freed_memory()
    accelerator = Accelerator(cpu=device().type == "cpu", mixed_precision=mixed_precision("auto", device()))
    torch.manual_seed(config.seed)
    task = build(config, accelerator)
    prepare_layers(task.student.averaged, config.train, device(), accelerator.mixed_precision == "bf16")
    task.teacher.to(device())
    engine = build_engine(accelerator, task.student, config.optim)
    size = config.train.batch_size
    loader = train_loader(config.data, reader=task.reader, batch_size=size, seed=0, rank=0, world_size=1)
    task.student.train()
    step = 0
    while True:
        tower.clear()
        started = now()
        batch = next(loader)
        loaded = now()
        given = task.prepare(to_device(batch, device()))
        done = train_step(engine, task.teacher, [given], step=step, seed=0, learning_rate=1e-4, alpha=0.4)
        loss = float(done.losses.total)
        seconds = {"step": now() - started, "loader": loaded - started, "tower": sum(tower)}
        yield seconds | {"loss": loss}
        step += 1


def measure(options: Options, repeats: int) -> dict:
    """Of one row: seconds and losses by side, and how many times as fast as from pixels."""
    with Sides(SIDES, options) as sides:
        first = sides.in_turn("step", 2)  # by then the allocator has what it needs
        found = sides.in_turn("step", repeats)
    seconds = {name: [one["step"] for one in each] for name, each in found.items()}
    parts = {
        name: {part: statistics.median(one[part] for one in each) for part in ("step", "loader", "tower")}
        for name, each in found.items()
    }
    return {
        "row": options.row,
        "seconds": seconds,
        "parts": parts,
        "ratios": {name: ratio(seconds, "pixels", name) for name in STORAGES},
        "losses": {name: [one["loss"] for one in first[name]] for name in SIDES},
    }


def main(rows: list[str] = ROWS, batch: int = 8, repeats: int = 5) -> None:
    """rows: OBJECTIVE/TEXT. batch: pairs a step."""
    folder = Path(tempfile.mkdtemp())
    try:
        options = Options(folder, rows[0], batch)
        write_pixels(folder)
        speeds = write_tokens(options)
        shared = {"options": {"batch": batch, "repeats": repeats}, "stored_a_second": speeds, "views": VIEWS}
        print(", ".join(f"{speed:.2f} images/s stored in {name}, {VIEWS} views each" for name, speed in speeds.items()))
        found = []
        for row in rows:
            found.append(measure(replace(options, row=row), repeats))
            _print(found[-1], batch)
            path = save("stored_tokens", shared | {"rows": found})  # after each: rows take minutes
    finally:
        shutil.rmtree(folder)
    print(path)


def _print(row: dict, batch: int) -> None:
    for name, parts in row["parts"].items():
        speed = batch / parts["step"]
        shares = ", ".join(f"{part} {parts[part] / parts['step']:.0%}" for part in ("loader", "tower"))
        times = f"{row['ratios'][name]['median']:.2f}x" if name in row["ratios"] else ""
        print(f"{row['row']:14s} {name:6s} {speed:7.2f} pairs/s ({shares}) {times}", flush=True)
    losses = {name: [round(loss, 4) for loss in each] for name, each in row["losses"].items()}
    print(f"{'':14s} losses of the first steps: {losses}", flush=True)


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
