"""The files of an export on disk: put in place all at once, and checked against their manifest before they are read."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tcl.checkpoints.export_format import ANSWERS, CONFIG, PREPROCESSOR
from tcl.checkpoints.loading_code import CODE
from tcl.checkpoints.manifest import MANIFEST, verify, write_manifest
from tcl.errors import InputError

WEIGHTS, TEACHER = "model.safetensors", "teacher.safetensors"
TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)
READ = (WEIGHTS, f"{WEIGHTS}.index.json", "model-*-of-*.safetensors", CONFIG, PREPROCESSOR, ANSWERS, *TOKENIZER_FILES)
"""What loading reads, and the manifest lists, beside the teacher. README.md is its owner's to edit, and
CODE is for others to run: neither is checked."""
_PARTIAL = ".partial_export"


def put_in_place(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill an empty folder, then move what it wrote into `folder`, in place of an export that is there.

    Until all is written the former export stays as it was; while files are moved, the folder is no export. OSError: it
    cannot be written.
    """
    partial = folder / _PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
        # The configuration first: without it there is no export.
        for former in (CONFIG, MANIFEST, TEACHER, ANSWERS, CODE):
            (folder / former).unlink(missing_ok=True)
        for path in sorted(partial.iterdir()):
            if path.name != CONFIG:
                os.replace(path, folder / path.name)
        config = [partial / CONFIG] if (partial / CONFIG).is_file() else []
        os.replace(write_manifest(partial, [*config, *_listed(folder, (*READ, TEACHER))]), folder / MANIFEST)
        for path in config:
            os.replace(path, folder / CONFIG)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_export(folder: Path, field: str, *, with_teacher: bool = False) -> None:
    """InputError, naming `field`: a file differs from the manifest of the export in `folder`, is gone or is not in it.

    Exports of the first versions have no manifest, and nothing is checked.
    """
    if not os.path.lexists(folder / MANIFEST):
        return
    patterns = (*READ, TEACHER) if with_teacher else READ
    read = {path.name for path in _listed(folder, patterns)}
    if wrong := verify(folder, also=read, without=() if with_teacher else (TEACHER,)):
        raise InputError(
            f"{field}: {folder}: {wrong}; get it again, or remove {MANIFEST} if the file was changed on purpose"
        )


def _listed(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]
