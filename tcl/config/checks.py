"""What the checks of all sections share: one line with the field, the value and what would do."""

import os
import stat
from dataclasses import fields, is_dataclass
from typing import Any

from tcl.errors import InputError

LARGEST = {
    "seed": 2**53,
    "model.image.image_size": 4096,
    "model.image.width": 2**16,
    "model.fusion.image_tokens": 2**16,
    "model.embed_dim": 2**16,
    "model.lmi_regions": 1024,
    "objective.queue_size": 2**26,
    "data.max_tokens": 2**16,
    "data.max_words": 2**16,
    "data.workers": 1024,
    "data.timeout": 10**6,
    "data.augment.randaugment_ops": 1000,
    "data.clips.max_decoded_bytes": 2**50,
    "train.batch_size": 2**20,
    "train.accumulate_steps": 2**20,
    "train.process_timeout": 10**6,
    "eval.batch_size": 2**20,
    "answers.max_tokens": 2**16,
    "answers.beams": 1024,
    "answers.decoder_layers": 1024,
}
"""Numbers beyond these would ask for memory, processes or time that no machine has; of other fields OTHERS."""


OTHERS = 2**31


def check_sizes(config: Any, prefix: str = "") -> None:
    """Numbers in all sections of any configuration, and where what it writes goes. InputError: one that is too large,
    an output_dir that can be no folder."""
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            check_sizes(value, f"{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            most = LARGEST.get(name, OTHERS)
            require(abs(value) <= most, name, value, f"a number of at most {most:,}")
        elif name == "output_dir":
            check_output_dir(value)


def check_output_dir(path: str) -> None:
    """A folder, or a place where one can be made."""
    require(path.strip() != "", "output_dir", path, "a folder")
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"output_dir: {path!r} can be no folder ({error.strerror}); name another one") from error
    require(is_folder, "output_dir", path, "a folder, which this is not")


def require(holds: bool, field_name: str, value: Any, accepted: str) -> None:
    """InputError naming the field, its value and what is accepted, unless it `holds`."""
    if not holds:
        raise InputError(f"{field_name}: {value!r} is not possible; accepted: {accepted}")


def check_at_least(least: int, values: dict[str, Any]) -> None:
    """Numbers by field name; None passes: it stands for a default."""
    for name, value in values.items():
        require(value is None or value >= least, name, value, f"a number >= {least}")
