"""Going on with a run: from which checkpoint, after how many samples, and with which options changed.

Nothing in here writes a file.
"""

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.run_folder import run_folder_of
from tcl.errors import InputError
from tcl.runs.changes import describe_changes
from tcl.runs.history import batch_of_a_process
from tcl.runs.together import raise_together
from tcl.tasks.task import RunConfig
from tcl.training.checkpoint import Progress, checkpoint_to_resume, read_progress


@dataclass
class Start:
    """Where a run goes on. Without a checkpoint it starts at step 0."""

    checkpoint: Path | None
    progress: Progress | None
    damaged: list[str]
    """A line for each damaged checkpoint that was passed over."""
    step: int
    samples: int
    """Given to it so far, over all processes."""
    first_batch: int | None = None
    """Samples of its first step; None: there was none yet."""


def find_start(accelerator: Accelerator, config: RunConfig) -> Start:
    """What train.resume stands for. Called on every process. InputError on all of them: as checkpoint_to_resume."""
    folder = Path(config.output_dir) / "checkpoints"
    checkpoint, damaged = checkpoint_to_resume(accelerator, config.train.resume or "auto", folder)
    if checkpoint is None:
        return Start(None, None, damaged, 0, 0)
    progress = read_progress(checkpoint)
    samples, first_batch = progress.samples, progress.first_batch
    if samples is None or first_batch is None:  # of a version that did not keep them
        batch = config.train.batch_size * config.train.accumulate_steps
        first_batch = batch_of_a_process(run_folder_of(str(checkpoint)), batch) * len(progress.loaders)
        samples = progress.step * first_batch if samples is None else samples
    return Start(checkpoint, progress, damaged, progress.step, samples, first_batch)


def check_changes(
    accelerator: Accelerator, config: RunConfig, tokenizer: PreTrainedTokenizerBase | None, checkpoint: Path | None
) -> list[str]:
    """A table of the options that differ from those of the run that `checkpoint` belongs to, line by line.

    Called on every process. InputError on all of them: options that change what the weights mean, and train.resume is
    not given.
    """
    lines: list[str] = []
    problem = None
    if accelerator.is_main_process and checkpoint is not None:
        try:
            run = run_folder_of(str(checkpoint))
            if run is None:
                lines = [f"{checkpoint} lies in no run with a config.yaml: which options have changed cannot be told"]
            else:
                lines = describe_changes(config, tokenizer, run, checkpoint)
        except InputError as error:
            problem = str(error)
    raise_together(problem)
    return gather_object([lines])[0]
