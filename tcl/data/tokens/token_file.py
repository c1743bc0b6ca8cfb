"""Stored tokens of many images in one file, written as they come and read from a memory map.

    4,096 bytes: JSON in ASCII, padded with spaces, that ends in a line break
        {"format": "tcl-tokens", "version": 1, "count": images, "tokens": N of each, "width": W, "storage": "fp16" or
         "int8", "model": hash of what made them}
    count rows, one an image, little-endian and without gaps
        fp16: N x W float16;    int8: N float32 scales, then N x W int8

An image's row lies in one piece: reading it is one access to the disk.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from tcl.data.tokens.stored_tokens import Storage, StoredTokens
from tcl.errors import InputError
from tcl.whole_file import partial_of

HEADER_BYTES = 4096
"""A page: rows start at the beginning of one."""
FORMAT, VERSION = "tcl-tokens", 1
_MOST_IMAGES, _MOST_OF_A_ROW = 2**48, 2**30


@dataclass(frozen=True)
class TokenHeader:
    """What a file of tokens says of itself."""

    count: int
    """Images."""
    tokens: int
    """Of each image."""
    width: int
    storage: Storage
    model: str
    """Hash of what made them (tcl.models.token_maker)."""

    @property
    def row(self) -> np.dtype:
        """Of one image."""
        values = ("values", "<f2" if self.storage == "fp16" else "i1", (self.tokens, self.width))
        return np.dtype([values] if self.storage == "fp16" else [("scales", "<f4", (self.tokens,)), values])


@dataclass(frozen=True)
class TokenFile:
    """Tokens on the disk, of which only what is read comes into memory."""

    path: Path
    header: TokenHeader
    rows: np.ndarray
    """Memory map [count] of `TokenHeader.row`."""

    def __len__(self) -> int:
        return self.header.count

    def read(self, images: Sequence[int] | Tensor) -> StoredTokens:
        """Those of R images (places in the file): [R, N, W]. InputError: a place that is none."""
        places = np.asarray(images, dtype=np.int64)
        outside = places[(places < 0) | (places >= len(self))]
        if len(outside):
            raise InputError(f"images: {outside[0]} is not in {self.path}; accepted: 0 to {len(self) - 1}")
        rows = self.rows[places]  # a copy of these rows
        values = torch.from_numpy(np.ascontiguousarray(rows["values"]))
        if self.header.storage == "fp16":
            return StoredTokens(values, None)
        return StoredTokens(values, torch.from_numpy(np.ascontiguousarray(rows["scales"])))


class TokenWriter:
    """Writes a file of tokens: `with TokenWriter(path, model) as out: out.append(...)`. It takes its name when all is
    there; after an error, or of no images, nothing is left of it."""

    def __init__(self, path: str | Path, model: str):
        """model: hash of what makes the tokens. InputError: the file cannot be written."""
        self.path, self.model = Path(path), model
        self._partial = partial_of(self.path)
        self._header: TokenHeader | None = None
        try:
            self._file = self._partial.open("wb")
            self._file.write(b" " * HEADER_BYTES)
        except OSError as error:
            raise self._not_written(error) from error

    def append(self, stored: StoredTokens) -> None:
        """Tokens of the next R images [R, N, W], as large as those before. InputError: a full disk."""
        rows, N, W = stored.values.shape
        storage: Storage = "fp16" if stored.scales is None else "int8"
        count = 0 if self._header is None else self._header.count
        header = TokenHeader(count + rows, N, W, storage, self.model)
        if self._header is not None and self._header.row != header.row:
            raise ValueError(f"tokens of {header.row} after {self._header.row}")
        packed = np.empty(rows, header.row)
        packed["values"] = stored.values.cpu().numpy()
        if stored.scales is not None:
            packed["scales"] = stored.scales.cpu().numpy()
        try:
            self._file.write(packed.tobytes())
        except OSError as error:
            raise self._not_written(error) from error
        self._header = header

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._header is not None:
                said = {"format": FORMAT, "version": VERSION} | asdict(self._header)
                self._file.seek(0)
                self._file.write(json.dumps(said).encode("ascii").ljust(HEADER_BYTES - 1) + b"\n")
                self._file.close()
                os.replace(self._partial, self.path)
        except OSError as failed:
            raise self._not_written(failed) from failed
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def _not_written(self, error: OSError) -> InputError:
        return InputError(f"path: {self.path} cannot be written ({error.strerror or error}); name another file")


def open_tokens(path: str | Path, model: str) -> TokenFile:
    """The file at `path`, whose tokens were made by what has the hash `model`.

    InputError: no such file, none of ours, a newer version, another size than it says (as a truncated one has), or
    tokens of another model.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = _read_header(file.read(HEADER_BYTES), path)
        size, right = path.stat().st_size, HEADER_BYTES + header.count * header.row.itemsize
        if size != right:
            raise InputError(
                f"tokens: {path} has {size:,} bytes, and {header.count:,} images need {right:,}; it was cut or "
                f"changed, store them again"
            )
        if header.model != model:
            raise InputError(
                f"tokens: {path} was made by another model ({header.model:.12}, not {model:.12}); store them again"
            )
        return TokenFile(path, header, np.memmap(path, header.row, "r", HEADER_BYTES, (header.count,)))
    except OSError as error:
        raise InputError(f"tokens: {path} cannot be read ({error.strerror or error})") from error


def _read_header(content: bytes, path: Path) -> TokenHeader:
    """InputError: not one that `TokenWriter` wrote."""
    try:
        said = json.loads(content.decode("ascii"))
        ours, version = said.pop("format") == FORMAT, said.pop("version")
        if ours and isinstance(version, int) and version > VERSION:
            raise InputError(
                f"tokens: {path} is of version {version}, this version of tcl reads up to {VERSION}; upgrade tcl"
            )
        header = TokenHeader(**said)
        sizes = (header.count, header.tokens, header.width)
        fits = all(type(size) is int and size >= 1 for size in sizes) and isinstance(header.model, str)
        fits = fits and header.count <= _MOST_IMAGES and header.tokens * header.width <= _MOST_OF_A_ROW
        if not (ours and version == VERSION and fits and header.storage in get_args(Storage)):
            raise ValueError(said)
        return header
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"tokens: {path} is no file of stored tokens; give one that `store_tokens` wrote") from error
