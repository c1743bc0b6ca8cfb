"""MIL-NCE alone, forward and backward, against the textbook's: time and peak memory from 64 to 2,048 clips.

    python -m benchmarks.mil_nce [--batches '[64, 128, 256, 512, 1024, 2048]' --repeats 3]

Five captions a clip, features of 256; and log-mel spectrograms of clips of 3.2 seconds, 16 at a time.
"""

import ctypes
import gc
import statistics
import time
from dataclasses import asdict, dataclass

import jsonargparse
import torch
from torch import Tensor

from benchmarks.measure import device, ratio, save, slope
from benchmarks.sides import PeakMemory, Side, Sides
from benchmarks.textbook import mil_nce as textbook
from tcl.config.audio import SpectrogramConfig
from tcl.data.audio.log_mel import log_mel, mel_filters
from tcl.losses.mil_nce import mil_nce, unit

TEMPERATURE = 0.07
SOUNDS, SECONDS = 16, 3.2


@dataclass
class Options:
    """What a side is built from."""

    captions: int = 5
    dim: int = 256


def our_side(options: Options) -> Side:
    def loss(clips: Tensor, captions: Tensor) -> Tensor:
        exist = torch.ones(captions.shape[:2], dtype=torch.bool, device=clips.device)
        return mil_nce(clips, captions, exist, TEMPERATURE)

    return _side(loss, lambda wave: log_mel(wave, SpectrogramConfig()), options)


def textbook_side(options: Options) -> Side:
    sizes = SpectrogramConfig()
    filters = mel_filters(sizes)
    return _side(
        lambda clips, captions: textbook.mil_nce(clips, captions, TEMPERATURE),
        lambda wave: textbook.log_mel(wave, filters.to(wave.device), sizes.window, sizes.hop),
        options,
    )


SIDES = {"textbook": textbook_side, "ours": our_side}


def _side(loss, spectrogram, options: Options) -> Side:
    def side(command: str) -> tuple[float, float, int]:
        """Seconds, a value, bytes: of "loss B", or of "log_mel SOUNDS"."""
        what, size = command.split()
        generator = torch.Generator().manual_seed(0)
        shapes = [(int(size), options.dim), (int(size), options.captions, options.dim)]
        if what == "log_mel":
            shapes = [(int(size), round(SECONDS * SpectrogramConfig.sample_rate))]
        given = [torch.randn(*shape, generator=generator).to(device()) for shape in shapes]
        gc.collect()
        if not torch.cuda.is_available():
            ctypes.CDLL(None).malloc_trim(0)  # what an earlier, larger batch left would hide this one's peak
        memory, started = PeakMemory(), time.perf_counter()
        if what == "log_mel":
            value = spectrogram(given[0]).mean()
        else:
            value = loss(*(unit(one.requires_grad_()) for one in given))
            value.backward()
        return time.perf_counter() - started, value.item(), memory.bytes()

    return side


def compare(sides: Sides, command: str, repeats: int) -> dict:
    """A row: seconds (median), bytes and value of each side, their ratio and difference."""
    sides.in_turn(command, 1)  # not counted
    found = sides.in_turn(command, repeats)
    row: dict = {"command": command}
    for name, answers in found.items():
        seconds, values, peaks = zip(*answers, strict=True)
        row[name] = {"seconds": statistics.median(seconds), "bytes": max(peaks), "value": values[-1]}
    row["ratio"] = ratio({name: [one[0] for one in answers] for name, answers in found.items()}, "textbook", "ours")
    row["difference"] = abs(row["ours"]["value"] / row["textbook"]["value"] - 1)
    return row


def main(batches: list[int] = [64, 128, 256, 512, 1024, 2048], repeats: int = 3) -> None:  # noqa: B006
    """batches: clips in a batch, ascending."""
    with Sides(SIDES, Options()) as sides:
        rows = [compare(sides, f"loss {B}", repeats) for B in batches]
        spectrograms = compare(sides, f"log_mel {SOUNDS}", repeats)
    for row in [*rows, spectrograms]:
        _print(row)
    grows = {name: slope(batches, [row["ours"][name] for row in rows]) for name in ("seconds", "bytes")}
    print(f"ours grows with batch^{grows['seconds']:.2f} in time, ^{grows['bytes']:.2f} in memory")
    result = {"options": asdict(Options()), "rows": rows, "log_mel": spectrograms, "slopes": grows}
    print(save("mil_nce", result))


def _print(row: dict) -> None:
    sides = "  ".join(
        f"{name} {row[name]['seconds']:7.3f} s {row[name]['bytes'] / 2**20:6.0f} MiB" for name in ("ours", "textbook")
    )
    speed = row["ratio"]
    times = f"{speed['median']:.2f}x ({speed['least']:.2f} to {speed['most']:.2f})"
    print(f"{row['command']:12s} {sides}  {times}  same to {row['difference']:.1e}", flush=True)


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
