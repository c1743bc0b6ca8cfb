"""Models as ONNX, run by onnxruntime, against the networks themselves and the evaluation in torch."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from accelerate.state import AcceleratorState
from data_files import TOKENIZER, encode, noise, pair, write_tar
from PIL import Image
from rescoring import (
    dual_softmax,
    dual_softmax_at_once,
    inverted_softmax,
    inverted_softmax_at_once,
    order_of,
    unit_rows,
)
from tiny import BERT, MODEL, random_batch
from tiny_pretrained import tiny_classifier, tiny_entailment, tiny_nlvr, tiny_tcl, tiny_vqa
from transformers import AutoTokenizer

from tcl import TCL
from tcl.checkpoints.export_format import ExportConfig
from tcl.commands.onnx import main
from tcl.config.model import FusionConfig, TextEncoderConfig
from tcl.data.sets.retrieval_set import RetrievalSet, load_retrieval_set
from tcl.data.texts.tokenize import tokenize
from tcl.data.tokens.stored_tokens import restore_tokens, store_tokens
from tcl.data.tokens.token_file import TokenWriter
from tcl.errors import InputError
from tcl.exports.describe import build_student
from tcl.exports.pretrained import Pretrained, save_pretrained
from tcl.models.compress_tokens import build_compression
from tcl.objectives.tcl import KIND
from tcl.onnx.agreement import largest_differences, torch_recalls
from tcl.onnx.class_graph import load_classifier
from tcl.onnx.export_graphs import GRAPHS, export_onnx
from tcl.onnx.graph_retrieval import onnx_recalls, onnx_retrieval
from tcl.onnx.graphs import trace
from tcl.onnx.towers import OnnxTowers, load_onnx

CAPTIONS = ["a red dog", "cat on a mat", "a photo of thing number dog", "blue", "green mat on a dog", "a mat", "dog"]


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return tiny_tcl().pretrained


@pytest.fixture(scope="module")
def made(pretrained, tmp_path_factory) -> tuple[Path, dict]:
    """A folder, and what tracing gave: it takes seconds."""
    folder, traced = tmp_path_factory.mktemp("onnx") / "out", []

    def recorded(given: Pretrained) -> dict:
        traced.append(trace(given))
        return traced[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tcl.onnx.export_graphs.trace", recorded)
        export_onnx(pretrained, folder, int8=True)
    return folder, traced[0]


@pytest.fixture(scope="module")
def folder(made) -> Path:
    return made[0]


@pytest.fixture
def already_traced(made, monkeypatch) -> None:
    """For a model with the weights of `pretrained`."""
    monkeypatch.setattr("tcl.onnx.export_graphs.trace", lambda _: made[1])


@pytest.fixture(scope="module")
def towers(folder) -> OnnxTowers:
    return load_onnx(folder)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("shards") / "000000.tar"
    samples = [pair(f"{i}", caption, encode(noise(i), "PNG")) for i, caption in enumerate(CAPTIONS)]
    write_tar(path, [entry for sample in samples for entry in sample])
    return str(path)


def retrieval_set(shards: str) -> RetrievalSet:
    return load_retrieval_set(shards, max_words=8, max_pixels=10**6)


@torch.no_grad()
@pytest.mark.parametrize(("pairs", "length"), [(1, 3), (1, 12), (3, 5), (7, 12)])
def test_graphs_equal_the_networks_at_any_batch_size_and_length(pretrained, towers, pairs, length):
    """The fusion encoder's plain forward pass is not what the graph was traced from."""
    batch, encoders = random_batch(pairs, seed=pairs, length=length), pretrained.student.encoders
    ids = batch.inputs["text"].ids.clamp(max=len(TOKENIZER) - 1)
    image_tokens = encoders.image_encoder(batch.inputs["image"].view)
    text_tokens = encoders.text_encoder(ids, batch.inputs["text"].mask)
    found_image, image_embedding = towers.encode_images(batch.inputs["image"].view.numpy())
    found_text, text_embedding = towers.encode_texts(ids.numpy(), batch.inputs["text"].mask.numpy())
    fused = encoders.fusion_encoder(
        text_tokens, batch.inputs["text"].mask, encoders.fusion_encoder.image_keys_values(image_tokens)
    )
    logits = towers.match(found_image, found_text, batch.inputs["text"].mask.numpy())
    for found, expected in (
        (found_image, image_tokens),
        (image_embedding, encoders.project_image(image_tokens[:, 0])),
        (found_text, text_tokens),
        (text_embedding, encoders.project_text(text_tokens[:, 0])),
        (logits, pretrained.student.itm_head(fused[:, 0])),
    ):
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)
    assert np.ptp(logits) > 0.01


def test_what_stands_in_the_padding_does_not_matter(towers):
    batch = random_batch(3, seed=1, length=4)
    ids, mask = batch.inputs["text"].ids.clamp(max=9).numpy(), batch.inputs["text"].mask.numpy()
    wide = np.pad(ids, ((0, 0), (0, 5)), constant_values=7)
    wide_mask = np.pad(mask, ((0, 0), (0, 5)))
    tokens, embedding = towers.encode_texts(ids, mask)
    wide_tokens, wide_embedding = towers.encode_texts(wide, wide_mask)
    np.testing.assert_allclose(wide_embedding, embedding, atol=1e-5)
    np.testing.assert_allclose(wide_tokens[:, :4][mask == 1], tokens[mask == 1], atol=1e-5)
    image_tokens, _ = towers.encode_images(batch.inputs["image"].view.numpy())
    wide_tokens[wide_mask == 0] = 1000
    logits = towers.match(image_tokens, wide_tokens, wide_mask)
    np.testing.assert_allclose(logits, towers.match(image_tokens, tokens, mask), atol=1e-4)


def test_each_pair_is_scored_alone(towers):
    """Of the texts, none sees another, and of the images likewise."""
    batch = random_batch(4, seed=2, length=6)
    ids, mask = batch.inputs["text"].ids.clamp(max=9).numpy(), batch.inputs["text"].mask.numpy()
    images, texts = towers.encode_images(batch.inputs["image"].view.numpy())[0], towers.encode_texts(ids, mask)[0]
    together = towers.match(images, texts, mask)
    alone = [towers.match(images[i : i + 1], texts[i : i + 1], mask[i : i + 1])[0] for i in range(4)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_largest_differences_are_rounding_and_what_differs_shows(pretrained, towers):
    found = largest_differences(pretrained, towers)
    assert found.keys() == {"image_tokens", "image_embedding", "text_tokens", "text_embedding", "itm_logits"}
    assert all(0 < difference < 1e-4 for difference in found.values())
    other = tiny_tcl().pretrained
    with torch.no_grad():
        other.student.itm_head.bias += torch.tensor([0.0, 0.5])
    changed = largest_differences(other, towers)
    assert changed.pop("itm_logits") == pytest.approx(0.5, abs=1e-4)
    assert changed == {name: found[name] for name in changed}
    with torch.no_grad():
        other.student.itm_head.bias.fill_(torch.nan)
    assert np.isnan(largest_differences(other, towers)["itm_logits"])


def test_int8_graphs_are_smaller_and_close(pretrained, folder, towers):
    small = load_onnx(folder, int8=True)
    for name in GRAPHS:
        large = onnx.load(folder / f"{name}.onnx").graph.initializer
        quantised = onnx.load(folder / f"{name}.int8.onnx").graph.initializer
        assert sum(len(tensor.raw_data) for tensor in quantised) < 0.7 * sum(len(tensor.raw_data) for tensor in large)
    batch = random_batch(5, seed=3, length=9)
    ids, mask = batch.inputs["text"].ids.clamp(max=9).numpy(), batch.inputs["text"].mask.numpy()
    pixels = batch.inputs["image"].view.numpy()
    for found, expected in (
        (small.encode_images(pixels)[1], towers.encode_images(pixels)[1]),
        (small.encode_texts(ids, mask)[1], towers.encode_texts(ids, mask)[1]),
    ):
        assert ((found * expected).sum(axis=1) > 0.98).all()  # with overflows it falls to 0.9
        assert np.abs(found - expected).max() > 1e-5  # it is not the same graph
    differences = largest_differences(pretrained, small)
    assert 1e-5 < differences["itm_logits"] < 0.5


@pytest.mark.parametrize(("tokens", "storage"), [(2, "int8"), pytest.param(None, "fp16", marks=pytest.mark.slow)])
def test_a_graph_takes_stored_tokens_few_or_all(tmp_path, tokens, storage, monkeypatch, capsys):
    """And so does the int8 graph, and the report says how near they come to torch."""
    known = tiny_tcl().pretrained
    encoders = known.student.encoders
    encoders.fusion_encoder.compression = build_compression(tokens, encoders.image_encoder)
    known.model = replace(MODEL, fusion=FusionConfig(image_tokens=tokens))
    save_pretrained(known, tmp_path / "export")
    out = tmp_path / "out"
    main([str(tmp_path / "export"), str(out), "--int8", "--stored", storage])
    report = json.loads((out / "onnx_report.json").read_text())["largest_differences"]
    assert 0 < report["fp32"]["stored_itm_logits"] < 1e-4 < report["int8"]["stored_itm_logits"] < 0.5
    assert "stored_itm_logits" in capsys.readouterr().out
    model = TCL(known, device="cpu", precision="fp32")
    batch = random_batch(3, seed=4, length=6)
    ids, mask = batch.inputs["text"].ids.clamp(max=9).numpy(), batch.inputs["text"].mask.numpy()
    towers, small = load_onnx(out), load_onnx(out, int8=True)
    images, texts = towers.encode_images(batch.inputs["image"].view.numpy())[0], towers.encode_texts(ids, mask)[0]
    assert images.shape == (3, tokens or 5, 24) and towers.storage == storage
    fresh = towers.match(images, texts, mask)
    with TokenWriter(tmp_path / "a.tokens", model.token_maker) as file:
        file.append(store_tokens(torch.from_numpy(images), storage))
    stored = model.open_tokens(tmp_path / "a.tokens").read([0, 1, 2])
    found = towers.match_stored(stored, texts, mask)
    np.testing.assert_allclose(found, fresh, atol={"fp16": 5e-3, "int8": 0.1}[storage])
    np.testing.assert_allclose(found, towers.match(restore_tokens(stored).numpy(), texts, mask), atol=1e-4)
    np.testing.assert_allclose(small.match_stored(stored, texts, mask), found, atol=0.5)
    other = {"fp16": "int8", "int8": "fp16"}[storage]
    with pytest.raises(InputError, match=rf"^tokens: stored as {other}, but these graphs take {storage}; export them "):
        towers.match_stored(store_tokens(torch.from_numpy(images), other), texts, mask)
    monkeypatch.setattr("tcl.onnx.export_graphs.trace", lambda _: {})
    export_onnx(known, out)
    assert not list(out.glob("*.onnx"))  # they would be of other weights


def test_without_a_graph_for_them_stored_tokens_are_refused(towers):
    with pytest.raises(
        InputError, match=r"graphs take none that are stored; export them with `tcl onnx --stored int8`"
    ):
        towers.match_stored(store_tokens(torch.zeros(1, 5, 24), "int8"), np.zeros((1, 2, 16)), np.ones((1, 2)))


def test_retrieval_in_onnxruntime_ranks_as_torch(pretrained, towers, shards):
    data = retrieval_set(shards)
    for rerank_k in (2, 7):
        assert onnx_recalls(towers, data, rerank_k) == torch_recalls(pretrained, data, rerank_k)


def test_rescored_retrieval_in_onnxruntime_chooses_what_numpy_chooses(pretrained, towers, shards):
    """ITM scores of all pairs are those without re-scoring."""
    data, model = retrieval_set(shards), TCL(pretrained, device="cpu", precision="fp32")
    images = model.encode_image([Image.open(io.BytesIO(content)) for content in data.images])
    texts, bank = model.encode_text(data.captions), unit_rows(1, 8, seed=0)
    every = onnx_retrieval(towers, data, 7).images
    itm = torch.zeros(7, 7).scatter(1, every.candidates, every.scores).numpy()
    found = onnx_retrieval(towers, data, 3, rescore=(inverted_softmax(bank), dual_softmax))
    for ranked, scores, plain, matches in (
        (found.images, inverted_softmax_at_once(images, texts, bank), images @ texts.T, itm),
        (found.captions, dual_softmax_at_once(texts, images), texts @ images.T, itm.T),
    ):
        assert [set(row[:3]) for row in order_of(scores)] != [set(row[:3]) for row in order_of(plain)]
        for q, row in enumerate(ranked.candidates.tolist()):
            chosen = order_of(scores)[q, :3].tolist()
            assert row == sorted(chosen, key=lambda i, q=q: (matches[q, i], i), reverse=True)


def test_more_candidates_than_there_are_is_all_of_them_in_onnxruntime_too(pretrained, towers, shards):
    whole = retrieval_set(shards)
    assert onnx_recalls(towers, whole, 99) == onnx_recalls(towers, whole, 7)
    pairs, ids = [(0, 0), (0, 1), (1, 2), (2, 3), (2, 4)], [str(i) for i in range(5)]
    data = RetrievalSet(whole.images[:3], whole.captions[:5], pairs, ids[:3], ids)
    assert onnx_recalls(towers, data, 4) == torch_recalls(pretrained, data, 4)


def test_the_folder_has_what_prepares_the_inputs(pretrained, folder, towers):
    words = TOKENIZER("a red dog", add_special_tokens=False).input_ids
    assert AutoTokenizer.from_pretrained(folder)("a red dog").input_ids == [TOKENIZER.cls_token_id, *words]
    assert (towers.config.max_tokens, towers.config.max_words) == (12, 8)
    assert towers.config.model.image.mean == tuple(pretrained.student.encoders.image_encoder.mean)
    assert json.loads((folder / "preprocessor_config.json").read_text())["size"] == {"height": 32, "width": 32}


def test_graphs_are_named_for_their_readers_and_tell_nothing_of_the_machine(folder):
    for name, inputs in (
        ("image", {"pixel_values": ["batch", 3, 32, 32]}),
        ("text", {"input_ids": ["batch", "length"], "attention_mask": ["batch", "length"]}),
        (
            "fusion",
            {
                "image_tokens": ["batch", 5, 24],
                "text_tokens": ["batch", "length", 16],
                "attention_mask": ["batch", "length"],
            },
        ),
    ):
        path = folder / f"{name}.onnx"
        found = onnx.load(path).graph.input
        axes = [[axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in found]
        assert dict(zip([each.name for each in found], axes, strict=True)) == inputs
        assert str(Path(torch.__file__).parent).encode() not in path.read_bytes()
        assert str(Path(__file__).parents[1]).encode() not in path.read_bytes()


@pytest.mark.slow
def test_a_roberta_with_its_own_position_numbers_is_exported_too(tmp_path):
    """Its positions are counted from the ids: padding has none."""
    text = TextEncoderConfig(name="roberta", overrides={**BERT, "max_position_embeddings": 40})
    model = replace(MODEL, text=text)
    torch.manual_seed(0)
    pretrained = Pretrained(build_student(ExportConfig("tcl", model), TOKENIZER), TOKENIZER, KIND, model, 25, 8)
    export_onnx(pretrained, tmp_path)
    assert max(largest_differences(pretrained, load_onnx(tmp_path)).values()) < 1e-4


def test_the_tool_writes_graphs_and_a_report(pretrained, already_traced, shards, tmp_path, capsys):
    save_pretrained(pretrained, tmp_path / "export")
    out = tmp_path / "out"
    main([str(tmp_path / "export"), str(out), "--int8", "--shards", shards, "--rerank_k", "8"])
    report = json.loads((out / "onnx_report.json").read_text())
    assert report["recalls"]["fp32"] == report["recalls"]["torch"] and "rerank_i2t_r1" in report["recalls"]["int8"]
    assert max(report["largest_differences"]["fp32"].values()) < 1e-4
    assert report["megabytes"]["int8"] < report["megabytes"]["fp32"]
    sizes = [(out / f"{name}.onnx").stat().st_size for name in GRAPHS]
    assert report["megabytes"]["fp32"] == pytest.approx(sum(sizes) / 1e6)
    said = capsys.readouterr().out
    assert said.startswith("rerank_k: 8, of 7 images and 7 captions; ITM orders 7 captions of each image, 7 images of ")
    assert "R@1 of 7 images x 7 texts" in said
    main([str(tmp_path / "export"), str(out)])
    assert not list(out.glob("*.int8.onnx"))  # they would be of other weights
    assert json.loads((out / "onnx_report.json").read_text())["recalls"] == {}


@pytest.mark.parametrize("wrong", [2e-4, float("nan")])
def test_the_tool_fails_where_graphs_differ_from_torch(pretrained, already_traced, tmp_path, monkeypatch, wrong):
    save_pretrained(pretrained, tmp_path / "export")
    monkeypatch.setattr(
        "tcl.onnx.agreement_report.largest_differences", lambda *_: {"image_tokens": 0.0, "text_tokens": wrong}
    )
    with pytest.raises(InputError, match=f"text_tokens differs from torch by up to {wrong:.1e}; accepted: 1e-04"):
        main([str(tmp_path / "export"), str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rerank_k", "0"], "rerank_k: 0"),
        (["--shards", "nothing/*.tar"], "nothing"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(pretrained, shards, tmp_path, options, message):
    save_pretrained(pretrained, tmp_path / "export")
    with pytest.raises(InputError, match=message):
        main([str(tmp_path / "export"), str(tmp_path / "out"), *(shards if it == "SHARDS" else it for it in options)])
    assert not (tmp_path / "out").exists()


def test_a_vqa_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="source: a vqa model; accepted: a pre-trained or a retrieval model"):
        export_onnx(tiny_vqa().pretrained, tmp_path)


@pytest.mark.parametrize("file", ["student.safetensors", "checkpoints/latest"])
def test_a_folder_of_a_run_is_left_alone(pretrained, tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    with pytest.raises(InputError, match="belongs to a run or an export"):
        export_onnx(pretrained, tmp_path)


def test_an_export_is_left_alone(pretrained, tmp_path):
    save_pretrained(pretrained, tmp_path)
    with pytest.raises(InputError, match="belongs to a run or an export"):
        export_onnx(pretrained, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr("tcl.onnx.export_graphs.trace", lambda _: {})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out: .*file/out cannot be written"):
        export_onnx(pretrained, tmp_path / "file" / "out")


def test_missing_packages_are_named_with_the_way_to_install_them(pretrained, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for use in (lambda: export_onnx(pretrained, tmp_path), lambda: load_onnx(folder)):
        with pytest.raises(InputError, match=r"onnxruntime: not installed; run pip install 'tcl-vlp\[onnx\]'"):
            use()


def test_missing_and_damaged_graphs_are_named(pretrained, folder, tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        load_onnx(tmp_path / "nothing")
    for file in folder.iterdir():
        if file.suffix != ".onnx":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match=r"image\.int8\.onnx: there is no such file; .*tcl onnx --int8"):
        load_onnx(tmp_path, int8=True)
    (tmp_path / "image.onnx").write_bytes(b"not a graph")
    with pytest.raises(InputError, match=r"image\.onnx: onnxruntime cannot load it"):
        load_onnx(tmp_path)


def test_a_changed_file_beside_the_graphs_is_named(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    load_onnx(tmp_path)
    said = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said, indent=7))
    with pytest.raises(InputError, match=r"tokenizer_config\.json has .* bytes, manifest\.json says"):
        load_onnx(tmp_path)
    (tmp_path / "manifest.json").unlink()
    load_onnx(tmp_path)


@pytest.mark.parametrize(("kind", "made"), [("entailment", tiny_entailment), ("nlvr", tiny_nlvr), ("classes", None)])
def test_a_classifier_is_one_graph(kind, made, tmp_path, capsys):
    """For any number of texts of any length, what torch says; and what the loaded model says of a picture."""
    model = tiny_classifier(["dog", "cat"]) if made is None else made()
    save_pretrained(model.pretrained, tmp_path / "export")
    main([str(tmp_path / "export"), str(tmp_path / "out"), "--int8"])
    report = json.loads((tmp_path / "out" / "onnx_report.json").read_text())
    assert report["largest_differences"]["fp32"]["logits"] < 1e-4 and not report["recalls"]
    assert {path.name for path in (tmp_path / "out").glob("*.onnx")} == {"classifier.onnx", "classifier.int8.onnx"}
    assert "largest differences from torch: logits" in capsys.readouterr().out
    classifier = load_classifier(tmp_path / "out")
    pixels = model.transform(np.asarray(noise(3)))[None].numpy()
    if made is None:
        found, expected = classifier.logits(pixel_values=pixels), model.classify(noise(3))[0]
        assert classifier.tokenizer is None
        best = max(range(2), key=found[0].__getitem__)
        assert ("dog", "cat")[best] == expected[0].name
        return
    ids, mask = tokenize(classifier.tokenizer, ["a red dog"], classifier.config.max_tokens)
    images = (
        {"pixel_values": pixels}
        if kind == "entailment"
        else dict.fromkeys(("left_pixel_values", "right_pixel_values"), pixels)
    )
    found = classifier.logits(**images, input_ids=ids.numpy(), attention_mask=mask.numpy())
    said = torch.from_numpy(found).softmax(dim=1)[0]
    if kind == "nlvr":
        assert float(said[1]) == pytest.approx(model.probability(noise(3), noise(3), "a red dog"), abs=1e-4)
    else:
        told = {one.name: one.probability for one in model.classify(noise(3), "a red dog")}
        assert said.tolist() == pytest.approx([told[name] for name in model.classes], abs=1e-4)


def test_stored_tokens_mean_nothing_to_a_classifier(tmp_path):
    tiny_entailment().save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=r"^stored: 'int8' means nothing to a model of kind entailment$"):
        main([str(tmp_path / "model"), str(tmp_path / "out"), "--stored", "int8"])
    assert not (tmp_path / "out").exists()


def test_shards_mean_nothing_to_a_classifier(tmp_path):
    save_pretrained(tiny_entailment().pretrained, tmp_path / "export")
    with pytest.raises(InputError, match=r"^shards: 'x/\*\.tar' means nothing to a model of kind entailment"):
        main([str(tmp_path / "export"), str(tmp_path / "out"), "--shards", "x/*.tar"])
