"""Stored tokens on the disk: what was written is read, in the format that is documented, and damage is told."""

import json

import numpy as np
import pytest
import torch

from tcl.data.tokens.stored_tokens import StoredTokens, restore_tokens, store_tokens
from tcl.data.tokens.token_file import HEADER_BYTES, TokenFile, TokenWriter, open_tokens
from tcl.errors import InputError

MODEL = "0123456789abcdef" * 2


def tokens(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 5, generator=torch.Generator().manual_seed(seed))


def written(path, storage: str = "int8") -> TokenFile:
    with TokenWriter(path, MODEL) as out:
        for count in (2, 1, 4):
            out.append(store_tokens(tokens(count, seed=count), storage))
    return open_tokens(path, MODEL)


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_rows_are_those_that_were_appended(tmp_path, storage):
    file = written(tmp_path / "a.tokens", storage)
    whole = store_tokens(torch.cat([tokens(count, seed=count) for count in (2, 1, 4)]), storage)
    assert len(file) == 7 and file.header.storage == storage and isinstance(file.rows, np.memmap)
    found = file.read(torch.tensor([6, 0, 6, 3]))
    assert found.values.equal(whole.values[[6, 0, 6, 3]]) and found.values.dtype == whole.values.dtype
    assert (found.scales is None) == (storage == "fp16")
    torch.testing.assert_close(restore_tokens(found), restore_tokens(whole)[[6, 0, 6, 3]], rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tokens"]


def test_the_file_is_what_its_description_says(tmp_path):
    """Read by hand."""
    written(tmp_path / "a.tokens")
    content = (tmp_path / "a.tokens").read_bytes()
    said = json.loads(content[:HEADER_BYTES])
    assert said == {
        **{"format": "tcl-tokens", "version": 1, "count": 7, "tokens": 3, "width": 5, "storage": "int8"},
        "model": MODEL,
    }
    row = content[HEADER_BYTES + 2 * 27 : HEADER_BYTES + 3 * 27]  # 3 scales of 4 bytes, 15 values
    right = store_tokens(tokens(1, seed=1), "int8")
    assert row == right.scales.numpy().tobytes() + right.values.numpy().tobytes()
    assert len(content) == HEADER_BYTES + 7 * 27


def test_what_is_not_finished_is_not_there(tmp_path):
    with pytest.raises(RuntimeError), TokenWriter(tmp_path / "a.tokens", MODEL) as out:
        out.append(store_tokens(tokens(2), "fp16"))
        raise RuntimeError
    with TokenWriter(tmp_path / "b.tokens", MODEL):
        pass
    assert not list(tmp_path.iterdir())


def test_tokens_of_other_sizes_are_refused(tmp_path):
    with TokenWriter(tmp_path / "a.tokens", MODEL) as out:
        out.append(store_tokens(tokens(2), "fp16"))
        for other in (store_tokens(tokens(2), "int8"), StoredTokens(torch.zeros(1, 4, 5).half(), None)):
            with pytest.raises(ValueError, match="after"):
                out.append(other)
    assert len(open_tokens(tmp_path / "a.tokens", MODEL)) == 2


def damaged(content: bytes, how: str) -> bytes:
    said = json.loads(content[:HEADER_BYTES])
    changes = {
        "newer": {"version": 2},
        "no format": {"format": "x"},
        "no images": {"count": 0},
        "half an image": {"count": 7.0},
        "true": {"tokens": True},
        "huge": {"tokens": 2**40, "width": 2**40},
        "other storage": {"storage": "fp8"},
        "no hash": {"model": None},
        "more": {"more": 1},
        "more images": {"count": 8},
    }
    if how in changes:
        header = json.dumps(said | changes[how]).encode().ljust(HEADER_BYTES)
        return header + content[HEADER_BYTES:]
    return {
        "truncated": content[:-1],
        "longer": content + b"x",
        "header alone": content[:HEADER_BYTES],
        "half a header": content[:20],
        "empty": b"",
        "no JSON": b"x" * len(content),
        "no object": b"[]".ljust(HEADER_BYTES) + content[HEADER_BYTES:],
        "nested": b"[" * HEADER_BYTES,
        "not ASCII": b"\xff" * len(content),
    }[how]


OF_ANOTHER_SIZE = {"truncated": 4284, "longer": 4286, "header alone": 4096, "more images": 4285}


@pytest.mark.parametrize(
    "how",
    [
        *("newer", "no format", "no images", "half an image", "true", "huge", "other storage", "no hash", "more"),
        *("half a header", "empty", "no JSON", "no object", "nested", "not ASCII", *OF_ANOTHER_SIZE),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, how):
    path = tmp_path / "a.tokens"
    written(path)
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(InputError) as refused:
        open_tokens(path, MODEL)
    said = str(refused.value)
    assert said.startswith(f"tokens: {path} ") and "\n" not in said
    if how in OF_ANOTHER_SIZE:
        assert f"has {OF_ANOTHER_SIZE[how]:,} bytes, and" in said and "store them again" in said
    elif how == "newer":
        assert "version 2" in said and "upgrade" in said
    else:
        assert "no file of stored tokens" in said


def test_another_models_file_a_place_that_is_none_and_files_that_cannot_be(tmp_path):
    file = written(tmp_path / "a.tokens")
    with pytest.raises(InputError, match=r"^tokens: .*a\.tokens was made by another model \(0123456789ab, not ffff"):
        open_tokens(tmp_path / "a.tokens", "f" * 32)
    for place in (7, -1):
        with pytest.raises(InputError, match=rf"^images: {place} is not in .*; accepted: 0 to 6$"):
            file.read([0, place])
    with pytest.raises(InputError, match=r"^tokens: .* cannot be read \(No such file"):
        open_tokens(tmp_path / "b.tokens", MODEL)
    with pytest.raises(InputError, match=r"^path: .* cannot be written \(No such file"):
        TokenWriter(tmp_path / "no" / "a.tokens", MODEL)
