"""How the time and the memory of a training step grow with the model, the batch and the queue.

    python -m benchmarks.scale [--repeats 3]

The default step (`train.precision auto`) at 256 px and 25 tokens. A series varies one size; its points, each a process
of its own, take turns, step by step. The slopes are those of the straight lines through the logarithms: 1 grows in
proportion, 2 as the square.
"""

import statistics
from dataclasses import asdict, dataclass
from functools import partial

import jsonargparse

from benchmarks.measure import save, slope
from benchmarks.pretraining_models import WIDTHS, Size
from benchmarks.sides import Side, Sides
from benchmarks.training_sides import ours_default

Sizes = dict[int, Size]
"""What varies in a series -> what is measured there."""
SERIES: dict[str, Sizes] = {
    "width of the model": {WIDTHS[name]: Size(name, batch=8, queue=4096) for name in ("half-Ti", "Ti", "S")},
    "pairs in a batch": {batch: Size("Ti", batch, queue=4096) for batch in (8, 16, 32, 64)},
    "rows of each queue": {queue: Size("Ti", 16, queue) for queue in (4096, 16384, 65536, 262144)},
}
"""All of the points of a series are in memory at once: 8 GiB."""


@dataclass
class Point:
    """A step of one size."""

    seconds: list[float]
    """Of each repeat."""
    bytes: int
    """At most in use since before the models were built."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(sizes: Sizes, repeats: int) -> dict[int, Point]:
    """A series, after a first step that still takes memory from the system."""
    with Sides({str(value): partial(_build, value) for value in sizes}, sizes) as running:
        running.in_turn("step", 1)
        seconds = running.in_turn("step", repeats)
        return {value: Point(seconds[str(value)], running.ask(str(value), "memory")) for value in sizes}


def _build(value: int, sizes: Sizes) -> Side:
    return ours_default(sizes[value])


def slopes(points: dict[int, Point]) -> dict[str, float]:
    """Of median seconds and of bytes over the keys."""
    values = list(points.values())
    return {
        "seconds": slope(list(points), [point.median for point in values]),
        "bytes": slope(list(points), [point.bytes for point in values]),
    }


def main(repeats: int = 3) -> None:
    """repeats: steps of each point whose median counts."""
    result = {}
    for varied, sizes in SERIES.items():
        points = measure(sizes, repeats)
        print(varied)
        for value, point in points.items():
            print(
                f"  {value:9,}  {point.median:7.3f} s ({min(point.seconds):.3f} to {max(point.seconds):.3f})  "
                f"{point.bytes / 2**30:6.2f} GiB"
            )
        grows = slopes(points)
        print(f"  slope      {grows['seconds']:7.2f} of time, {grows['bytes']:.2f} of memory", flush=True)
        result[varied] = {
            "sizes": {value: asdict(size) for value, size in sizes.items()},
            "points": {value: asdict(point) for value, point in points.items()},
            "slopes": grows,
        }
    print(save("scale", {"repeats": repeats, "series": result}))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
