"""Embeddings as a file for other programs, with the ids of its rows.

NAME.npy           float32 [n, embed_dim], and beside it NAME.ids.json, a list of n ids
NAME.safetensors   "embeddings", the same, and "ids", the UTF-8 bytes of the same list
NAME.hubness.npy   float32 [n], to subtract from cosines, where a bank of queries was given; "hubness" in safetensors
NAME.skipped.json  what could not be used, where there was any: [{"id", "cause"}]
"""

import json
from pathlib import Path

import numpy as np
import torch

from tcl.checkpoints.weights_file import read_weights, write_weights
from tcl.data.shards.bad_sample import Skipped
from tcl.errors import InputError
from tcl.inference.embed_stream import EmbeddedStream
from tcl.whole_file import partial_of, write_whole

SUFFIXES = (".npy", ".safetensors")


def check_out(path: Path) -> None:
    """Before the work begins. InputError: another suffix, or no folder that could hold it."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"out: {path} ends in {path.suffix or 'nothing'}; accepted: {' and '.join(SUFFIXES)}")
    if path.is_dir():
        raise InputError(f"out: {path} is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_of(path).touch()
        partial_of(path).unlink()
    except OSError as error:
        raise not_written(path, error) from error


def write_embeddings(embedded: EmbeddedStream, path: Path) -> Path | None:
    """Each file as a whole, by renaming; returns that of what was skipped. InputError: it cannot be written."""
    ids = json.dumps(embedded.ids).encode()
    hubness = path.with_suffix(".hubness.npy")
    try:
        if path.suffix == ".npy":
            write_whole(path.with_suffix(".ids.json"), lambda out: out.write_bytes(ids))
            if embedded.hubness is None:
                hubness.unlink(missing_ok=True)
            else:
                write_whole(hubness, lambda out: _save_array(embedded.hubness, out))
            write_whole(path, lambda out: _save_array(embedded.embeddings, out))
        else:
            tensors = {
                "embeddings": torch.from_numpy(embedded.embeddings),
                "ids": torch.frombuffer(bytearray(ids), dtype=torch.uint8),
            }
            if embedded.hubness is not None:
                tensors["hubness"] = torch.from_numpy(embedded.hubness)
            write_whole(path, lambda out: write_weights(tensors, out))
        return write_skipped(embedded.skipped, path.with_suffix(".skipped.json"))
    except OSError as error:
        raise not_written(path, error) from error


def write_skipped(skipped: list[Skipped], file: Path) -> Path | None:
    """What was skipped, into `file`, which is taken away where there was nothing; returns it. OSError: it cannot be
    written."""
    if not skipped:
        file.unlink(missing_ok=True)
        return None
    listed = json.dumps([one._asdict() for one in skipped], indent=1) + "\n"
    write_whole(file, lambda out: out.write_text(listed))
    return file


def read_embeddings(path: Path, field: str) -> np.ndarray:
    """float32 [n, embed_dim], as `write_embeddings` left them. InputError, naming `field`: there is no such file, or
    it holds something else."""
    accepted = "a .npy or .safetensors of `tcl encode`"
    if path.suffix == ".safetensors":
        found = read_weights(path, field, accepted).get("embeddings")
        array = None if found is None else found.numpy()
    else:
        try:
            array = np.load(path, allow_pickle=False)
        except OSError as error:
            raise InputError(f"{field}: {path} cannot be read ({error.strerror or error}); give {accepted}") from error
        except (ValueError, EOFError) as error:
            raise InputError(f"{field}: {path} is no array of numbers; give {accepted}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype != np.float32:
        raise InputError(f"{field}: {path} holds no embeddings, float32 [n, embed_dim]; give {accepted}")
    return array


def _save_array(array: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:  # given a path, numpy would add a suffix to it
        np.save(file, array, allow_pickle=False)


def not_written(path: Path, error: OSError) -> InputError:
    """What to say of it."""
    return InputError(f"out: {path} cannot be written ({error.strerror or error}); name another file")
