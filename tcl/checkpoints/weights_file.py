"""Files of tensors: written as safetensors, read whoever may have made them, and no code in them is ever run.

safetensors: the library checks the header (its length, that every tensor lies inside the file and no two overlap)
before a byte is read. .pth and .bin: pickles, from which only plain tensors and containers are taken. Large models
come in several such files, which an .index.json names.
"""

import itertools
import json
import math
import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tcl.errors import InputError

_FILES = ("model.safetensors", "pytorch_model.bin")
_CONTAINERS = ("model", "state_dict", "module", "model_state_dict")
"""Under which a training script keeps the weights, beside its optimiser."""
_PREFIX = re.compile(r"(?:(?:module|model|state_dict|_orig_mod)\.)+")
"""What DDP, torch.compile and training frameworks put before a name."""
_MOST_TIMES_THE_FILE = 16
"""fp8 becomes four times as large in fp32, and tied tensors lie in a file once."""
_MOST_INDEX_BYTES = 64 << 20


def write_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """As safetensors, from wherever the tensors are. OSError: it cannot be written."""
    path.touch()
    mode = path.stat().st_mode
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(own, path, metadata={"format": "pt"})  # other software asks for whom it was written
    except SafetensorError as error:  # it has the number in its text only
        code = re.search(r"(?:os error|code:) (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
    path.chmod(mode)  # safetensors leaves 0600, and others of the team could not read it


def find_weights(folder: Path) -> Path | None:
    """The weights in a folder as transformers names them: one file, or the index of several; None: there are none."""
    names = [name for file in _FILES for name in (file, f"{file}.index.json")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_weights(path: Path, field: str, accepted: str) -> dict[str, Tensor]:
    """The tensors of `path`, a file or the index of several, by their names, on the CPU.

    Of a checkpoint with an optimiser those of the model. Names lose the prefixes of DDP and torch.compile;
    half-precision numbers become fp32, as our networks hold them. InputError, naming the config field or option
    `field` and what is `accepted`: unreadable, damaged, not only tensors, or NaN or infinite numbers in them.
    """
    if path.name.endswith(".index.json"):
        return _read_sharded(path, field, accepted)
    state = _read_tensors(path, field, accepted)
    _check_size(state, path, field)
    names = _plain_names(state, path, field)
    return {names[name]: _whole(tensor, name, path, field) for name, tensor in state.items()}


def read_names(path: Path, field: str, accepted: str) -> list[str]:
    """The names of `read_weights` of a safetensors file, from its header. InputError: as there."""
    try:
        with safe_open(path, "pt") as file:
            return list(_plain_names(file.keys(), path, field).values())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{field}: {path} cannot be read ({_first_line(error)}); accepted: {accepted}") from error


def _read_sharded(index: Path, field: str, accepted: str) -> dict[str, Tensor]:
    try:
        if index.stat().st_size > _MOST_INDEX_BYTES:
            raise ValueError(f"it has {index.stat().st_size:,} bytes")
        places = json.loads(index.read_bytes().decode())["weight_map"]
        shards = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{field}: {index} is no index of weights ({_first_line(error)})") from error
    weights: dict[str, Tensor] = {}
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith((".safetensors", ".bin")):
            raise InputError(f"{field}: {index} names {shard!r}; accepted: .safetensors and .bin files beside it")
        if not (index.parent / shard).is_file():
            raise InputError(f"{field}: {index} names {shard}, which is not there; get all of its files")
        part = read_weights(index.parent / shard, field, accepted)
        if twice := part.keys() & weights.keys():
            raise InputError(f"{field}: {index}: {min(twice)} is in more than one of its files")
        weights |= part
    if absent := _plain_names(places, index, field).values() ^ weights.keys():
        raise InputError(f"{field}: {index} and the files that it names differ in {min(absent)}; get all of its files")
    return weights


def _read_tensors(path: Path, field: str, accepted: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_archive(path)
        # weights_only: a pickle that wants to run code is refused.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{field}: {path} cannot be read ({_first_line(error)}); accepted: {accepted}") from error
    except Exception as error:  # unpickling raises whatever it likes
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it asks for {wanted[1]}" if wanted else type(error).__name__
        raise InputError(f"{field}: {path} is no file of plain tensors ({why}); refused, nothing was run") from error
    state = _innermost(state)
    if not isinstance(state, dict):
        raise InputError(f"{field}: {path} holds a {type(state).__name__}, no dict of tensors; accepted: {accepted}")
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise InputError(
                f"{field}: {path} holds a {type(value).__name__} as {name!r}, no tensor; accepted: {accepted}"
            )
    return {str(name): tensor for name, tensor in state.items()}


def _check_archive(path: Path) -> None:
    """torch stores tensors as they are: entries larger than the file are compressed or overlap. ValueError: so."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError(f"unpacked it has {unpacked:,} bytes, more than the file")


def _innermost(state: Any) -> Any:
    for _ in range(len(_CONTAINERS)):
        if not isinstance(state, dict):
            return state
        state = next((state[name] for name in _CONTAINERS if isinstance(state.get(name), dict)), state)
    return state


def _plain_names(names: Iterable[str], path: Path, field: str) -> dict[str, str]:
    """Each name -> without prefixes. InputError: two become the same."""
    plain: dict[str, str] = {}
    for name in names:
        short = _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name
        plain[name] = short.replace("._orig_mod.", ".")
    if len(set(plain.values())) < len(plain):
        seen = sorted(plain.values())
        twice = next(one for one, other in itertools.pairwise(seen) if one == other)
        raise InputError(f"{field}: {path} holds {twice} twice, under prefixes; give a file with one model")
    return plain


def _check_size(state: dict[str, Tensor], path: Path, field: str) -> None:
    """A tensor that repeats one number, or shares its numbers with others, becomes any size in memory of its own."""
    size = 4 * sum(tensor.numel() for tensor in state.values())
    if size > _MOST_TIMES_THE_FILE * max(path.stat().st_size, 1 << 20):
        raise InputError(f"{field}: {path} would take {size:,} bytes of memory, far more than the file has; refused")


def _whole(tensor: Tensor, name: str, path: Path, field: str) -> Tensor:
    """In memory of its own; floating-point numbers in fp32."""
    if tensor.is_complex():
        raise InputError(f"{field}: {path}: {name} holds complex numbers; accepted: real ones")
    if not tensor.is_floating_point():
        return tensor.contiguous()
    tensor = tensor.to(torch.float32).contiguous()
    if tensor.numel() and not all(math.isfinite(float(bound)) for bound in torch.aminmax(tensor.detach())):
        raise InputError(f"{field}: {path}: {name} holds NaN or infinite numbers; use another file")
    return tensor


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
