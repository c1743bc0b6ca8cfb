"""Exports as models of sentence-transformers, against our own methods, in fp32."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import noise
from launching import ENVIRONMENT
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.util import cos_sim
from tiny_pretrained import tiny_compressed, tiny_entailment, tiny_tcl, tiny_towers, tiny_vqa
from transformers import AutoModel, AutoProcessor, AutoTokenizer

import tcl.sentence_transformers as ours
from tcl import TCL, TwoTowers, load_model
from tcl.commands.export import main as export
from tcl.data.texts.captions import clean_caption
from tcl.data.texts.tokenize import tokenize
from tcl.errors import InputError

IMAGES = [noise(i, (40, 30)) for i in range(5)]
TEXTS = ["a red dog", "cat on a mat", "A photo, of a dog!", "blue", "a " * 9 + "dog"]
EQUAL = {"rtol": 0, "atol": 1e-5}
MODELS = {"tcl": tiny_tcl, "two towers": tiny_towers, "codes": tiny_compressed}


@pytest.fixture(scope="module", params=MODELS)
def both(request, tmp_path_factory) -> tuple[TCL | TwoTowers, str]:
    """A model of ours and its export."""
    model, folder = MODELS[request.param](), tmp_path_factory.mktemp("exports") / "mine"
    model.save_pretrained(folder)
    return model, str(folder)


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("exports") / "mine"
    tiny_tcl().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def with_code(mine, tmp_path_factory) -> str:
    """`mine`, exported again by the command."""
    folder = str(tmp_path_factory.mktemp("exports") / "with_code")
    export([mine, folder, "--with_code"])
    return folder


@pytest.fixture
def paths(tmp_path) -> list[str]:
    for i, image in enumerate(IMAGES):
        image.save(tmp_path / f"{i}.png")
    return [str(tmp_path / f"{i}.png") for i in range(len(IMAGES))]


@pytest.mark.filterwarnings("ignore:texts. 1 of")
def test_texts_and_images_are_embedded_as_by_us(both, paths):
    model, folder = both
    theirs = SentenceTransformer(folder, device="cpu")
    texts, images = model.encode_text(TEXTS), model.encode_image(IMAGES)
    assert theirs.get_embedding_dimension() == model.embed_dim and theirs.max_seq_length == 12
    np.testing.assert_allclose(theirs.encode(TEXTS, batch_size=2), texts, **EQUAL)
    for given in (IMAGES, paths, [np.array(image) for image in IMAGES], [{"image": image} for image in IMAGES]):
        np.testing.assert_allclose(theirs.encode(given, batch_size=2), images, **EQUAL)
    cosines = theirs.similarity(theirs.encode(TEXTS[0]), theirs.encode(IMAGES))
    np.testing.assert_allclose(cosines, texts[:1] @ images.T, **EQUAL)
    np.testing.assert_allclose(theirs.encode(TEXTS[0]), texts[0], **EQUAL)


def test_pairs_are_predicted_and_documents_ranked_as_by_us(mine, paths):
    model, theirs = tiny_tcl(), CrossEncoder(mine, device="cpu")
    grid = model.match_grid(IMAGES, TEXTS[:4])
    assert theirs.num_labels == 1
    every = [(i, t) for i in range(len(IMAGES)) for t in range(4)]
    given = [(TEXTS[t], paths[i]) if i % 2 else (IMAGES[i], TEXTS[t]) for i, t in every]
    np.testing.assert_allclose(theirs.predict(given, batch_size=7), grid.flatten(), **EQUAL)
    np.testing.assert_allclose(theirs.predict(given[0]), grid[0, 0], **EQUAL)
    logits = theirs.predict(given, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(logits, np.log(grid / (1 - grid)).flatten(), rtol=1e-4, atol=1e-4)
    for query, documents in ((TEXTS[1], IMAGES), (TEXTS[1], paths), (IMAGES[2], TEXTS[:4])):
        found, expected = theirs.rank(query, documents, top_k=3), model.rank(query, documents, 3)
        assert [one["corpus_id"] for one in found] == [one.index for one in expected]
        np.testing.assert_allclose([one["score"] for one in found], [one.score for one in expected], **EQUAL)


def test_an_image_of_several_pairs_is_encoded_once(mine):
    seen, theirs = [], CrossEncoder(mine, device="cpu")
    encoder = theirs[0].model.student.encoders.image_encoder
    encoder.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    theirs.rank(IMAGES[0], TEXTS[:4])
    assert seen == [1]


def test_the_way_of_transformers(mine):
    model, processor = AutoModel.from_pretrained(mine), AutoProcessor.from_pretrained(mine)
    with torch.no_grad():
        found = model(**processor(text=TEXTS[:3], images=IMAGES))
    np.testing.assert_allclose(found.text_embeds, tiny_tcl().encode_text(TEXTS[:3]), **EQUAL)
    np.testing.assert_allclose(found.image_embeds, tiny_tcl().encode_image(IMAGES), **EQUAL)


def test_the_tokenizer_of_an_export_gives_the_ids_of_training(mine):
    cleaned, theirs = [clean_caption(text, 8) for text in TEXTS], AutoTokenizer.from_pretrained(mine)
    ids, mask = tokenize(tiny_tcl().pretrained.tokenizer, cleaned, 12)
    found = theirs(cleaned, truncation=True, padding=True, return_tensors="pt")
    assert found["input_ids"].tolist() == ids.tolist() and found["attention_mask"].tolist() == mask.tolist()


def test_what_it_trains_and_saves_is_an_export(mine, tmp_path):
    first, second = SentenceTransformer(mine, device="cpu"), CrossEncoder(mine, device="cpu")
    features = first.preprocess(TEXTS[:3])
    first(features)["sentence_embedding"][:, 0].sum().backward()
    second(second.preprocess([(TEXTS[0], IMAGES[0]), (IMAGES[1], TEXTS[1])]))["scores"].sum().backward()
    for model, name in ((first, "first"), (second, "second")):
        trained = {of for of, weights in model[0].model.named_parameters() if weights.grad is not None}
        assert any("text_encoder" in of for of in trained)
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        model.save_pretrained(str(tmp_path / name))
        saved = TCL.from_pretrained(tmp_path / name, device="cpu", precision="fp32")
        assert not np.allclose(saved.encode_text(TEXTS[:3]), tiny_tcl().encode_text(TEXTS[:3]), atol=1e-3)
        again = SentenceTransformer(str(tmp_path / name), device="cpu")
        np.testing.assert_allclose(again.encode(TEXTS[:3]), saved.encode_text(TEXTS[:3]), **EQUAL)
        matched = CrossEncoder(str(tmp_path / name), device="cpu").predict([(TEXTS[0], IMAGES[0])])
        np.testing.assert_allclose(matched, saved.match(IMAGES[0], TEXTS[0]), **EQUAL)
    assert trained >= {f"student.itm_head.{part}" for part in ("weight", "bias")}


def test_worker_processes_get_the_same_model(mine, tmp_path):
    first, second = (
        pickle.loads(pickle.dumps(kind(mine, device="cpu"))) for kind in (SentenceTransformer, CrossEncoder)
    )
    np.testing.assert_allclose(first.encode(TEXTS[:2]), tiny_tcl().encode_text(TEXTS[:2]), **EQUAL)
    np.testing.assert_allclose(second.predict((TEXTS[0], IMAGES[0])), tiny_tcl().match(IMAGES[0], TEXTS[0])[0], **EQUAL)
    first.save_pretrained(str(tmp_path))
    assert type(load_model(tmp_path)) is TCL


def test_texts_can_be_cut_earlier(mine):
    theirs = SentenceTransformer(mine, device="cpu")
    theirs.max_seq_length = 3
    with pytest.warns(UserWarning, match="texts: 1 of 1 longer than the 8 words and 3 tokens"):
        np.testing.assert_allclose(theirs.encode("a red dog on a mat"), tiny_tcl().encode_text("a red")[0], **EQUAL)


def test_nothing_in_an_export_is_code_and_no_code_is_trusted(mine):
    assert {path.suffix for path in Path(mine).iterdir()} == {".json", ".safetensors", ".md"}
    assert "auto_map" not in (Path(mine) / "config.json").read_text()


ELSEWHERE = """
import json, sys
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoTokenizer
folder, saved, texts, paths = *sys.argv[1:3], *map(json.loads, sys.argv[3:])
said = []
for kind in (SentenceTransformer, CrossEncoder):
    try:
        kind(folder, device="cpu")
    except ValueError as error:
        said.append(str(error))
ids = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)(texts[0])["input_ids"]
assert not any(name.split(".")[0] == "tcl" for name in sys.modules)
SentenceTransformer(folder, device="cpu", trust_remote_code=True).save_pretrained(saved)
embedder, matcher = (kind(saved, device="cpu", trust_remote_code=True) for kind in (SentenceTransformer, CrossEncoder))
ranked = matcher.rank(texts[1], paths, top_k=3)
print(json.dumps({
    "said": said,
    "ids": ids,
    "texts": embedder.encode(texts).tolist(),
    "images": embedder.encode(paths).tolist(),
    "matches": matcher.predict([(texts[0], path) for path in paths]).tolist(),
    "ranked": [[one["corpus_id"], float(one["score"])] for one in ranked],
}))
"""
"""Like a program that has never heard of us. What it saves first, it loads again."""


def test_a_program_that_does_not_know_us_loads_an_export_with_code(with_code, tmp_path, paths):
    given = [with_code, str(tmp_path / "saved"), json.dumps(TEXTS[:2]), json.dumps(paths)]
    environment = ENVIRONMENT | {"HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, *given], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found, model = json.loads(done.stdout.splitlines()[-1]), tiny_tcl()
    assert len(found["said"]) == 2 and all("trust_remote_code=True" in said for said in found["said"])
    assert found["ids"] == tokenize(model.pretrained.tokenizer, TEXTS[:1], 12)[0][0].tolist()
    np.testing.assert_allclose(found["texts"], model.encode_text(TEXTS[:2]), **EQUAL)
    np.testing.assert_allclose(found["images"], model.encode_image(IMAGES), **EQUAL)
    np.testing.assert_allclose(found["matches"], model.match_grid(IMAGES, TEXTS[:1])[:, 0], **EQUAL)
    expected = model.rank(TEXTS[1], IMAGES, 3)
    assert [index for index, _ in found["ranked"]] == [one.index for one in expected]
    np.testing.assert_allclose([score for _, score in found["ranked"]], [one.score for one in expected], **EQUAL)


def test_an_export_with_code_is_one_like_any_other(with_code, mine, tmp_path):
    """For us, and for whoever has made the import: its code is neither needed nor run."""
    code = Path(with_code) / "tcl_classes.py"
    names, of_mine = ({path.name for path in Path(folder).iterdir()} for folder in (with_code, mine))
    assert names == of_mine | {code.name}
    theirs = SentenceTransformer(with_code, device="cpu"), CrossEncoder(with_code, device="cpu")
    assert [type(one[0].model) for one in theirs] == [ours.TCLEmbeddings, ours.TCLMatching]
    model = TCL.from_pretrained(with_code, device="cpu", precision="fp32")
    np.testing.assert_array_equal(model.encode_text(TEXTS[:3]), tiny_tcl().encode_text(TEXTS[:3]))
    model.save_pretrained(tmp_path)
    assert (tmp_path / code.name).read_bytes() == code.read_bytes()
    tiny_tcl().save_pretrained(tmp_path)
    assert not (tmp_path / code.name).exists() and "auto_map" not in (tmp_path / "config.json").read_text()
    assert type(load_model(tmp_path)) is TCL


def test_the_code_says_what_to_install_where_we_are_not(with_code, monkeypatch):
    monkeypatch.setitem(sys.modules, "tcl.sentence_transformers", None)
    with pytest.raises(ImportError, match=r"^this model needs the package tcl-vlp: pip install 'tcl-vlp\[sentence-.*'"):
        exec((Path(with_code) / "tcl_classes.py").read_text(), {})


def test_transformers_learns_of_it_without_sentence_transformers():
    for source in Path(ours.__file__).parent.glob("*.py"):
        assert not re.search(r"^ *(import|from) sentence_transformers", source.read_text(), flags=re.MULTILINE)


def test_exports_of_before_load_as_they_did(mine, tmp_path, caplog):
    """They say no model_type, which transformers needs; we do not."""
    for path in Path(mine).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    said = json.loads((tmp_path / "config.json").read_text())
    assert said.pop("model_type") == "tcl"
    (tmp_path / "config.json").write_text(json.dumps(said))
    os.remove(tmp_path / "manifest.json")
    for folder in (mine, tmp_path):
        found = load_model(folder, device="cpu", precision="fp32")
        assert type(found) is TCL
        np.testing.assert_array_equal(found.encode_text(TEXTS[:2]), tiny_tcl().encode_text(TEXTS[:2]))
    assert not caplog.text  # transformers warns of types of models that it does not know


@pytest.mark.parametrize(
    ("kind", "load", "said"),
    [
        (tiny_towers, CrossEncoder, r"source: a clip model \(TwoTowers\), which does not match texts with images"),
        (tiny_vqa, SentenceTransformer, r"source: a vqa model \(TCLForVQA\), which does not embed texts and images"),
        (tiny_entailment, CrossEncoder, r"source: a \w+ model \(TCLForEntailment\), which does not match texts .*"),
    ],
)
def test_models_that_cannot(kind, load, said, tmp_path):
    kind().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=rf"^{said}$"):
        load(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("a", "b"), r"pairs\[0\]: text and text; give a text and an image, in either order"),
        ((IMAGES[0], IMAGES[1]), r"pairs\[0\]: image and image; give a text and an image, in either order"),
        (("?", IMAGES[1]), r"pairs\[0\]\[0\]: '\?' has no words; give a text"),
        (("a", "https://example.org/none.jpg"), r"images\[0\]: 'https://.*' is no file; give .*"),
    ],
)
def test_pairs_that_cannot_be_used(mine, pair, said):
    with pytest.raises(InputError, match=rf"^{said}$"):
        CrossEncoder(mine, device="cpu").predict([pair])


def test_options_that_would_change_the_weights(mine):
    with pytest.raises(InputError, match=r"^model_kwargs: dtype torch.bfloat16 is not possible; .* in fp32$"):
        SentenceTransformer(mine, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    assert SentenceTransformer(mine, device="cpu", model_kwargs={"dtype": torch.float32}).dtype == torch.float32
    assert float(cos_sim(*SentenceTransformer(mine, device="cpu").encode(["a dog", "a dog"]))) == pytest.approx(1)
