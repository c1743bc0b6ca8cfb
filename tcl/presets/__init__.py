"""The configurations that ship with the package: whole runs (pretrain, finetune), DeepSpeed's and accelerate's.

In a checkout configs/ leads here. `tcl pretrain --preset tcl_4m` takes pretrain/tcl_4m.yaml wherever the package is.
"""

import difflib
from pathlib import Path

from tcl.errors import InputError

FOLDER = Path(__file__).parent


def preset_names(kind: str) -> list[str]:
    """Of a folder here: pretrain, finetune, deepspeed or accelerate."""
    return sorted(path.stem for path in (FOLDER / kind).iterdir())


def preset_file(kind: str, name: str, field: str) -> Path:
    """The file of the preset `name`. InputError, naming `field`: there is none."""
    names = preset_names(kind)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{field}: there is no preset {name!r}; {meant}accepted: {', '.join(names)}")
    (path,) = (FOLDER / kind).glob(f"{name}.*")
    return path
