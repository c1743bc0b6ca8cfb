"""How long a run is: `train.epochs` in samples, whatever batch it has, or `train.steps` in optimiser steps.

A run may go on with another batch, accumulation or number of processes. So what it has done is the samples that it was
given, by all processes together; what follows from them is counted in steps of the present batch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """Of a run as it is started or resumed."""

    samples: int
    """In the data, >= 1: what makes an epoch."""
    batch: int
    """Samples of one optimiser step of all processes, >= 1."""
    first_batch: int
    """The same of the step with which the run began."""
    epochs: int
    steps: int | None
    """Optimiser steps in all, instead of epochs."""

    @property
    def steps_per_epoch(self) -> float:
        return self.samples / self.batch

    @property
    def notices(self) -> list[str]:
        """A line for the person watching where a step is more than an epoch."""
        if self.batch <= self.samples:
            return []
        return [
            f"a step takes {self.batch:,} samples, of {self.samples:,} in the data: some more than once; use a smaller "
            f"train.batch_size or train.accumulate_steps, fewer processes, or more data"
        ]

    def last_step(self, step: int, seen: int) -> int:
        """The step that ends a run which was given `seen` samples in its first `step` steps."""
        if self.steps is not None:
            return self.steps
        missing = max(self.epochs * self.samples - seen, 0)
        return step + -(-missing // self.batch)

    def schedule(self, step: int, seen: int, warmup_steps: int) -> tuple[float, float, float]:
        """What the learning rate is a function of: steps done, in all, and of warm-up; of the present batch unless
        `steps` is given.

        The warm-up was given in steps of the first batch: another batch makes it neither longer nor begin again.
        Whole numbers as long as the batch is what it was and divides an epoch.
        """
        if self.steps is not None:
            return step, self.steps, warmup_steps
        return seen / self.batch, self.epochs * self.samples / self.batch, warmup_steps * self.first_batch / self.batch

    def ramp(self, seen: int, epochs: float) -> tuple[float, float]:
        """The same for what grows over the first `epochs` epochs."""
        return seen / self.batch, epochs * self.steps_per_epoch

    def epoch(self, seen: int) -> float:
        """Passes over the data that `seen` samples make."""
        return seen / self.samples

    def ends_epoch(self, seen: int) -> bool:
        """Did the step after which `seen` samples were given end an epoch?"""
        return seen // self.samples > (seen - self.batch) // self.samples

    def what_is_done(self, step: int, seen: int) -> str:
        """For a run with nothing left to do: what it has done, and the option with which it would train on."""
        if self.steps is not None:
            return f"{step:,} of {self.steps:,} steps are done; to train on give more, e.g. --train.steps {2 * step}"
        more = max(self.epochs, seen // self.samples) + 1
        return (
            f"{seen:,} samples were seen in {step:,} steps, {self.epochs} x {self.samples:,}; to train on give more "
            f"epochs, e.g. --train.epochs {more}"
        )
