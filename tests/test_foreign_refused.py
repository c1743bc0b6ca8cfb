"""Models of transformers that cannot be used are refused in one line, and no code beside any of them runs."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import TOKENIZER, noise
from golden_files import save_tokenizer
from safetensors.torch import load_file, save_file
from test_untrusted_files import Malicious
from tiny_foreign import SIZES, save, save_blip, save_clip, save_siglip
from tiny_pretrained import PLAIN, tiny_classifier, tiny_tcl
from transformers import (
    BertConfig,
    BertModel,
    BlipForConditionalGeneration,
    CLIPImageProcessor,
    Siglip2ImageProcessor,
)

from tcl import TCL, BlipMatcher, ForeignTowers, load_model
from tcl.errors import InputError
from tcl.inference.load_model import load_embedding_model, load_matcher

BOTH = pytest.mark.parametrize("saved", [save_clip, save_blip])


def refused(source: Path, match: str, load=load_model, **options) -> None:
    with pytest.raises(InputError, match=match) as said:
        load(source, **{**PLAIN, **options})
    assert "\n" not in str(said.value)


def change(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_model_of_neither_kind(tmp_path):
    save(BertModel(BertConfig(vocab_size=20, **SIZES)), tmp_path)
    refused(tmp_path, r"^source: .* \(bert\) is none that embeds images and texts; give a model of the CLIP or SigLIP")
    change(tmp_path, model_type="nonsense")
    refused(tmp_path, r"^source: .* is no model that transformers knows")


@pytest.mark.parametrize("name", ["nobody/nothing", "no/such/folder", "x.npy"])
def test_nothing_of_that_name(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(name, r"^source: ")
    for kind in (ForeignTowers, BlipMatcher):
        refused(name, r"^source: .* is no model that transformers knows", kind.from_pretrained)


@BOTH
def test_no_processor_beside_it(saved, tmp_path):
    saved(tmp_path)
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for name in kept.keys() & {"processor_config.json", "preprocessor_config.json"}:
        (tmp_path / name).unlink()
    refused(tmp_path, r"^source: .* has no image processor \(.*\); save it beside the model")
    for name, content in kept.items():
        (tmp_path / name).write_bytes(content)
    for name in kept.keys() & {"tokenizer.json", "vocab.txt", "vocab.json", "tokenizer_config.json"}:
        (tmp_path / name).unlink()
    refused(tmp_path, r"^source: .* has no tokenizer.*; save it beside the model \(tokenizer.json\)")


def test_a_blip_for_captions(tmp_path):
    save_blip(tmp_path, BlipForConditionalGeneration)
    refused(tmp_path, r"is a BlipForConditionalGeneration, which does not match texts with images; give")
    change(tmp_path, architectures=["BlipForImageTextRetrieval"])
    refused(tmp_path, r"lacks \d+ of the weights of a BlipForImageTextRetrieval \(\w")


def test_a_blip_whose_texts_do_not_look_at_images(tmp_path):
    save_blip(tmp_path)
    texts = json.loads((tmp_path / "config.json").read_text())["text_config"]
    change(tmp_path, text_config=texts | {"is_decoder": False})
    refused(tmp_path, r"^source: the text encoder of .* does not look at images; give")


def test_one_kind_where_the_other_is_wanted(tmp_path):
    save_clip(tmp_path / "clip")
    save_blip(tmp_path / "blip")
    tiny_classifier(["dog", "cat"]).save_pretrained(tmp_path / "classifier")
    tiny_tcl().save_pretrained(tmp_path / "tcl")
    refused(tmp_path / "blip", r"is a BlipMatcher, which has no embeddings", load_embedding_model)
    refused(tmp_path / "classifier", r"is a TCLForClassification, which has no embeddings", load_embedding_model)
    refused(tmp_path / "clip", r"is a ForeignTowers, which does not match texts with images", load_matcher)
    refused(tmp_path / "clip", r"no `format: tcl` with a `format_version`", TCL.from_pretrained)
    assert type(load_embedding_model(tmp_path / "tcl", **PLAIN)) is type(load_matcher(tmp_path / "tcl", **PLAIN)) is TCL


@BOTH
def test_arguments_out_of_range(saved, tmp_path):
    saved(tmp_path)
    refused(tmp_path, r"^batch_size: 0 is not possible; accepted: 1 or more", batch_size=0)
    refused(tmp_path, r"^precision: 'fp8' is not possible", precision="fp8")
    refused(tmp_path, r"^device: 'gpu' cannot be used", device="gpu")


@BOTH
def test_texts_and_images_that_cannot_be_used(saved, tmp_path):
    model = load_model(saved(tmp_path), **PLAIN)
    embeds = isinstance(model, ForeignTowers)
    read, see = (
        (model.encode_text, model.encode_image)
        if embeds
        else (lambda texts: model.match(noise(), texts), lambda images: model.match(images, "a dog"))
    )
    for texts, message in ((["a", "\u200b"], r"^texts\[1\]: '\\u200b' has no words"), ("word " * 1001, r"1,001 words")):
        with pytest.raises(InputError, match=message):
            read(texts)
    with pytest.raises(InputError, match=r"^images\[0\]: 'none.jpg' is no file"):
        see("none.jpg")
    if not embeds:
        with pytest.raises(InputError, match=r"^texts: 2 for 3 images; give one for each, or one for all"):
            model.match([noise()] * 3, ["a", "dog"])


@BOTH
def test_weights_that_cannot_be_used(saved, tmp_path):
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = load_file(path)
    name = next(name for name, tensor in whole.items() if tensor.ndim == 2)
    save_file({key: tensor for key, tensor in whole.items() if key != name}, path, {"format": "pt"})
    refused(tmp_path, rf"lacks 1 of the weights of a \w+ \({name}, ...\)")
    save_file(whole | {name: torch.full_like(whole[name], torch.nan)}, path, {"format": "pt"})
    refused(tmp_path, rf"{name} holds NaN or infinite numbers")
    save_file(whole, path, {"format": "pt"})
    path.write_bytes(path.read_bytes()[:-5])
    refused(tmp_path, r"^source: the weights of .* cannot be loaded")
    path.unlink()
    refused(tmp_path, r"^source: the weights of .* cannot be loaded")


@BOTH
def test_pickles_that_want_to_run_code(saved, tmp_path):
    saved(tmp_path / "model")
    trace, path = tmp_path / "trace", tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    path.unlink()
    torch.save(weights | {"more": Malicious(trace)}, path.with_name("pytorch_model.bin"))
    refused(tmp_path / "model", r"^source: the weights of .* cannot be loaded")
    assert not trace.exists()
    torch.save(weights, path.with_name("pytorch_model.bin"))  # plain tensors are read, as everywhere
    load_model(tmp_path / "model", **PLAIN)


@pytest.mark.parametrize("where", ["config.json", "processor_config.json", "tokenizer_config.json"])
def test_code_beside_a_model_is_never_run(where, tmp_path, monkeypatch):
    """Nobody is asked whether it may run either: whoever is asked says yes."""
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    folder, trace = save_clip(tmp_path / "model"), tmp_path / "trace"
    (folder / "code.py").write_text(f"open({str(trace)!r}, 'w')\nclass T: pass\n")
    path = folder / where
    said = json.loads(path.read_text())
    classes = ("AutoConfig", "AutoModel", "AutoImageProcessor", "AutoProcessor")
    said |= {"auto_map": dict.fromkeys(classes, "code.T") | {"AutoTokenizer": ["code.T", "code.T"]}}
    said |= {"model_type": "theirs"} if where == "config.json" else {}
    said |= {"tokenizer_class": "T"} if where == "tokenizer_config.json" else {}
    if where == "processor_config.json":
        said["image_processor"] |= {"image_processor_type": "T", "auto_map": {"AutoImageProcessor": "code.T"}}
    path.write_text(json.dumps(said))
    if where == "tokenizer_config.json":
        load_model(folder, **PLAIN)  # tokenizer.json says all that there is to know
    else:
        refused(folder, r"^source: ")
    assert not trace.exists()


@BOTH
def test_kernels_and_quantisations_that_would_be_fetched(saved, tmp_path):
    saved(tmp_path)
    plain = json.loads((tmp_path / "config.json").read_text())
    parts = {name: plain[name] | {"attn_implementation": "someone/kernel"} for name in ("text_config", "vision_config")}
    change(tmp_path, attn_implementation="someone/kernel", **parts)
    model = load_model(tmp_path, **PLAIN)
    network = model.towers.network if saved is save_clip else model.blip.networks.vision_model
    assert {part.config._attn_implementation for part in network.modules() if hasattr(part, "config")} <= {
        "sdpa",
        "eager",
    }
    change(tmp_path, quantization_config={"quant_method": "fbgemm_fp8"})
    refused(tmp_path, r"^source: .* is quantised, and would fetch code for that")


def test_towers_of_any_kind(tmp_path):
    save_clip(tmp_path)
    of_any = {"text_config": {"model_type": "yoso"}, "vision_config": {"model_type": "vit"}}
    change(tmp_path, model_type="vision-text-dual-encoder", **of_any)
    refused(tmp_path, r"\(vision-text-dual-encoder\) puts together models of any kind")


def test_sizes_that_no_machine_has(tmp_path):
    save_clip(tmp_path)
    texts = json.loads((tmp_path / "config.json").read_text())["text_config"]
    change(tmp_path, text_config=texts | {"vocab_size": 10**12})
    refused(tmp_path, r"^source: a network of these sizes takes more than")


def test_processors_of_another_model(tmp_path):
    save_clip(tmp_path)
    said = json.loads((tmp_path / "processor_config.json").read_text())
    (tmp_path / "processor_config.json").unlink()
    CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}).save_pretrained(tmp_path)
    refused(tmp_path, r"makes images of \[3, 48, 48\], its network reads \[3, 32, 32\]")
    CLIPImageProcessor(size={"shortest_edge": 32}, do_center_crop=False).save_pretrained(tmp_path)
    refused(
        tmp_path, r"makes pixel_values of \[3, 32, 48\] and \[3, 48, 32\]; accepted: pixel_values alone, of one size"
    )
    Siglip2ImageProcessor(patch_size=8).save_pretrained(tmp_path)
    refused(tmp_path, r"makes pixel_attention_mask, pixel_values, spatial_shapes of")
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps(said))
    save_tokenizer(tmp_path, len(TOKENIZER) + 3)
    refused(tmp_path, rf"has {len(TOKENIZER) + 3} tokens, its network embeds {len(TOKENIZER)}; use the one")


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_that_wants_a_package(tmp_path):
    path = save_siglip(tmp_path) / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "SiglipTokenizer"}))
    refused(
        tmp_path, r"^source: the tokenizer of .* wants a package that is not installed .*: pip install sentencepiece$"
    )


def test_a_siglip_is_never_given_a_mask(tmp_path):
    """It pools the last place, which is padding: two texts of different lengths in one pass are those alone."""
    model = load_model(save_siglip(tmp_path), **PLAIN)
    together = model.encode_text(["a", "a red dog on mat"])
    np.testing.assert_allclose(together[:1], model.encode_text("a"), atol=1e-6)
