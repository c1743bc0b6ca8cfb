"""The published models of tests/golden, and what it takes to convert them."""

import json
import os
from pathlib import Path

from safetensors import safe_open
from torch import Tensor
from transformers import BertTokenizerFast

GOLDEN_DIR = Path(os.environ.get("TCL_GOLDEN_DIR", Path(__file__).parent / "golden"))
NAMES = ("pretrain", "retrieval", "vqa")


def read_golden(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
    """Of NAME.safetensors: the parameters by their published names, all other tensors, the metadata."""
    with safe_open(GOLDEN_DIR / f"{name}.safetensors", "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    state = {key.removeprefix("state."): tensor for key, tensor in tensors.items() if key.startswith("state.")}
    return state, tensors, metadata


def save_tokenizer(folder: Path, size: int) -> str:
    """A tokenizer of `size` tokens in `folder`; returns its path."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(size - 5))]
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return str(folder)
