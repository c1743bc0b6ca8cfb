"""A folder of shards made of other shards, one of each, by hours of work that may be interrupted between two."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from tcl.data.shards.bad_sample import Skipped
from tcl.data.shards.out_folder import put_in_place, unfinished
from tcl.data.shards.shard_writer import ShardWriter
from tcl.errors import InputError


class NewSample(NamedTuple):
    """What a sample of the source becomes."""

    key: str
    """'<shard name>/<sample key>' of the source."""
    files: dict[str, bytes]
    """By extension."""
    problem: str | None = None
    """The cause for which it is skipped."""


@dataclass(frozen=True)
class ShardsOfShards:
    """What became of the samples."""

    samples: int
    shards: int
    causes: dict[str, int]
    """Skipped samples by cause, most frequent first."""
    skipped: list[Skipped]


class UnfinishedShards:
    """OUT.partial: the shards that are whole, each with a file of its counts, until all are there.

    It goes on where OUT.partial was left by the same work, `urls` and a plain value that says what is done to them; of
    other work it starts over.
    """

    def __init__(self, out: Path, urls: list[str], work: object):
        self.out, self.folder, self.shards = out, unfinished(out), len(urls)
        said = json.dumps({"work": work, "shards": urls})
        self._work = self.folder / "work.json"
        if not self._work.is_file() or self._work.read_text() != said:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._work.write_text(said)

    def has(self, number: int) -> bool:
        """Is what shard 0 .. urls - 1 becomes there?"""
        return self._counts(number).is_file()

    def write(self, number: int, samples: Iterable[NewSample]) -> None:
        """What shard `number` becomes, whole or not at all; a shard without a usable sample is left out.

        Keys are those of the source, with _ for a dot and a number where one comes twice.
        """
        skipped: list[Skipped] = []
        taken: set[str] = set()
        place = self.folder / "being_written"
        shutil.rmtree(place, ignore_errors=True)
        with ShardWriter(place, shard_size=2**62) as writer:
            for i, sample in enumerate(samples):
                if sample.problem is not None:
                    skipped.append(Skipped(sample.key, sample.problem))
                    continue
                key = sample.key.partition("/")[2].replace(".", "_")
                key = f"{key}_{i}" if key in taken else key
                taken.add(key)
                writer.write(key, sample.files)
        if taken:
            os.replace(place / "000000.tar", self._tar(number))
        counts = place / "counts.json"
        counts.write_text(json.dumps({"samples": len(taken), "skipped": skipped}))
        os.replace(counts, self._counts(number))
        shutil.rmtree(place)

    def finish(self) -> ShardsOfShards:
        """Put the folder in its place, with sizes.json and report.json. InputError: there is no usable sample."""
        counts = {i: json.loads(self._counts(i).read_text()) for i in range(self.shards) if self.has(i)}
        sizes = {self._tar(i).name: one["samples"] for i, one in counts.items() if one["samples"]}
        skipped = [Skipped(*one) for count in counts.values() for one in count["skipped"]]
        causes = dict(Counter(one.cause for one in skipped).most_common())
        if not sizes:
            shutil.rmtree(self.folder)
            said = ", ".join(f"{count} x {cause}" for cause, count in causes.items()) or "there are none"
            raise InputError(f"shards: no usable sample ({said}); give shards of images with texts")
        report = ShardsOfShards(sum(sizes.values()), len(sizes), causes, skipped)
        (self.folder / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")
        (self.folder / "report.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
        for place in (*map(self._counts, counts), self._work):
            place.unlink()
        put_in_place(self.out)
        return report

    def _tar(self, number: int) -> Path:
        return self.folder / f"{number:06d}.tar"

    def _counts(self, number: int) -> Path:
        return self.folder / f"{number:06d}.counts.json"
