"""MMV's golden file, and how results are compared with it."""

import json
import os
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

FOLDER = Path(os.environ.get("TCL_GOLDEN_MMV_DIR", Path(__file__).parent / "golden" / "mmv"))


def read() -> tuple[dict[str, Tensor], dict]:
    """All tensors, and what the metadata says."""
    with safe_open(FOLDER / "mmv.safetensors", "pt") as file:
        said = {key: json.loads(value) for key, value in file.metadata().items()}
        return {key: file.get_tensor(key) for key in file.keys()}, said  # noqa: SIM118


GOLDEN, METADATA = read()


def close(ours: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """By the norm of the difference, relative to that of `expected`; zero where that is zero."""
    assert ours.shape == expected.shape
    error = (ours.double() - expected.double()).norm()
    assert error <= tolerance * expected.double().norm() or error < 1e-7, float(error)


def leaf(key: str) -> Tensor:
    """An input, in fp64, of which gradients are asked."""
    return GOLDEN[key].double().requires_grad_()
