"""Weights as people publish them: under prefixes, beside an optimiser, in several files; and files of no good."""

import json
import math
import zipfile

import pytest
import torch
from golden_files import read_golden
from safetensors.torch import save_file

from tcl.checkpoints.initial import initial_weights, normalisation_of
from tcl.checkpoints.published import from_published
from tcl.checkpoints.weights_file import find_weights, read_weights
from tcl.config.model import ImageEncoderConfig
from tcl.errors import InputError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4), "step": torch.tensor(3)}


def read(path):
    return read_weights(path, "source", "weights")


def same(found) -> bool:
    return found.keys() == STATE.keys() and all(found[name].equal(tensor) for name, tensor in STATE.items())


def refused(path, match: str) -> None:
    with pytest.raises(InputError, match=match) as said:
        read(path)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "state_dict.model."])
@pytest.mark.parametrize("keys", [(), ("model",), ("state_dict",), ("module",), ("state_dict", "model")])
def test_prefixes_and_containers(prefix, keys, tmp_path):
    state = {f"{prefix}{name}": tensor for name, tensor in STATE.items()}
    for key in reversed(keys):
        state = {key: state, "optimizer": {"state": {}, "lr": 0.1}, "epoch": 3}
    torch.save(state, tmp_path / "x.pth")
    assert same(read(tmp_path / "x.pth"))


def test_a_compiled_part_and_two_of_one_name(tmp_path):
    torch.save({"encoder._orig_mod.a": torch.ones(1)}, tmp_path / "x.pth")
    assert list(read(tmp_path / "x.pth")) == ["encoder.a"]
    torch.save({"module.a": torch.ones(1), "a": torch.ones(1)}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", r"holds a twice, under prefixes")


def test_published_weights_as_safetensors(tmp_path):
    state = read_golden("retrieval")[0]
    save_file({f"module._orig_mod.{k}": t.clone() for k, t in state.items()}, tmp_path / "x.safetensors")
    found, expected = initial_weights(str(tmp_path / "x.safetensors")), from_published(state).student
    assert found.keys() == expected.keys() and all(found[name].equal(t) for name, t in expected.items())
    assert normalisation_of(ImageEncoderConfig(), str(tmp_path / "x.safetensors")).mean is not None


def shards(folder, kind: str):
    """STATE in two files and an index."""
    save = save_file if kind == "safetensors" else torch.save
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names = [f"{stem}-0000{i}-of-00002.{kind}" for i in (1, 2)]
    save({"a.weight": STATE["a.weight"]}, folder / names[0])
    save({"b": STATE["b"], "step": STATE["step"]}, folder / names[1])
    places = {"a.weight": names[0], "b": names[1], "step": names[1]}
    index = folder / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index, places


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_in_several_files(kind, tmp_path):
    index, _ = shards(tmp_path, kind)
    assert find_weights(tmp_path) == index and same(read(index))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda places: places.update(b="../x.safetensors"), r"names '\.\./x\.safetensors'; accepted"),
        (lambda places: places.update(b="/etc/hostname"), r"names '/etc/hostname'; accepted"),
        (lambda places: places.update(b="model-00003-of-00003.safetensors"), r"which is not there"),
        (lambda places: places.update(b=3), r"no index of weights|names 3"),
        (lambda places: places.update(c="model-00001-of-00002.safetensors"), r"differ in c"),
        (lambda places: places.pop("step"), r"differ in step"),
    ],
)
def test_an_index_that_leads_astray(change, match, tmp_path):
    index, places = shards(tmp_path, "safetensors")
    change(places)
    index.write_text(json.dumps({"weight_map": places}))
    refused(index, match)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"weight_map": 3}', b"[" * 100_000, b"\xff"])
def test_an_index_that_is_none(content, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_bytes(content)
    refused(tmp_path / "model.safetensors.index.json", r"is no index of weights")


def test_small_files_that_would_become_large(tmp_path):
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "expanded.pth")
    refused(tmp_path / "expanded.pth", r"would take 4,398,046,511,104 bytes")
    torch.save({"a": torch.zeros(1 << 22)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as deflated,
    ):
        for entry in plain.infolist():
            deflated.writestr(entry.filename, plain.read(entry))
    refused(tmp_path / "deflated.pth", r"unpacked it has .* bytes, more than the file")


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_that_are_none(number, dtype, tmp_path):
    torch.save({"model": {"module.a": torch.tensor([1.0, number], dtype=dtype)}}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", r"x\.pth: module\.a holds NaN or infinite numbers")


@pytest.mark.parametrize("value", [torch.ones(2, dtype=torch.complex64), torch.ones(2).to_sparse(), "text"])
def test_what_is_no_plain_tensor(value, tmp_path):
    torch.save({"a": value}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", r"complex numbers|no tensor")
