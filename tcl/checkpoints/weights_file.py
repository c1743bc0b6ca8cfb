"""Files of tensors: written as safetensors, read whoever may have made them, and no code in them is ever run.

safetensors: the library checks the header (its length, that every tensor lies inside the file and no two overlap)
before a byte is read. .pth and .bin: pickles, from which only plain tensors and containers are taken.
"""

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tcl.errors import InputError


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


def read_weights(path: Path, field: str, accepted: str) -> dict[str, Tensor]:
    """The tensors of `path` by their names, on the CPU. Of a published checkpoint, those under `model`.

    Names lose the prefix "module." of DDP; half-precision numbers become fp32, as our networks hold them. InputError,
    naming the config field or option `field` and what is `accepted`: unreadable, damaged, or not only tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return _whole(load_file(path))
        # weights_only: a pickle that wants to run code is refused.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError(
            f"{field}: {path} cannot be read ({str(error).splitlines()[0]}); accepted: {accepted}"
        ) from error
    except Exception as error:  # unpickling raises whatever it likes
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it asks for {wanted[1]}" if wanted else type(error).__name__
        raise InputError(f"{field}: {path} is no file of plain tensors ({why}); refused, nothing was run") from error
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise InputError(f"{field}: {path} holds a {type(state).__name__}, no dict of tensors; accepted: {accepted}")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"{field}: {path} holds a {type(value).__name__} as {name!r}, no tensor; accepted: {accepted}"
            )
    return _whole({str(name).removeprefix("module."): tensor for name, tensor in state.items()})


def _whole(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor in memory of its own; floating-point ones in fp32."""
    return {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in state.items()
    }
