"""Models of transformers as stages of a search, against transformers' own forward passes, pair by pair."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import noise
from PIL import Image
from tiny_foreign import MAX_TOKENS, save_blip, save_clip, save_siglip
from tiny_pretrained import PLAIN, tiny_tcl
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, BlipForImageTextRetrieval

from tcl import BlipMatcher, ForeignTowers, load_model
from tcl.commands.main import run
from tcl.data.images.read_images import images_of_folder, stream_images
from tcl.errors import InputError
from tcl.inference.match import match_several, match_together

PHOTO_SIZES = [(40, 60), (64, 33), (32, 32), (90, 40), (50, 50), (33, 70), (60, 61)]
PHOTOS = [noise(i, size) for i, size in enumerate(PHOTO_SIZES)]
TEXTS = ["a red dog", "A Cat on a mat", "a photo of thing number dog", "blue", "green mat on a dog"]
CLOSE = {"atol": 1e-5}
SAVE = {"clip": save_clip, "siglip": save_siglip}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("foreign")
    return {name: save(place / name) for name, save in {**SAVE, "blip": save_blip}.items()}


@pytest.fixture(scope="module", params=list(SAVE))
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def towers(folders, kind) -> ForeignTowers:
    return load_model(folders[kind], batch_size=3, **PLAIN)


@pytest.fixture(scope="module")
def clip(folders) -> ForeignTowers:
    return load_model(folders["clip"], batch_size=3, **PLAIN)


@pytest.fixture(scope="module")
def blip(folders) -> BlipMatcher:
    return load_model(folders["blip"], batch_size=3, **PLAIN)


@torch.no_grad()
def cosines(folder: Path, kind: str, images: list, texts: list[str]) -> np.ndarray:
    """Of each image with each text, by one forward pass for each pair, as transformers prepares it."""
    model, prepare = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = np.zeros((len(images), len(texts)))
    for i, image in enumerate(images):
        for j, text in enumerate(texts):
            if kind == "siglip":  # as its documentation has it
                words = tokenizer([text], padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
                words = {"input_ids": words["input_ids"]}
            else:
                words = tokenizer([text], return_tensors="pt", return_token_type_ids=False)
            logits = model(**words, **prepare(images=image, return_tensors="pt")).logits_per_image
            bias = model.logit_bias.item() if kind == "siglip" else 0
            found[i, j] = (logits.item() - bias) / model.logit_scale.exp().item()
    return found


@torch.no_grad()
def itm(folder: Path, images: list, texts: list[str]) -> np.ndarray:
    """Logits [images, texts, 2] by one forward pass for each pair."""
    model, tokenizer = BlipForImageTextRetrieval.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    prepare = AutoImageProcessor.from_pretrained(folder)
    words = [tokenizer([text], return_tensors="pt", return_token_type_ids=False) for text in texts]
    pixels = [prepare(images=image, return_tensors="pt") for image in images]
    return np.array([[model(**one, **image).itm_score[0].numpy() for one in words] for image in pixels])


def probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))


def test_embeddings_are_those_of_transformers(towers, folders, kind):
    images, texts = towers.encode_image(PHOTOS), towers.encode_text(TEXTS)
    assert images.dtype == texts.dtype == np.float32
    assert images.shape == (7, towers.embed_dim) and texts.shape == (5, towers.embed_dim)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([images, texts]), axis=1), 1, rtol=1e-5)
    expected = cosines(folders[kind], kind, PHOTOS, TEXTS)
    assert expected.std() > 0.03
    np.testing.assert_allclose(images @ texts.T, expected, **CLOSE)


def test_the_first_stage_alone(towers, folders, kind):
    expected = cosines(folders[kind], kind, PHOTOS, TEXTS)
    by_text = towers.retrieve(TEXTS, PHOTOS, k=3)
    np.testing.assert_array_equal(by_text.ids, np.argsort(-expected.T, axis=1)[:, :3])
    np.testing.assert_allclose(by_text.match_scores, -np.sort(-expected.T, axis=1)[:, :3], **CLOSE)
    by_image = towers.retrieve(PHOTOS, towers.embed_texts(TEXTS), k=2)
    np.testing.assert_array_equal(by_image.ids, np.argsort(-expected, axis=1)[:, :2])


def test_classes(towers, folders, kind):
    names, scale = ["dog", "cat", "mat"], AutoModel.from_pretrained(folders[kind]).logit_scale.exp().item()
    powers = np.exp(scale * cosines(folders[kind], kind, PHOTOS[:2], [f"a photo of a {name}." for name in names]))
    expected = powers / powers.sum(axis=1, keepdims=True)
    for guesses, row in zip(towers.classify(PHOTOS[:2], names), expected, strict=True):
        assert [guess.name for guess in guesses] == [names[i] for i in np.argsort(-row)]
        np.testing.assert_allclose([guess.probability for guess in guesses], -np.sort(-row), atol=1e-4)


def test_matching_is_that_of_transformers(blip, folders):
    expected = probabilities(itm(folders["blip"], PHOTOS, TEXTS))
    assert expected.std() > 0.03
    np.testing.assert_allclose(blip.match_grid(PHOTOS, TEXTS), expected, **CLOSE)
    np.testing.assert_allclose(blip.match(PHOTOS[:5], TEXTS), expected[range(5), range(5)], **CLOSE)
    np.testing.assert_allclose(blip.match(PHOTOS, TEXTS[1]), expected[:, 1], **CLOSE)
    np.testing.assert_allclose(blip.match(PHOTOS[3], TEXTS), expected[3], **CLOSE)


@pytest.mark.parametrize("pass_tokens", [1, 40, 8192])
def test_pairs_in_passes_of_any_size(blip, folders, monkeypatch, pass_tokens):
    monkeypatch.setattr("tcl.inference.match.PASS_TOKENS", pass_tokens)
    expected = itm(folders["blip"], PHOTOS, TEXTS)
    wanted = [torch.tensor(some) for some in ([1], [0, 4], [2], [4], [0, 1, 2, 3, 4], [3, 1], [0])]
    states, batches = blip.read_texts(TEXTS), list(blip.encode_tokens(PHOTOS))
    for match in (match_several, match_together):
        found = list(match(blip._joint, batches, wanted, states, blip.hardware))
        for i, (texts, logits) in enumerate(zip(wanted, found, strict=True)):
            np.testing.assert_allclose(logits.numpy(), expected[i, texts.numpy()], **CLOSE)


def test_the_second_stage_orders_the_candidates_of_the_first(clip, blip, folders):
    first, second = cosines(folders["clip"], "clip", PHOTOS, TEXTS), itm(folders["blip"], PHOTOS, TEXTS)[..., 1]
    for corpus in (PHOTOS, clip.embed_images(PHOTOS), clip.embed_images(PHOTOS, matcher=blip)):
        found = clip.retrieve(TEXTS, corpus, k=2, candidates=4, matcher=blip)
        for text, (ids, scores) in enumerate(zip(found.ids, found.match_scores, strict=True)):
            chosen = np.argsort(-first[:, text])[:4]
            best = chosen[np.argsort(-second[chosen, text])][:2]
            assert ids.tolist() == best.tolist()
            np.testing.assert_allclose(scores, second[best, text], **CLOSE)
    found = clip.retrieve(PHOTOS, TEXTS, k=5, matcher=blip)
    np.testing.assert_array_equal(found.ids, np.argsort(-second, axis=1))


def test_our_own_joint_encoder_after_their_embeddings(clip):
    ours = tiny_tcl(batch_size=3)
    found = clip.retrieve(TEXTS, clip.embed_images(PHOTOS, matcher=ours), k=7, candidates=7, matcher=ours)
    theirs = ours.retrieve(TEXTS, PHOTOS, k=7, candidates=7)
    np.testing.assert_array_equal(found.ids, theirs.ids)


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_stored_tokens_of_a_matcher_order_as_fresh_ones_and_no_image_is_encoded(
    clip, blip, folders, tmp_path, monkeypatch, storage
):
    close = {"fp16": 3e-3, "int8": 5e-2}[storage]
    corpus = clip.store_tokens(PHOTOS, tmp_path / "a.tokens", storage=storage, matcher=blip)
    np.testing.assert_allclose(corpus.features, clip.encode_image(PHOTOS), **CLOSE)
    logits = itm(folders["blip"], PHOTOS, TEXTS)
    np.testing.assert_allclose(blip.match_stored(corpus.stored, TEXTS), probabilities(logits), atol=close)
    other = load_model(folders["blip"], **PLAIN)  # knows them by what made them, not as the object that it is
    with monkeypatch.context() as patch:
        patch.setattr(BlipMatcher, "encode_tokens", None)
        found = clip.retrieve(TEXTS, corpus, k=7, candidates=7, matcher=other)
    for text, (ids, scores) in enumerate(zip(found.ids, found.match_scores, strict=True)):
        np.testing.assert_allclose(scores, logits[ids, text, 1], atol=10 * close)
        assert (np.diff(scores) <= 0).all()


def test_stored_tokens_say_nothing_to_another_matcher(clip, blip, tmp_path):
    ours = tiny_tcl(batch_size=3)
    corpus = clip.store_tokens(PHOTOS, tmp_path / "a.tokens", matcher=ours)
    with pytest.raises(InputError, match=r"^tokens: .*a\.tokens was made by another model \("):
        blip.open_tokens(tmp_path / "a.tokens")
    expected = clip.retrieve(TEXTS, PHOTOS, k=3, matcher=blip)
    np.testing.assert_array_equal(clip.retrieve(TEXTS, corpus, k=3, matcher=blip).ids, expected.ids)
    by_text = {"k": 7, "candidates": 7}
    np.testing.assert_allclose(
        ours.retrieve(TEXTS, ours.store_tokens(PHOTOS, tmp_path / "b.tokens"), **by_text).match_scores,
        clip.retrieve(TEXTS, corpus, **by_text, matcher=ours).match_scores,
        **CLOSE,
    )


@pytest.mark.parametrize("changed", ["weights", "processor"])
def test_tokens_of_a_blip_are_known_by_its_image_encoder_and_its_processor(blip, folders, tmp_path, changed):
    blip.write_tokens(blip.encode_tokens(PHOTOS[:2]), tmp_path / "a.tokens")
    other = load_model(folders["blip"], **PLAIN)
    assert len(other.open_tokens(tmp_path / "a.tokens")) == 2
    other = load_model(folders["blip"], **PLAIN)
    if changed == "weights":
        with torch.no_grad():
            next(other.blip.networks.vision_model.parameters()).flatten()[0] += 1e-3
    else:
        other.transform.keywords["processor"].image_mean = [0.1, 0.2, 0.3]
    with pytest.raises(InputError, match="another model"):
        other.open_tokens(tmp_path / "a.tokens")


def test_tokens_are_not_stored_without_a_matcher(towers, tmp_path):
    with pytest.raises(
        InputError,
        match=r"^matcher: there is none, and a ForeignTowers does not match texts with images; give a TCL or",
    ):
        towers.store_tokens(PHOTOS, tmp_path / "a.tokens")


def test_candidates_are_matched_in_batches_from_tokens_that_were_encoded_once(clip, folders):
    blip = load_model(folders["blip"], batch_size=32, **PLAIN)
    encoded, matched = [], []
    blip.blip.networks.vision_model.register_forward_hook(lambda *found: encoded.append(1))
    blip.blip.networks.itm_head.register_forward_hook(lambda _, given, found: matched.append(len(found)))
    corpus = clip.embed_images([noise(i) for i in range(64)], matcher=blip)
    assert len(encoded) == 2 and len(corpus.tokens) == 64
    clip.retrieve("a red dog", corpus, k=5, candidates=64, matcher=blip)
    assert len(encoded) == 2 and matched == [32, 32]


def test_only_as_many_tokens_are_kept_as_there_is_room_for(clip, blip, monkeypatch):
    expected = clip.retrieve(TEXTS, PHOTOS, k=3, matcher=blip)
    monkeypatch.setattr("tcl.inference.embedding_model.ROOM_FOR_TOKENS", 4 * 17 * 16 * 4 + 9)
    corpus = clip.embed_images(PHOTOS, matcher=blip)
    assert len(corpus.tokens) == 4
    np.testing.assert_array_equal(clip.retrieve(TEXTS, corpus, k=3, matcher=blip).ids, expected.ids)


def test_a_text_that_is_too_long_is_cut_with_a_warning(towers, blip):
    long, short = "a red dog on a mat green blue cat on a photo", "a red dog on a mat green blue"
    for model in (towers.encode_text, lambda text: blip.match(PHOTOS[0], text)):
        with pytest.warns(
            UserWarning, match=rf"^texts: 1 of 1 longer than the {MAX_TOKENS} tokens that this model reads"
        ):
            cut = model(long)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_allclose(cut, model(short), **CLOSE)


def test_a_text_that_spells_a_special_token_is_text(clip):
    tokens = clip.towers.reader.tokenize(["a [SEP] dog"])
    assert (tokens.ids[0] == 3).sum() == 1  # the end alone


def test_an_endless_image_is_cut_to_its_middle_where_the_processor_would_do_so(clip):
    strip = np.random.default_rng(0).integers(0, 256, (1, 1_000_000, 3), dtype=np.uint8)
    middle = strip[:, 500_000 - 8 : 500_000 + 8]
    np.testing.assert_array_equal(clip.transform(strip), clip.transform(middle))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_encode_and_match_commands(towers, folders, kind, tmp_path, monkeypatch, capsys, workers):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for i, photo in enumerate(PHOTOS):
        photo.save(f"photos/{i}.png")
    how = ["--device=cpu", "--precision=fp32", "--batch_size=3"]
    run(["encode", str(folders[kind]), "--images=photos", "--out=photos.npy", f"--workers={workers}", *how])
    np.testing.assert_allclose(np.load("photos.npy"), towers.encode_image(PHOTOS), **CLOSE)
    Path("texts.txt").write_text("A Red dog\n\u200b\n \nblue\n")
    run(["encode", str(folders[kind]), "--texts=texts.txt", "--out=texts.npy", *how])
    assert json.loads(Path("texts.ids.json").read_text()) == ["1", "4"]
    np.testing.assert_allclose(np.load("texts.npy"), towers.encode_text(["A Red dog", "blue"]), **CLOSE)
    with pytest.raises(
        InputError, match=r"^codes: .* is a ForeignTowers, without codebooks; give a model of `tcl fine"
    ):
        run(["encode", str(folders[kind]), "--texts=texts.txt", "--out=texts.safetensors", "--codes", *how])
    capsys.readouterr()
    run(["match", str(folders["blip"]), "--images=photos/1.png", "--texts", *TEXTS[:2], "--json", *how])
    found = [pair["match"] for pair in json.loads(capsys.readouterr().out)]
    np.testing.assert_allclose(found, probabilities(itm(folders["blip"], PHOTOS[1:2], TEXTS[:2]))[0], **CLOSE)


def test_images_come_from_worker_processes_as_from_this_one(clip, tmp_path):
    Image.fromarray(np.array(PHOTOS[0])).save(tmp_path / "a.png")
    files = images_of_folder(tmp_path)
    (batch,) = stream_images(files, clip.transform, batch_size=2, max_pixels=10**6, workers=1)
    np.testing.assert_array_equal(batch.inputs[0][0], clip.transform(np.array(PHOTOS[0])))
