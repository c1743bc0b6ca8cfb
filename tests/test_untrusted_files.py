"""Weights and exports that somebody else made: no code in them runs, and what is forged is refused in one line."""

import json
import struct
from pathlib import Path

import pytest
import torch
from data_files import TOKENIZER
from golden_files import save_tokenizer
from tiny import MODEL
from transformers import BertConfig

from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.initial import initial_weights
from tcl.config.model import ImageEncoderConfig, TextEncoderConfig
from tcl.data.texts.tokenize import load_tokenizer
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.text_encoder import load_masked_lm
from tcl.errors import InputError
from tcl.exports.convert_published import import_published
from tcl.exports.describe import build_student
from tcl.exports.import_bert import import_bert
from tcl.exports.pretrained import Pretrained, load_pretrained, save_pretrained
from tcl.objectives.tcl import KIND


class Malicious:
    """Leaves a file behind when it is unpickled by a loader that runs code."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@pytest.fixture
def export(tmp_path) -> Path:
    torch.manual_seed(0)
    student = build_student(ExportConfig("tcl", MODEL), TOKENIZER)
    save_pretrained(Pretrained(student, TOKENIZER, KIND, MODEL, 20, 10, card="x"), tmp_path / "export")
    return tmp_path / "export"


def refused(call, *arguments, match: str, **options) -> None:
    with pytest.raises(InputError, match=match) as said:
        call(*arguments, **options)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"model": {"a": torch.zeros(1), "b": bad}}])
def test_pickles_that_want_to_run_code(wrap, tmp_path):
    trace, file = tmp_path / "trace", tmp_path / "x.pth"
    torch.save(wrap(Malicious(trace)), file)
    torch.load(file, weights_only=False)  # it does run where it is let
    assert trace.exists()
    trace.unlink()
    match = r"no file of plain tensors \(it asks for \S*open\); refused, nothing was run"
    refused(import_published, file, tmp_path / "out", tokenizer="x", match=match)
    refused(initial_weights, str(file), match=match)
    assert not trace.exists()


def test_pickles_of_a_bert_and_of_timm(tmp_path):
    trace, bert = tmp_path / "trace", tmp_path / "bert"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertConfig(vocab_size=50, **sizes).save_pretrained(bert)
    save_tokenizer(bert, 50)
    torch.save({"bert.embeddings.word_embeddings.weight": Malicious(trace)}, bert / "pytorch_model.bin")
    refused(import_bert, bert, tmp_path / "out", MODEL, match="refused, nothing was run")
    refused(load_masked_lm, TextEncoderConfig(name=str(bert), pretrained=True), 50, 0, match=r"^model\.text: ")
    torch.save({"x": Malicious(trace)}, tmp_path / "vit.pth")
    with pytest.raises(InputError, match=r"^model\.image: "):
        build_image_encoder(ImageEncoderConfig("vit_tiny_patch16_224", str(tmp_path / "vit.pth")))
    assert not trace.exists()


def test_files_that_hold_more_than_tensors(tmp_path):
    torch.save({"model": {"a": torch.zeros(1), "b": "text"}}, tmp_path / "x.pth")
    refused(initial_weights, str(tmp_path / "x.pth"), match=r"holds a str as 'b', no tensor")


def with_header(header: bytes, data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(*offsets: int, dtype: str = "F32", shape: tuple[int, ...] = (2,)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        with_header(b"{", length=1 << 62),
        with_header(b"not json"),
        with_header(json.dumps({"a": entry(0, 4000)}).encode()),
        with_header(json.dumps({"a": entry(0, 8), "b": entry(0, 8)}).encode()),
        with_header(json.dumps({"a": entry(0, 8, shape=(3,))}).encode()),
        with_header(json.dumps({"a": entry(0, 8, dtype="F33")}).encode()),
        with_header(json.dumps({"a": entry(8, 0)}).encode()),
        with_header(json.dumps({"a": entry(0, 4, shape=(1,))}).encode()),
    ],
    ids=["empty", "junk", "endless", "no_json", "outside", "overlap", "shape", "dtype", "backwards", "left_over"],
)
def test_forged_safetensors_headers(content, export):
    (export / "manifest.json").unlink()
    (export / "model.safetensors").write_bytes(content)
    refused(load_pretrained, str(export), match=r"^source: .*model\.safetensors cannot be read")


def test_weights_cut_short(export):
    whole = (export / "model.safetensors").read_bytes()
    (export / "model.safetensors").write_bytes(whole[:-5])
    refused(load_pretrained, str(export), match=r"model\.safetensors has .* bytes, manifest\.json says")
    (export / "manifest.json").unlink()
    refused(load_pretrained, str(export), match=r"model\.safetensors cannot be read")


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("image", {"pretrained": "/somewhere/vit.pth"}, r"model\.\*\.pretrained is set"),
        ("image", {"pretrained": True}, r"model\.\*\.pretrained is set"),
        ("text", {"pretrained": "someone/else"}, r"model\.\*\.pretrained is set"),
        ("image", {"name": "hf-hub:someone/else"}, r"is none of timm's own architectures"),
        ("image", {"name": "local-dir:/tmp"}, r"is none of timm's own architectures"),
        ("text", {"name": "someone/else"}, r"is no model type of transformers"),
        ("image", {"overrides": {"checkpoint_path": "/tmp/x.pth"}}, r"overrides\.checkpoint_path .* is not accepted"),
        ("image", {"overrides": {"pretrained_cfg_overlay": {"file": "x"}}}, r"overrides\.pretrained_cfg_overlay"),
        ("image", {"overrides": {"embed_dim": {"a": 1}}}, r"overrides\.embed_dim is {'a': 1}; accepted: a number"),
        ("text", {"overrides": {"trust_remote_code": True}}, r"overrides\.trust_remote_code .* is not accepted"),
        ("text", {"overrides": {"attn_implementation": "a/kernel"}}, r"overrides\.attn_implementation"),
        ("text", {"overrides": {"auto_map": {"AutoModelForMaskedLM": "a--b.C"}}}, r"overrides\.auto_map"),
    ],
)
def test_configs_that_would_fetch_something(section, change, message, export):
    said = json.loads((export / "config.json").read_text())
    said["model"][section] |= change
    (export / "config.json").write_text(json.dumps(said))
    refused(load_pretrained, str(export), match=message)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1]", b"{", b"[" * 100_000])
def test_configs_that_are_no_json_object(content, export):
    (export / "config.json").write_bytes(content)
    refused(load_pretrained, str(export), match=r"config\.json(: | cannot be read)")


def test_a_tokenizer_that_brings_code(export, monkeypatch):
    """Nobody is asked whether it may run either: whoever is asked says yes."""
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    trace = export / "trace"
    (export / "code.py").write_text(f"open({str(trace)!r}, 'w')\nclass T: pass\n")
    said = json.loads((export / "tokenizer_config.json").read_text())
    said |= {"tokenizer_class": "T", "auto_map": {"AutoTokenizer": ["code.T", "code.T"]}}
    (export / "tokenizer_config.json").write_text(json.dumps(said))
    refused(load_tokenizer, str(export), match=r"^model\.text\.tokenizer: .* cannot be loaded")
    assert not trace.exists()


def test_answers_that_are_no_text(export):
    (export / "manifest.json").unlink()
    for content, message in (
        (b"\xff\xfe\xfa", r"^source: .*answers\.txt is not UTF-8"),
        (b"\n \n", r"^source: .*answers\.txt is empty; give one answer a line$"),
    ):
        (export / "answers.txt").write_bytes(content)
        refused(load_pretrained, str(export), match=message)
