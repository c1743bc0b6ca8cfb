"""Counts samples that could not be used, by cause, and stops the run when there are too many."""

from collections import Counter, deque

from tcl.data.shards.read_shard import BESIDE_SAMPLES
from tcl.errors import InputError

WINDOW = 10_000
SMALLEST_WINDOW = 1_000


class BadSamples:
    """What one rank's loader met, kept by adding each batch.

    max_fraction: data.max_bad_fraction, 0 to 1. samples: of all sources, the length of a whole pass.
    """

    def __init__(self, max_fraction: float, samples: int):
        self.max_fraction = max_fraction
        self.samples = samples
        self.total: Counter[str] = Counter()
        self._epoch: Counter[str] = Counter()
        self._epoch_seen = 0
        self._examples: dict[str, str] = {}
        self._window: deque[str | None] = deque(maxlen=WINDOW)
        self._window_counts: Counter[str] = Counter()
        self._unusable_in_a_row = 0

    def add(self, good: int, bad: list[tuple[str, str]]) -> None:
        """`good` usable samples and the (cause, key) of each bad one.

        InputError: more than max_fraction of the last 10,000 samples are bad, or a whole pass held none that is good.
        """
        self.total.update(cause for cause, _ in bad)
        self._epoch.update(cause for cause, _ in bad)
        self._epoch_seen += good + len(bad)
        self._examples.update(bad)
        for cause in [*(cause for cause, _ in bad), *[None] * good]:
            if len(self._window) == WINDOW:
                self._window_counts[self._window[0]] -= 1
            self._window.append(cause)
            self._window_counts[cause] += 1
        unusable = sum(cause not in BESIDE_SAMPLES for cause, _ in bad)
        self._unusable_in_a_row = 0 if good else self._unusable_in_a_row + unusable

        seen = len(self._window)
        counts = Counter({cause: n for cause, n in self._window_counts.items() if cause and n})
        if counts.total() > self.max_fraction * max(seen, SMALLEST_WINDOW):
            raise self._error(counts, f"of the last {seen:,} samples")
        # The order changes from one pass to the next: twice their number in a row is sure to hold a whole pass.
        if self._unusable_in_a_row >= 2 * self.samples:
            raise self._error(counts, f"of the last {seen:,} samples (a whole pass without a usable one)")

    def end_epoch(self) -> None:
        """InputError: too many samples were bad since the last call, where these are too few for the window to tell."""
        if self._epoch_seen < SMALLEST_WINDOW and self._epoch.total() > self.max_fraction * self._epoch_seen:
            raise self._error(self._epoch, f"of the {self._epoch_seen:,} samples of the epoch")
        self._epoch.clear()
        self._epoch_seen = 0

    def _error(self, counts: Counter[str], where: str) -> InputError:
        causes = ", ".join(
            f"{cause} {count:,} (e.g. {self._examples[cause]})" for cause, count in counts.most_common(5)
        )
        return InputError(
            f"data.max_bad_fraction: {counts.total():,} {where} could not be used, at most {self.max_fraction:.1%} "
            f"may: {causes}; mend or remove the shards, or raise the limit"
        )
