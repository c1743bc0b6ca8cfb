"""The folder that commands write shards to: complete, or not there."""

import shutil
from pathlib import Path

from tcl.errors import InputError
from tcl.whole_file import partial_of


def check_out(out: Path, kept: tuple[Path, ...], overwrite: bool) -> None:
    """InputError: `out`, resolved, is a file, is in use without `overwrite`, or one of `kept` lies in it."""
    if out.is_file():
        raise InputError(f"out: {out} is a file; name a folder")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise InputError(f"out: {out} is there already and not empty; name another folder or give --overwrite")
    for place in (path.resolve() for path in (*kept, Path.cwd())):
        if place.is_relative_to(out):
            raise InputError(f"out: {out} contains {place}, which overwriting would delete; name another folder")


def unfinished(out: Path) -> Path:
    """Where the shards are until all of them are there."""
    return partial_of(out)


def put_in_place(out: Path) -> None:
    """Replace `out` by what is unfinished, by renaming alone: at no time is there a folder of that name that is half
    old or half new."""
    replaced = out.with_name(out.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if out.exists():
        out.rename(replaced)
    unfinished(out).rename(out)
    shutil.rmtree(replaced, ignore_errors=True)
