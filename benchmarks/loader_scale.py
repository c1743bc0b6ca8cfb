"""What many shards and many samples cost the loader: the time to the first batch, and memory over a long pass.

    python -m benchmarks.loader_scale [--shards 10000 --samples 100000 --workers 2]

Shards of one small image each are listed and counted, with sizes.json beside them and, as without it, from the tars
themselves; then small images (64 pixels to 32) stream through the loader in this process, whose memory is read on the
way (Linux). Prints tables and writes benchmarks/results/.
"""

import tempfile
import time
from pathlib import Path

import jsonargparse
import torch

from benchmarks.loader import TOKENIZER
from benchmarks.measure import resident_mib, save
from benchmarks.photographs import photographs, write_shards
from tcl.config.data import DataConfig, SourceConfig
from tcl.data.feed.loader import TrainLoader, train_loader
from tcl.data.feed.pair_reader import PairReader
from tcl.data.images.pixel_views import PixelViews

SIZE, BATCH = 32, 64
READINGS = 10


def loader_of(folder: Path, workers: int, shuffle_buffer: int) -> TrainLoader:
    """Our whole loader on the shards of a folder."""
    data = DataConfig(
        train=[SourceConfig(str(folder / "*.tar"))], workers=workers, shuffle_buffer=shuffle_buffer, timeout=60
    )
    reader = PairReader(data, PixelViews(data, SIZE), TOKENIZER, mlm_probability=0.15)
    return train_loader(data, reader=reader, batch_size=BATCH, seed=0, rank=0, world_size=1)


def start_up(folder: Path, workers: int) -> dict[str, float]:
    """Seconds until the loader is there (shards listed and counted), and from then on until the first batch is."""
    started = time.perf_counter()
    loader = loader_of(folder, workers, shuffle_buffer=BATCH)
    built = time.perf_counter()
    next(loader)
    arrived = time.perf_counter()
    loader.close()
    return {"listed": built - started, "first_batch": arrived - built}


def memory_over_a_pass(folder: Path, samples: int) -> list[dict[str, float]]:
    """MiB of this process after each tenth of `samples`."""
    loader = loader_of(folder, workers=0, shuffle_buffer=1000)
    readings, seen = [], 0
    for reading in range(1, READINGS + 1):
        while seen < samples * reading / READINGS:
            seen += len(next(loader))
        readings.append({"samples": seen, "mib": resident_mib()})
    return readings


def main(shards: int = 10_000, samples: int = 100_000, workers: int = 2) -> None:
    """shards: of one sample each, for the start. samples: of the long pass, repeating 2,000. workers: at the start."""
    torch.set_num_threads(1)
    images = photographs(None, count=50, size=(64, 64))
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), images, samples=shards, shards=shards)
        counted = start_up(Path(folder), workers)
        (Path(folder) / "sizes.json").unlink()
        uncounted = start_up(Path(folder), workers)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), images, samples=2000, shards=20)
        memory = memory_over_a_pass(Path(folder), samples)
    grown = memory[-1]["mib"] - memory[0]["mib"]
    print(f"{shards:,} shards, {workers} workers: seconds to list and count them, then to the first batch")
    for name, times in (("with sizes.json", counted), ("without", uncounted)):
        print(f"  {name:16s} {times['listed']:6.2f} {times['first_batch']:6.2f}")
    print(f"memory over {memory[-1]['samples']:,} samples")
    for reading in memory:
        print(f"  {reading['samples']:9,} {reading['mib']:8.1f} MiB")
    print(f"  grown by {grown:.1f} MiB from the first reading to the last")
    options = {"shards": shards, "samples": samples, "workers": workers}
    start = {"with_sizes": counted, "without_sizes": uncounted}
    print(save("loader_scale", {"options": options, "start_up_seconds": start, "memory": memory, "grown_mib": grown}))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
