"""What the files of a folder declare under a common name: objectives their OBJECTIVE, kinds of students their KIND.

Each is called as its file is. A file that is added to the folder is found, and only the one that is asked for is read.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def declared(folder: ModuleType, attribute: str, name: object) -> Any:
    """`attribute` of the file `name` of the package `folder`; None: no such file, or it declares none."""
    if name not in _files(folder):
        return None
    return getattr(importlib.import_module(f"{folder.__name__}.{name}"), attribute, None)


def names_declared(folder: ModuleType, attribute: str) -> list[str]:
    """The files of the package `folder` that have `attribute`, by name."""
    return [name for name in _files(folder) if declared(folder, attribute, name) is not None]


def _files(folder: ModuleType) -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
