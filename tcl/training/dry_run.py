"""`--dry_run`: what a run would be and whether its data can be read, without a step of it."""

import time
from dataclasses import replace

import torch

from tcl.data.feed.loader import train_loader
from tcl.shown import say
from tcl.tasks.task import BuildTask, RunConfig
from tcl.training.accelerator import build_accelerator
from tcl.training.describe_run import describe_run


def dry_run(config: RunConfig, build_task: BuildTask) -> None:
    """Print the world of the run and, on its main process, check the first batch of every source.

    InputError: whatever would have stopped the run so far.
    """
    accelerator = build_accelerator(config)
    torch.manual_seed(config.seed)
    task = build_task(config, accelerator)
    if not accelerator.is_main_process:
        return
    for line in describe_run(config, accelerator, task) + task.notices:
        say(line)
    for source in config.data.train:
        started = time.perf_counter()
        loader = train_loader(
            replace(config.data, train=[replace(source, weight=None)], workers=0),
            reader=task.reader,
            batch_size=config.train.batch_size,
            seed=config.seed,
            rank=0,
            world_size=1,
        )
        batch = next(loader)
        bad = ", ".join(f"{count} {cause}" for cause, count in loader.bad.total.items()) or "none"
        say(
            f"source {source.shards}: {loader.samples:,} samples; first batch: {batch.describe()}, "
            f"first key {batch.keys[0]}, not usable: {bad}; "
            f"{time.perf_counter() - started:.1f} s"
        )
