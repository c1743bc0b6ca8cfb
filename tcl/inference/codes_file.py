"""Codes as a file, with the codebooks that read them and the ids of their rows.

NAME.safetensors   "codes", uint8 [n, 1 + levels, parts]; "codebooks", float32 [1 + levels, parts, codewords, d];
                   "hash", the letters of the codebooks' hash; "ids", the UTF-8 bytes of a JSON list of n ids
NAME.skipped.json  what could not be used, where there was any: [{"id", "cause"}]
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tcl.checkpoints.weights_file import read_weights, write_weights
from tcl.errors import InputError
from tcl.inference.embed_stream import EmbeddedStream
from tcl.inference.embeddings_file import not_written, write_skipped
from tcl.search.codes import checked_codes, codebooks_hash, require_same_codebooks
from tcl.whole_file import write_whole

ACCEPTED = "a .safetensors of `tcl encode --codes`"


@dataclass(frozen=True)
class StoredCodes:
    """n images or texts as codes."""

    ids: list[str]
    codes: np.ndarray
    """uint8 [n, 1 + levels, parts]."""
    codebooks: np.ndarray
    """float32 [1 + levels, parts, codewords, d], words of length 1."""


def check_codes_out(path: Path) -> None:
    """InputError: another suffix."""
    if path.suffix != ".safetensors":
        raise InputError(f"out: {path} ends in {path.suffix or 'nothing'}; codes are kept in a .safetensors")


def write_codes(stream: EmbeddedStream, codebooks: np.ndarray, path: Path) -> Path | None:
    """The rows of `stream` are codes. As `tcl.inference.embeddings_file.write_embeddings`."""
    books = torch.from_numpy(codebooks)
    tensors = {
        "codes": torch.from_numpy(stream.embeddings),
        "codebooks": books,
        "hash": _letters(codebooks_hash(books)),
        "ids": _letters(json.dumps(stream.ids)),
    }
    try:
        write_whole(path, lambda out: write_weights(tensors, out))
        return write_skipped(stream.skipped, path.with_suffix(".skipped.json"))
    except OSError as error:
        raise not_written(path, error) from error


def read_codes(path: Path, field: str, codebooks: np.ndarray | None = None) -> StoredCodes:
    """As `write_codes` left them. codebooks: those of the model that is to search them.

    InputError, naming `field`: no such file, something else in it, codes beyond its codebooks, or codes of other
    codebooks than those.
    """
    found = read_weights(path, field, ACCEPTED)
    codes, books = found.get("codes"), found.get("codebooks")
    ids = _read_ids(found.get("ids"))
    if codes is None or books is None or books.ndim != 4 or ids is None or len(ids) != len(codes):
        raise InputError(f"{field}: {path} holds no codes; give {ACCEPTED}")
    checked_codes(codes, books, f"{field}: {path}")
    said = found.get("hash")
    said = "" if said is None or said.dtype != torch.uint8 else bytes(said.tolist()).decode("ascii", "replace")
    require_same_codebooks(said, books, f"{field}: {path} is damaged")
    if codebooks is not None:
        require_same_codebooks(said, torch.from_numpy(codebooks), f"{field}: {path}")
    return StoredCodes(ids, codes.numpy(), books.numpy())


def _letters(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _read_ids(letters: Tensor | None) -> list[str] | None:
    if letters is None or letters.dtype != torch.uint8:
        return None
    try:
        ids = json.loads(letters.numpy().tobytes())
    except (ValueError, RecursionError):
        return None
    return ids if isinstance(ids, list) else None
