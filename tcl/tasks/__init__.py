"""Pre-training and every downstream task, each in one file: model head, data and metric.

To add one: a file here with `Config` (a dataclass with a field `task`, and what tcl.tasks.task.RunConfig asks for),
`check(config, trains)` (InputError for impossible values) and `build(config, accelerator) -> Task`, and `KIND` where
its students are of a new kind (tcl.objectives.kind); a YAML file in tcl/presets/finetune/.
"""

import importlib
import pkgutil
from types import ModuleType


def task_names() -> list[str]:
    """Of the downstream tasks: the files of this folder, less pre-training's and what all of them share."""
    names = {module.name for module in pkgutil.iter_modules(__path__)}
    return sorted(name for name in names - {"task"} if not name.startswith("pretrain"))


def task_named(name: str) -> ModuleType:
    """The file of a downstream task, one of `task_names`, or of "pretrain"."""
    return importlib.import_module(f"{__name__}.{name}")
