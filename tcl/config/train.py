"""Length, batch, precision, and what is written when."""

from dataclasses import dataclass, field
from typing import Literal

from tcl.config.checks import check_at_least


@dataclass
class TrainConfig:
    """Length, batch, precision, and what is written when."""

    batch_size: int = 64
    """Pairs per process and forward pass, >= 1 (>= 2 with ITM)."""
    accumulate_steps: int = 1
    """Forward passes per optimiser step, >= 1."""
    epochs: int = 30
    """Passes over the data, >= 1; ignored where steps is given. The run ends with the first step at which it has been
    given epochs times as many samples as the data hold, whatever batch, accumulation and number of processes it had on
    the way: the last step may reach into one more pass. Learning rate, alpha and the epoch go by samples, too."""
    steps: int | None = None
    """Optimiser steps, >= 1, instead of epochs; the learning rate goes by steps then."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the student's and teacher's forward pass. auto: bf16 autocast where the hardware multiplies bf16 fast, else
    fp32. Losses, teacher weights and optimiser state are always fp32."""
    deepspeed: str | None = None
    """A DeepSpeed configuration to shard the training with: a JSON file, or the name of one that ships with the package
    (zero1, zero2, zero3, zero2_offload, zero3_offload); None: plain DDP, or what `accelerate launch --config_file`
    chose. Batch, accumulation and clipping are taken from this configuration."""
    process_timeout: int = 1800
    """Seconds after which a process that waits for another one gives up, >= 1. Longer than the slowest evaluation."""
    activation_checkpointing: bool = False
    """Recompute image-encoder, text and fusion layers in the backward pass: less memory, about a third more time."""
    compile: bool = False
    """torch.compile each layer: slow to start, pays on long GPU runs."""
    max_nonfinite_steps: int = 10
    """A step whose loss or gradient is not finite is skipped; the run stops after this many in a row, >= 1."""
    log_every: int = 10
    """Optimiser steps between rows of metrics.jsonl, >= 1."""
    save_every: int = 5000
    """Optimiser steps between checkpoints, >= 1; the last step always writes one."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept, >= 1, beside the one with the best evaluation."""
    save_asynchronously: bool = False
    """Write checkpoints in the background: training goes on meanwhile, at the price of a second copy of the run's
    state in the host's memory."""
    resume: str | None = None
    """Not given: continue from the newest checkpoint in output_dir if there is one, but not where options that change
    what the weights mean are others than the run's; auto: whatever they are; none: refuse to start where a checkpoint
    is; or the path of a checkpoint."""
    mirror: str | None = None
    """A place of the run's own, to which finished checkpoints, metrics and all else in output_dir are copied: a folder,
    or a URL of fsspec (s3://bucket/mine). A run goes on from there where it is further than output_dir."""
    trackers: list[Literal["tensorboard", "wandb"]] = field(default_factory=list)
    """Experiment trackers beside metrics.jsonl, through accelerate."""


def check_train(train: TrainConfig) -> None:
    """Lengths and intervals."""
    names = ("batch_size", "accumulate_steps", "epochs", "steps", "max_nonfinite_steps", "process_timeout")
    intervals = ("log_every", "save_every", "keep_checkpoints")
    check_at_least(1, {f"train.{name}": getattr(train, name) for name in names + intervals})
