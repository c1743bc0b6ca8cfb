"""What befalls one file of a folder."""

import json
import os
import shutil
from pathlib import Path
from random import Random

from tests.fuzz.mutate import damage, spoil


def spoil_a_file(folder: Path, rng: Random, but: tuple[str, ...] = ()) -> None:
    """Damage, remove or swap one file below `folder`, none of the names `but`; JSON also by its values."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in but)
    path, how = rng.choice(files), rng.random()
    if path.suffix in (".json", ".jsonl") and how < 0.4:
        rows = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = rng.randrange(len(rows))
        rows[at] = json.dumps(spoil(json.loads(rows[at]), rng), indent=1 if path.suffix == ".json" else None)
        path.write_text("\n".join(rows))
    elif how < 0.9:
        path.write_bytes(damage(path.read_bytes(), rng))
    else:
        path.unlink()
        rng.choice((_nothing, _folder, _link_to_nothing, _link_to_device, _pipe, _empty))(path)


def _nothing(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _folder(path: Path) -> None:
    path.mkdir()


def _link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def _link_to_device(path: Path) -> None:
    path.symlink_to("/dev/full")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _empty(path: Path) -> None:
    path.touch()
