"""Samples per second from shards of photographs to two augmented views, against Pillow and torchvision as they are.

    python -m benchmarks.loader [--images FOLDER --samples 2000 --round_samples 300 --repeats 5 --workers '[0,1,2]']

Both sides make the same views (their mean difference on 8-bit pixels is checked) and end in normalised float batches.
On one core: each side once through `round_samples`, in turn, `repeats` times, and what is left for the core where the
device augments (augment.on_device), with the time that the device takes; then the time of each operation. With
workers: our whole loader, which reads, shuffles, tokenises and masks texts besides, and a plain DataLoader. Prints
tables and writes benchmarks/results/.
"""

import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import jsonargparse
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import BertTokenizerFast

from benchmarks.measure import device, interleaved, ratio, save
from benchmarks.photographs import photographs, write_shards
from benchmarks.textbook import loader as textbook
from tcl.config.data import AugmentConfig, DataConfig, SourceConfig
from tcl.data.feed.loader import train_loader
from tcl.data.feed.pair_reader import PairReader
from tcl.data.images.augment import Augment, View, draw_view
from tcl.data.images.batched_operations import take_steps
from tcl.data.images.decode_image import decode_image
from tcl.data.images.image_views import prepare_images
from tcl.data.images.normalise import normalise
from tcl.data.images.pixel_views import PixelViews
from tcl.data.images.view_step import Step
from tcl.data.shards.read_shard import read_samples

SIZE, BATCH = 256, 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUGMENT = Augment(AugmentConfig(), SIZE)
CROP = Augment(AugmentConfig(on_device=True), SIZE)
MAX_PIXELS = DataConfig().max_pixels
LARGEST_DIFFERENCE = 1.5
"""Of 8-bit levels, in the mean over all views, that still counts as the same."""
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "thing"]
TOKENIZER = BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})


@dataclass
class Times:
    """Seconds of each operation in all, of one side."""

    ours: dict[str, float]
    plain: dict[str, float]


def use_one_core() -> None:
    """For both sides: torch and OpenCV would each use all of them."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def draw_two(key: str, width: int, height: int) -> list[list[Step]]:
    """The steps of the two views of the image `key`, alike for both sides."""
    rng = random.Random(key)
    return [draw_view(AUGMENT.config, SIZE, width, height, rng) for _ in range(2)]


def our_batches(urls: list[str]) -> Iterator[list[Tensor]]:
    """Batches of first and of second views, [B, 3, SIZE, SIZE] float each, in the order of the shards."""
    for views in _views(urls, AUGMENT):
        yield [_batch([view.pixels for view in some]) for some in views]


def cropped_batches(urls: list[str]) -> Iterator[list[tuple[Tensor, list[list[Step]]]]]:
    """The same where the device augments: what the workers make, pixels [B, 3, SIZE, SIZE] uint8 and steps [B]."""
    for views in _views(urls, CROP):
        yield [(torch.stack([view.pixels for view in some]), [view.steps for view in some]) for some in views]


def finish(batch: list[tuple[Tensor, list[list[Step]]]]) -> list[Tensor]:
    """What the device makes of it."""
    mean, std = torch.tensor(MEAN, device=device()), torch.tensor(STD, device=device())
    return [normalise(take_steps(pixels.to(device()), steps), mean, std) for pixels, steps in batch]


def _views(urls: list[str], augment: Augment) -> Iterator[list[tuple[View, ...]]]:
    samples = (sample for url in urls for sample in read_samples(url))
    while batch := [_two_views(sample.fields["jpg"], sample.key, augment) for sample in islice(samples, BATCH)]:
        yield list(zip(*batch, strict=True))


def _two_views(content: bytes, key: str, augment: Augment) -> list[View]:
    pixels = decode_image(content, max_pixels=MAX_PIXELS, min_side=augment.min_side)
    rng = random.Random(key.rpartition("/")[2])
    return [augment(pixels, rng) for _ in range(2)]


def plain_batches(urls: list[str], workers: int = 0) -> DataLoader:
    """The same by the textbook pipeline."""
    return DataLoader(textbook.Views(urls, draw_two, MEAN, STD), batch_size=BATCH, num_workers=workers)


def check_same(urls: list[str]) -> float:
    """The mean absolute difference of the views of the two sides, in 8-bit levels."""
    levels = 255 * torch.tensor(STD).view(3, 1, 1)
    found = [
        float(((a - b).abs() * levels).mean())
        for ours, plain in zip(our_batches(urls), plain_batches(urls), strict=True)
        for a, b in zip(ours, plain, strict=True)
    ]
    difference = statistics.mean(found)
    assert difference < LARGEST_DIFFERENCE, f"views differ by {difference:.2f} levels in the mean"
    return difference


def time_operations(urls: list[str]) -> Times:
    """Where the time of a sample goes: each step of each view, on both sides in turn, and making batches of them."""
    times = Times(defaultdict(float), defaultdict(float))
    views, plain_views = [], []
    for sample in (sample for url in urls for sample in read_samples(url)):
        content, key = sample.fields["jpg"], sample.key.rpartition("/")[2]
        decode = partial(decode_image, content, max_pixels=MAX_PIXELS, min_side=AUGMENT.min_side)
        pixels = _timed(times.ours, "decode", decode)
        image = _timed(times.plain, "decode", partial(textbook.decode, content))
        for steps in draw_two(key, *image.size):
            view, plain_view = pixels, image
            for operation, values in steps:
                name = operation.__name__
                view = _timed(times.ours, name, partial(operation, view, *values))
                plain_view = _timed(times.plain, name, partial(textbook.OPERATIONS[name], plain_view, *values))
            views.append(torch.from_numpy(view).permute(2, 0, 1))
            plain_views.append(plain_view)
        if len(views) >= BATCH:
            _timed(times.ours, "batch", partial(_batch, views))
            _timed(times.plain, "batch", partial(_plain_batch, plain_views))
            views, plain_views = [], []
    return times


def _batch(views: list[Tensor]) -> Tensor:
    return normalise(torch.stack(views), torch.tensor(MEAN), torch.tensor(STD))


def _plain_batch(views: list[Image.Image]) -> Tensor:
    return torch.stack([textbook.to_tensor(view, MEAN, STD) for view in views])


def _timed(times: dict[str, float], name: str, run: partial) -> object:
    started = time.perf_counter()
    found = run()
    times[name] += time.perf_counter() - started
    return found


def loader_speed(urls: list[str], samples: int, workers: int) -> float:
    """Samples per second of our whole loader, once each of its workers has handed out a batch."""
    data = DataConfig(
        train=[SourceConfig(str(Path(urls[0]).parent / "*.tar"))], workers=workers, shuffle_buffer=2 * BATCH
    )
    reader = PairReader(data, PixelViews(data, SIZE), TOKENIZER, mlm_probability=0.15)
    loader = train_loader(data, reader=reader, batch_size=BATCH, seed=0, rank=0, world_size=1)
    prepare = partial(normalise, mean=torch.tensor(MEAN), std=torch.tensor(STD))
    speed = _speed((prepare_images(batch.inputs["image"], prepare) for batch in loader), samples, workers)
    loader.close()
    return speed


def plain_speed(urls: list[str], samples: int, workers: int) -> float:
    """The same of the textbook pipeline in a DataLoader."""
    return _speed(iter(plain_batches(urls, workers)), samples, workers)


def _speed(batches: Iterator, samples: int, workers: int) -> float:
    turns = max(1, workers)  # workers take turns, and their batches may arrive all at once: whole turns are counted
    for _ in islice(batches, turns):
        pass
    started, count = time.perf_counter(), samples // BATCH // turns * turns
    for _ in islice(batches, count):
        pass
    return count * BATCH / (time.perf_counter() - started)


def main(
    images: Path | None = None,
    samples: int = 2000,
    round_samples: int = 300,
    repeats: int = 5,
    workers: list[int] = [0, 1, 2],  # noqa: B006 (jsonargparse shows it)
) -> None:
    """images: a folder of JPEGs, or none: generated ones. samples: in the shards. round_samples: of a measurement."""
    use_one_core()
    with tempfile.TemporaryDirectory() as folder:
        contents = photographs(images, count=200)
        urls = write_shards(Path(folder), contents, samples, shards=20)
        some = urls[: max(1, round_samples * len(urls) // samples)]
        of_round = len(some) * samples // len(urls)
        difference = check_same(some[:1])
        sides = {
            "plain": lambda: [None for _ in plain_batches(some)],
            "ours": lambda: [None for _ in our_batches(some)],
            "cropped": lambda: [None for _ in cropped_batches(some)],
        }
        seconds = interleaved(sides, repeats)
        speed = ratio(seconds, "plain", "ours")
        cropped = next(cropped_batches(some))
        finishing = interleaved({"device": lambda: finish(cropped)}, repeats)["device"]
        on_device = statistics.median(finishing) / len(cropped[0][0])
        times = time_operations(some)
        scaling = [
            {
                "workers": count,
                "ours": loader_speed(urls, round_samples, count),
                "plain": plain_speed(urls, round_samples, count),
            }
            for _ in range(repeats)
            for count in workers
        ]
    rate = {name: [of_round / value for value in values] for name, values in seconds.items()}
    print(
        f"two views of {SIZE} pixels from {len(contents)} images of {int(np.mean([len(c) for c in contents])):,} bytes"
    )
    for name, values in rate.items():
        print(f"  {name:7s} {statistics.median(values):7.1f} samples a second on one core")
    print(f"  {speed['median']:.2f} times as fast (least {speed['least']:.2f}, most {speed['most']:.2f})")
    print(f"  mean difference {difference:.2f} of 255 levels")
    print(f"  the rest of a sample whose views are only cropped takes {device()} {on_device * 1e3:.1f} ms")
    _print_times(times, of_round)
    _print_scaling(scaling, workers)
    options = {"images": "a folder" if images else "generated", "samples": samples, "round": of_round}
    measured = {
        "samples_per_second": rate,
        "ratio": speed,
        "cropped_ratio": ratio(seconds, "plain", "cropped"),
        "seconds_per_sample_on_device": on_device,
        "mean_difference_of_levels": difference,
        "milliseconds_per_sample": {
            side: {k: v / of_round * 1e3 for k, v in t.items()} for side, t in vars(times).items()
        },
        "workers": scaling,
    }
    print(save("loader", {"options": options, **measured}))


def _print_times(times: Times, samples: int) -> None:
    total = sum(times.ours.values())
    print("  milliseconds a sample, of both views:       ours share   plain")
    for name in sorted(times.ours, key=times.ours.get, reverse=True):
        ours, plain = times.ours[name], times.plain[name]
        print(f"    {name:40s} {ours / samples * 1e3:5.2f} {ours / total:4.0%} {plain / samples * 1e3:8.2f}")


def _print_scaling(scaling: list[dict], workers: list[int]) -> None:
    print("  workers: samples a second of our whole loader, and of the plain one")
    for count in workers:
        rows = [row for row in scaling if row["workers"] == count]
        ours, plain = (statistics.median(row[side] for row in rows) for side in ("ours", "plain"))
        ratios = sorted(row["ours"] / row["plain"] for row in rows)
        print(
            f"    {count}: {ours:7.1f} {plain:7.1f}, {statistics.median(ratios):.2f} times "
            f"(least {ratios[0]:.2f}, most {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
