"""The data of a run, opened by all of its processes together."""

from accelerate import Accelerator

from tcl.data.feed.batch_stream import SampleReader
from tcl.data.feed.loader import TrainLoader, train_loader
from tcl.data.feed.loader_state import LoaderState
from tcl.data.feed.sample_order import Source
from tcl.errors import InputError
from tcl.runs.together import raise_together
from tcl.tasks.task import RunConfig


def open_loader(
    config: RunConfig,
    accelerator: Accelerator,
    reader: SampleReader,
    sources: list[Source],
    start: list[LoaderState] | None,
) -> TrainLoader:
    """The loader of this process over `sources`, those of config.data.train, from `start` on; its first batch is read.

    Called on every process. InputError on all of them: what any of them cannot read.
    """
    loader, problem = None, None
    try:
        loader = train_loader(
            config.data,
            sources=sources,
            reader=reader,
            batch_size=config.train.batch_size,
            seed=config.seed,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            start=start,
            pin_memory=accelerator.device.type == "cuda",
        )
        loader.read_ahead()
    except InputError as error:
        problem = str(error)
    try:
        raise_together(problem)
    except InputError:
        if loader is not None:
            loader.close()
        raise
    return loader
