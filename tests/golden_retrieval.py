"""The golden files of re-scoring, circle loss and HCQ, and how results are compared with them."""

import json
import os
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

FOLDER = Path(
    os.environ.get("TCL_GOLDEN_RETRIEVAL_METHODS_DIR", Path(__file__).parent / "golden" / "retrieval_methods")
)
TOLERANCE = 1e-4


def read(name: str) -> tuple[dict[str, Tensor], dict, dict]:
    """Tensors, configuration, and what else the metadata holds."""
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        said = {key: json.loads(value) for key, value in file.metadata().items()}
        return {key: file.get_tensor(key) for key in file.keys()}, said.pop("config"), said  # noqa: SIM118


def expected_keys(tensors: dict[str, Tensor]) -> set[str]:
    """Of results that are right; `asis.` are those of published code with its faults."""
    return {key for key in tensors if key.startswith(("out.", "after."))}


def close(ours: Tensor, expected: Tensor) -> None:
    """Whole numbers are equal."""
    assert ours.shape == expected.shape
    if not expected.is_floating_point():
        assert ours.long().equal(expected.long())
        return
    error = (ours.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-12)
    assert error < TOLERANCE
