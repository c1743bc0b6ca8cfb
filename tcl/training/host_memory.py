"""The memory of a process that trains on a CPU."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names and numbers of glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Have malloc keep what freed tensors leave for the next ones, instead of handing it back to the system.

    A step frees and takes gigabytes; fresh pages have to be zeroed by the kernel, which cost 10 to 20 % of a step
    (measured in a virtual machine). Does nothing where the C library is not glibc.
    """
    if os.name != "posix":  # there is no handle to the process' own libraries
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
