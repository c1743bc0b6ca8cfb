"""Which files of a shard make a sample: webdataset's rule, and what it has no rule for, keys with dots."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from webdataset.tariterators import base_plus_ext

from tcl.data.images.image_format import IMAGE_EXTENSIONS

TEXT_EXTENSIONS = ("txt", "json")
VIDEO_EXTENSIONS = ("mp4", "webm", "mkv", "mov", "m4v")
SOUND_EXTENSIONS = ("wav", "flac", "opus", "ogg", "mp3", "m4a")
"""That files with clips and with sounds have, whatever is in them."""
_MEDIA = (*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS, *SOUND_EXTENSIONS)


def media_of(fields: dict[str, bytes]) -> bytes | None:
    """The video of a sample, given as its bytes by extension, or else its image, or else its sound."""
    extensions = (*VIDEO_EXTENSIONS, *IMAGE_EXTENSIONS, *SOUND_EXTENSIONS)
    return next((fields[one] for one in extensions if one in fields), None)


@dataclass(frozen=True)
class Member:
    """A file of a shard."""

    key: str
    """Its path up to the first dot of its name."""
    stem: str
    """Its path up to the last dot."""
    path: str
    content: bytes | None = None
    problem: str | None = None
    """What kept the content from being read."""

    @property
    def extension(self) -> str:
        """What follows the last dot, in lower case."""
        return self.path[len(self.stem) + 1 :].lower()

    @property
    def dotted(self) -> bool:
        return self.stem != self.key


@dataclass(frozen=True)
class Grouped:
    """The members of a sample; there is at least one."""

    key: str
    members: list[Member]

    def extension(self, member: Member) -> str:
        """What follows the key, in lower case: png, or seg.png."""
        return member.path[len(self.key) + 1 :].lower()


def member_of(path: str) -> Member | None:
    """A file by its path; None where its name has no extension, or no name before it."""
    key, _ = base_plus_ext(path)
    return None if key is None else Member(key, path.rpartition(".")[0], path)


def is_own_sample(run: list[Member]) -> bool:
    """Whether consecutive members with one stem that has dots, trip.2021.0, are an image, a clip or
    a sound, and a text."""
    return bool(run) and run[0].dotted and _has(run, _MEDIA) and _has(run, TEXT_EXTENSIONS)


def grouped(members: Iterable[Member]) -> Iterator[Grouped]:
    """Samples, in the order of the tar. Consecutive members with one key are one, as webdataset has it: KEY.jpg,
    KEY.txt, KEY.seg.png. Two kinds of names that webdataset would add to the sample KEY are samples of their own:

    - KEY.MORE.jpg that is followed or preceded by a KEY.MORE.txt or KEY.MORE.json;
    - images KEY.MORE.jpg where there is no KEY.txt or KEY.json, if there is no image KEY.jpg either or MORE has no
      letter (2021.0).
    """
    for key, of_key in groupby(members, key=lambda member: member.key):
        rest: list[list[Member]] = []
        for stem, run_of_stem in groupby(of_key, key=lambda member: member.stem):
            run = list(run_of_stem)
            if is_own_sample(run):
                yield Grouped(stem, run)
            else:
                rest.append(run)
        if rest:
            yield from _apart(key, rest)


def _apart(key: str, runs: list[list[Member]]) -> Iterator[Grouped]:
    plain = [member for run in runs for member in run if not member.dotted]
    with_image, with_text = _has(plain, IMAGE_EXTENSIONS), _has(plain, TEXT_EXTENSIONS)
    together: list[Member] = []
    for run in runs:
        tag = run[0].stem[len(key) + 1 :]
        apart = run[0].dotted and _has(run, IMAGE_EXTENSIONS) and not with_text
        if apart and (not with_image or not any(map(str.isalpha, tag))):
            yield Grouped(run[0].stem, run)
        else:
            together += run
    if together:
        yield Grouped(key, together)


def _has(members: list[Member], extensions: tuple[str, ...]) -> bool:
    return any(member.extension in extensions for member in members)
