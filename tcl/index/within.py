"""Which images of an index a search is about: those of a folder, or of some days."""

from dataclasses import dataclass
from datetime import datetime, timezone

from tcl.errors import InputError


@dataclass(frozen=True)
class Within:
    """All of these, where they are given."""

    folder: str | None = None
    """Below --images, or a shard."""
    since: int | None = None
    """Seconds, as `seconds` counts them; images without a date are never within."""
    until: int | None = None


def seconds(date: str, name: str, *, end: bool = False) -> int:
    """Of a date 2021-05-30, or 2021-05-30T12:00:00, by the clock of the camera: as if it were UTC, from 1970. end: of
    a date alone, its last second. InputError, naming `name`: no date."""
    try:
        found = datetime.fromisoformat(date)
    except ValueError as error:
        raise InputError(f"{name}: {date!r} is no date; give one like 2021-05-30 or 2021-05-30T12:00:00") from error
    whole_day = len(date) <= len("2021-05-30")
    return int(found.replace(tzinfo=timezone.utc).timestamp()) + (86_399 if end and whole_day else 0)
