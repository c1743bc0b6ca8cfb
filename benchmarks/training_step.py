"""A whole training step against the textbook's: forward, backward, optimiser, moving average, queues.

    python -m benchmarks.training_step [--size Ti --batch 64 --repeats 5 --sides '[textbook,default]']

ViT-<size>/16 and a 12-layer BERT of the same width, 256 px, 25 tokens, a queue of 65,536. Each side is a process of its
own; they take turns, step by step, and all are in memory at once (four of ViT-B: 26 GB). "default" is ours as
`train.precision auto` runs it.
"""

import statistics
from dataclasses import asdict

import jsonargparse
import torch

from benchmarks.measure import ratio, save
from benchmarks.pretraining_models import Size
from benchmarks.sides import Sides
from benchmarks.training_sides import (
    ours_checkpointed,
    ours_compiled,
    ours_default,
    ours_fp32,
    textbook_bf16,
    textbook_fp32,
    textbook_tf32,
)

SIDES = {"textbook": textbook_fp32, "fp32": ours_fp32, "default": ours_default, "checkpointed": ours_checkpointed}
GPU_SIDES = {
    "textbook": textbook_fp32,
    "textbook tf32": textbook_tf32,
    "textbook bf16": textbook_bf16,
    "default": ours_default,
    "compiled": ours_compiled,
}


def measure(size: Size, sides: dict, repeats: int) -> dict:
    """Seconds, ratios to the textbook, memory, losses and the share of the machine's peak, by side."""
    with Sides(sides, size) as running:
        losses = {name: running.ask(name, "losses") for name in sides}
        running.in_turn("step", 3)  # by then the allocator has what it needs
        seconds = running.in_turn("step", repeats)
        memory = {name: running.ask(name, "memory") for name in sides}
        peak = {name: running.ask(name, "peak") for name in sides}
        flops = {name: running.ask(name, "flops") for name in ("textbook", "default")}
    right = losses["textbook"]
    return {
        name: {
            "seconds": seconds[name],
            "ratio": ratio(seconds, "textbook", name),
            "bytes": memory[name],
            "memory_ratio": memory[name] / memory["textbook"],
            "largest_difference_of_a_loss": max(abs(losses[name][k] / right[k] - 1) for k in right),
            # The share that does useful work: of products that ours needs, whoever makes them.
            "useful_flops_per_second": flops["default"] / statistics.median(seconds[name]),
            "matmul_flops_per_second": peak[name],
        }
        for name in sides
    } | {"flops": flops}


def main(size: str = "Ti", batch: int = 64, repeats: int = 5, sides: list[str] | None = None) -> None:
    """size: Ti, S or B. sides: textbook, default and others by name; none: all."""
    chosen = Size(size, batch)
    every = GPU_SIDES if torch.cuda.is_available() else SIDES
    found = measure(chosen, {name: every[name] for name in sides or every}, repeats)
    print(f"training step, ViT-{size}/16 and BERT of its width, {batch} pairs, {chosen.queue:,} in the queue")
    flops = found["flops"]
    for name, side in found.items():
        if name == "flops":
            continue
        speed, peak = side["ratio"], side["matmul_flops_per_second"]
        print(
            f"  {name:13s} {statistics.median(side['seconds']):7.3f} s  {speed['median']:5.2f}x "
            f"({speed['least']:.2f} to {speed['most']:.2f})  {side['bytes'] / 2**30:6.2f} GiB "
            f"({side['memory_ratio']:.2f})  losses to {side['largest_difference_of_a_loss']:.0e}  "
            f"{side['useful_flops_per_second'] / 1e9:6.0f} GFLOP/s ({side['useful_flops_per_second'] / peak:.0%})"
        )
    print(f"  products in a step: textbook {flops['textbook'] / 1e12:.2f}, ours {flops['default'] / 1e12:.2f} TFLOP")
    print(save(f"training-{size}-{batch}", {"options": asdict(chosen), "sides": found}))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
