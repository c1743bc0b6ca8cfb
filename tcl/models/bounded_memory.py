"""Networks whose sizes no machine could hold are refused while they are built, before their memory is asked for."""

import os
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tcl.errors import InputError

_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.linspace}


class BoundedMemory(TorchFunctionMode):
    """A context in which the tensors that are made may take no more than the machine's memory in all.

    InputError, naming the config section `field`, for the tensor that would be too much.
    """

    def __init__(self, field: str):
        super().__init__()
        self.field, self.asked, self.most = field, 0, host_memory()

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        options = kwargs or {}
        if function in _FACTORIES:
            self.asked += function(*args, **{**options, "device": "meta"}).nbytes
            if self.asked > self.most:
                raise InputError(
                    f"{self.field}: a network of these sizes takes more than {self.asked / 2**30:,.0f} GiB, this machine "
                    f"has {self.most / 2**30:,.0f}; use smaller ones"
                )
        return function(*args, **options)


def host_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
