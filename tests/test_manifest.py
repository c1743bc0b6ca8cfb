"""Exports that were changed after they were written are refused by name; replaced ones are never half old."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_hub import model, same_weights

from tcl.checkpoints.initial import initial_weights
from tcl.errors import InputError
from tcl.exports.pretrained import load_pretrained, save_pretrained


@pytest.fixture
def export(tmp_path) -> Path:
    save_pretrained(model(), tmp_path / "export")
    return tmp_path / "export"


def refused(export: Path, match: str) -> None:
    for read in (load_pretrained, initial_weights):
        with pytest.raises(InputError, match=match) as said:
            read(str(export))
        assert "\n" not in str(said.value)


def manifest_of(export: Path, change) -> None:
    path = export / "manifest.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said, indent=1))


def test_every_file_but_the_card_is_in_the_manifest(export):
    said = json.loads((export / "manifest.json").read_text())
    assert said.keys() == {path.name for path in export.iterdir()} - {"README.md", "manifest.json"}
    assert all((export / name).stat().st_size == entry["bytes"] for name, entry in said.items())
    (export / "README.md").write_text("mine")
    assert load_pretrained(str(export)).card == "mine"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_changed_byte_is_named(name, export):
    content = bytearray((export / name).read_bytes())
    content[-20] ^= 1
    (export / name).write_bytes(content)
    refused(export, rf"{name} is damaged, .*; get it again, or remove manifest\.json if .* on purpose$")
    (export / name).unlink()
    refused(export, rf"{name}: No such file" if name != "model.safetensors" else r"holds no weights")


def test_an_older_export_has_no_manifest(export):
    (export / "manifest.json").unlink()
    assert same_weights(load_pretrained(str(export)).student, model().student)


def test_a_file_that_loading_would_read_but_nobody_wrote(export):
    (export / "added_tokens.json").write_text("{}")
    refused(export, r"added_tokens\.json is not in manifest\.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda said: said.update({"../x": {"bytes": 1, "crc32": "0"}}),
            r"names '\.\./x', which is no file of its",
        ),
        (lambda said: said.update({"/etc/hostname": {"bytes": 1, "crc32": "0"}}), r"names '/etc/hostname'"),
        (lambda said: said.pop("tokenizer.json"), r"tokenizer\.json is not in manifest\.json"),
        (lambda said: said["config.json"].update(bytes="7"), r"manifest\.json is damaged"),
        (lambda said: said["config.json"].pop("crc32"), r"manifest\.json is damaged"),
        (lambda said: said.clear(), r"manifest\.json is damaged"),
    ],
)
def test_manifests_that_are_damaged(change, match, export):
    manifest_of(export, change)
    refused(export, match)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"[]", b"3"])
def test_manifests_that_are_none(content, export):
    (export / "manifest.json").write_bytes(content)
    refused(export, r"manifest\.json is damaged")


def test_one_name_twice(export):
    path = export / "manifest.json"
    path.write_text(path.read_text().replace("answers.txt", "config.json").replace("tokenizer.json", "config.json"))
    refused(export, r"manifest\.json is damaged")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_named(number, export):
    (export / "manifest.json").unlink()
    weights = load_file(export / "model.safetensors")
    weights["itm_head.weight"][0, 1] = number
    save_file(weights, export / "model.safetensors")
    refused(export, r"model\.safetensors: itm_head\.weight holds NaN or infinite numbers")


def test_an_export_in_place_of_another_is_never_half_of_each(export, monkeypatch):
    """Whichever of the moves is the last before a crash: what is there is one of the two, or refused."""
    other = model()
    for tensor in other.student.state_dict().values():
        if tensor.is_floating_point():
            tensor += 1
    replace, count = os.replace, 0

    def crash_after(moves: int):
        def move(source, target):
            nonlocal count
            count += 1
            if count > moves:
                raise KeyboardInterrupt
            replace(source, target)

        return move

    for moves in range(30):
        save_pretrained(model(), export)
        count = 0
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", crash_after(moves))
            try:
                save_pretrained(other, export)
            except KeyboardInterrupt:
                with pytest.raises(InputError, match="holds no weights"):
                    load_pretrained(str(export))
                continue
        assert moves > 3 and same_weights(load_pretrained(str(export)).student, other.student)
        return
    raise AssertionError("it never came to an end")


def test_a_teacher_is_checked_where_it_is_read(tmp_path):
    saved = model()
    saved.teacher = {"queue": torch.ones(4)}
    save_pretrained(saved, tmp_path / "export")
    save_file({"queue": torch.zeros(4)}, tmp_path / "export" / "teacher.safetensors", metadata={"format": "pt"})
    load_pretrained(str(tmp_path / "export"))
    with pytest.raises(InputError, match=r"teacher\.safetensors is damaged"):
        load_pretrained(str(tmp_path / "export"), with_teacher=True)
