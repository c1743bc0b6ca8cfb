"""What the end of an epoch tells: which samples were seen, and what could not be used."""

from collections import Counter

from accelerate.utils import gather_object

from tcl.data.feed.loader import TrainLoader
from tcl.data.shards.bad_sample import counted
from tcl.training.monitor import Monitor


def report_epoch(monitor: Monitor, loader: TrainLoader, step: int, epoch: int) -> None:
    """After optimiser step `step`, with which epoch number `epoch` (from 1) ends. Called on every process.

    InputError: too many samples were bad.
    """
    bad = sum((Counter(report) for report in gather_object([loader.end_epoch()])), Counter())
    seen = sum((Counter(one) for one in gather_object([loader.seen])), Counter())
    # An epoch is as many samples as the data hold. Workers are not all equally far, and bad samples cost a pass some of
    # its: then the one before the newest that was begun is the last that is through.
    begun = max(seen)
    newest = begun if seen[begun] == loader.samples else max(begun - 1, 0)
    monitor.say(
        f"epoch {epoch} done; pass {newest + 1} over the data: {seen[newest]:,} distinct samples of "
        f"{loader.samples:,} seen; not usable: {counted(bad)}"
    )
    row = {"step": step, "pass": newest + 1, "samples_seen": seen[newest]}
    monitor.write(row | {f"bad/{cause}": count for cause, count in bad.items()})
