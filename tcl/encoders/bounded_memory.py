"""Networks whose sizes no machine could hold are refused before their memory is asked for."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tcl.errors import InputError

_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.linspace}


def refuse_too_large(build: Callable[[], object], field: str) -> None:
    """Call `build`, which makes a network, in `bounded_memory`. InputError: as there.

    Whatever else `build` raises is left for the real call to raise.
    """
    try:
        with bounded_memory(field):
            build()
    except InputError:
        raise
    except Exception:  # a constructor that needs numbers that are there
        return


@contextlib.contextmanager
def bounded_memory(field: str) -> Iterator[None]:
    """Within it networks are made without their memory, on the meta device, and what they would take is added up.

    torch's random numbers stay where they are. InputError, naming the config section `field`: more than the machine
    has.
    """
    with torch.random.fork_rng(devices=[]), _BoundedMemory(field):
        yield


class _BoundedMemory(TorchFunctionMode):
    """Tensors are made on the meta device, and may take no more than the machine's memory in all."""

    def __init__(self, field: str):
        super().__init__()
        self.field, self.asked, self.most = field, 0, host_memory()

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        options = kwargs or {}
        # timm computes its rates of dropped paths on a device that it names: a number for each layer.
        if function not in _FACTORIES or str(options.get("device")) == "cpu":
            return function(*args, **options)
        made = function(*args, **{**options, "device": "meta"})
        self.asked += made.nbytes
        if self.asked > self.most:
            raise InputError(
                f"{self.field}: a network of these sizes takes more than {self.asked / 2**30:,.0f} GiB, this machine "
                f"has {self.most / 2**30:,.0f}; use smaller ones"
            )
        return made


def host_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
