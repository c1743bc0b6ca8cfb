"""train.mirror of a run: what is brought from there before it starts, and sent there while it goes on."""

from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object

from tcl.checkpoints.mirror import Mirror, fetch
from tcl.errors import InputError
from tcl.runs.together import raise_together
from tcl.tasks.task import RunConfig


def fetch_run(accelerator: Accelerator, config: RunConfig) -> list[str]:
    """The main process brings the run into output_dir where its mirror is further; lines for the person. Called on
    every process. InputError on all of them, as `tcl.checkpoints.mirror.fetch`."""
    lines: list[str] = []
    problem = None
    if accelerator.is_main_process and config.train.mirror is not None:
        try:
            lines = fetch(config.train.mirror, Path(config.output_dir), goes_on=config.train.resume in (None, "auto"))
        except InputError as error:
            problem = str(error)
    raise_together(problem)
    return gather_object([lines])[0]


def open_mirror(accelerator: Accelerator, config: RunConfig) -> Mirror | None:
    """Of the main process, where there is one."""
    if config.train.mirror is None or not accelerator.is_main_process:
        return None
    return Mirror(config.train.mirror, Path(config.output_dir))
