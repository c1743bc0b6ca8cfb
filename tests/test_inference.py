"""The methods of tcl.TCL against the networks called pair by pair."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_files import TOKENIZER, encode, noise
from PIL import Image
from rescoring import dual_softmax, dual_softmax_at_once, inverted_softmax, inverted_softmax_at_once, unit_rows
from tiny_pretrained import tiny_tcl, tiny_vqa
from transformers import RobertaTokenizerFast

from tcl import TCL
from tcl.data.images.augment import eval_transform
from tcl.data.texts.captions import clean_caption
from tcl.data.texts.tokenize import tokenize
from tcl.errors import InputError
from tcl.inference.fill_mask import tokenize_masked

IMAGES = [noise(i) for i in range(7)]
TEXTS = ["a red dog", "cat on a mat", "a photo of thing number dog", "blue", "green mat on a dog"]


@pytest.fixture(scope="module")
def model() -> TCL:
    return tiny_tcl(batch_size=3)


def pixels(model: TCL, image: Image.Image) -> torch.Tensor:
    encoder = model.student.encoders.image_encoder
    return eval_transform(32, encoder.mean, encoder.std)(np.array(image))[None]


@torch.no_grad()
def alone(model: TCL, image: Image.Image, text: str) -> tuple[float, torch.Tensor]:
    """Cosine and ITM logits [2] of one pair, by the plain forward pass."""
    encoders = model.student.encoders
    ids, mask = tokenize(TOKENIZER, [clean_caption(text, 30)], 25)
    image_tokens, text_tokens = encoders.image_encoder(pixels(model, image)), encoders.text_encoder(ids, mask)
    cosine = encoders.project_image(image_tokens[0, 0]) @ encoders.project_text(text_tokens[0, 0])
    keys_values = encoders.fusion_encoder.image_keys_values(image_tokens)
    fused = encoders.fusion_encoder(text_tokens, mask, keys_values)
    return float(cosine), model.student.itm_head(fused[0, 0])


def test_embeddings_are_unit_vectors_whose_products_are_the_cosines_of_pairs(model):
    images, texts = model.encode_image(IMAGES), model.encode_text(TEXTS)
    assert images.shape == (7, 8) and texts.shape == (5, 8)
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
    expected = [[alone(model, image, text)[0] for text in TEXTS] for image in IMAGES]
    np.testing.assert_allclose(images @ texts.T, expected, atol=1e-5)


def test_a_text_or_an_image_alone_is_embedded_as_in_a_batch(model):
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(model.encode_text(text), model.encode_text(TEXTS)[i : i + 1], atol=1e-5)
    for i, image in enumerate(IMAGES):
        np.testing.assert_allclose(model.encode_image(image), model.encode_image(IMAGES)[i : i + 1], atol=1e-5)


def test_texts_are_cleaned_as_in_training(model):
    np.testing.assert_array_equal(model.encode_text("A red-dog!!"), model.encode_text("a red dog"))


def test_a_path_and_an_opened_image_give_what_the_decoded_image_gives(model, tmp_path):
    """Transparent, and turned by its EXIF data: both are undone as in training."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(noise(1, (16, 8)), "PNG", exif=exif)
    (tmp_path / "turned.png").write_bytes(turned)
    upright = noise(1, (16, 8)).transpose(Image.Transpose.ROTATE_270)
    expected = model.encode_image(upright)
    for image in (tmp_path / "turned.png", str(tmp_path / "turned.png"), Image.open(io.BytesIO(turned))):
        np.testing.assert_array_equal(model.encode_image(image), expected)
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    np.testing.assert_array_equal(model.encode_image(clear), model.encode_image(Image.new("RGB", (16, 16), "white")))


def test_match_gives_the_probability_of_every_pair_in_batches(model):
    texts = [TEXTS[i % 5] for i in range(7)]
    found = model.match(IMAGES, texts)
    expected = [float(alone(model, *pair)[1].softmax(0)[1]) for pair in zip(IMAGES, texts, strict=True)]
    assert found.shape == (7,) and found.dtype == np.float32
    assert np.ptp(found) > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_grid_holds_every_pair(model):
    found = model.match_grid(IMAGES, TEXTS)
    expected = [[float(alone(model, image, text)[1].softmax(0)[1]) for text in TEXTS] for image in IMAGES]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(model.match_grid(IMAGES[0], TEXTS[0]), found[:1, :1], atol=1e-5)


def brute_force(scores: np.ndarray, logits: np.ndarray, weighed: int, k: int) -> list[int]:
    best = sorted(range(len(scores)), key=lambda i: (scores[i], i), reverse=True)[:weighed]
    return sorted(best, key=lambda i: (logits[i], i), reverse=True)[:k]


@pytest.mark.parametrize(("k", "candidates"), [(1, 1), (2, 4), (4, 2), (5, 100)])
@pytest.mark.parametrize("by_text", [True, False])
def test_retrieve_equals_scoring_every_pair_and_sorting(model, by_text, k, candidates):
    pairs = [[alone(model, image, text) for text in TEXTS] for image in IMAGES]
    cosines = np.array([[cosine for cosine, _ in row] for row in pairs])
    logits = np.array([[float(both[1]) for _, both in row] for row in pairs])
    if by_text:
        cosines, logits = cosines.T, logits.T
    query, corpus = (TEXTS, IMAGES) if by_text else (IMAGES, TEXTS)
    found = model.retrieve(query, corpus, k, candidates=candidates)
    assert found.ids.shape == found.similarities.shape == found.match_scores.shape == (len(query), k)
    for q in range(len(query)):
        ids = brute_force(cosines[q], logits[q], max(k, candidates), k)
        assert found.ids[q].tolist() == ids
        np.testing.assert_allclose(found.similarities[q], cosines[q][ids], atol=1e-5)
        np.testing.assert_allclose(found.match_scores[q], logits[q][ids], atol=1e-4)


def test_equal_items_of_a_corpus_rank_the_later_one_first(model):
    found = model.retrieve("a red dog", [IMAGES[0], IMAGES[1], IMAGES[0], IMAGES[0]], k=4)
    same = [i for i in found.ids[0].tolist() if i != 1]
    assert same == [3, 2, 0]


@pytest.mark.parametrize("by_text", [True, False])
def test_rescored_retrieval_chooses_the_candidates_that_numpy_chooses(model, by_text):
    query, corpus = (TEXTS, IMAGES) if by_text else (IMAGES, TEXTS)
    images, texts, bank = model.encode_image(IMAGES), model.encode_text(TEXTS), unit_rows(9, 8, seed=0)
    sides = (texts, images) if by_text else (images, texts)
    logits = np.array([[float(alone(model, image, text)[1][1]) for text in TEXTS] for image in IMAGES])
    logits = logits.T if by_text else logits
    plain = sides[0] @ sides[1].T
    for rescore, scores in (
        (inverted_softmax(bank), inverted_softmax_at_once(*sides, bank)),
        (dual_softmax, dual_softmax_at_once(*sides)),
    ):
        found = model.retrieve(query, corpus, k=2, candidates=3, rescore=rescore)
        expected = [brute_force(row, logits[q], 3, 2) for q, row in enumerate(scores)]
        assert found.ids.tolist() == expected
        assert expected != [brute_force(row, logits[q], 3, 2) for q, row in enumerate(plain)]
        np.testing.assert_allclose(found.similarities, np.take_along_axis(scores, found.ids, axis=1), atol=1e-5)
        np.testing.assert_allclose(found.match_scores, np.take_along_axis(logits, found.ids, axis=1), atol=1e-4)


@pytest.mark.parametrize("by_text", [True, False])
def test_a_balanced_corpus_is_ranked_less_what_a_bank_gives_each_item(model, by_text):
    query, corpus = (TEXTS[:2], IMAGES) if by_text else (IMAGES[:2], TEXTS)
    embed, stored = (model.embed_images, TEXTS[2:]) if by_text else (model.embed_texts, IMAGES[2:])
    bank = model.embed_texts(stored) if by_text else model.embed_images(stored)
    balanced = embed(corpus).balanced(bank, temperature=0.1)
    expected = model.retrieve(query, corpus, k=3, candidates=4, rescore=inverted_softmax(bank.features))
    found = model.retrieve(query, balanced, k=3, candidates=4)
    assert found.ids.tolist() == expected.ids.tolist()
    np.testing.assert_allclose(found.match_scores, expected.match_scores, atol=1e-5)
    np.testing.assert_allclose(
        found.similarities - found.similarities.mean(), expected.similarities - expected.similarities.mean(), atol=1e-5
    )
    with pytest.raises(InputError, match=rf"^bank: {balanced.kind}, as the corpus; give queries, which are of the"):
        embed(corpus).balanced(embed(corpus))


def test_a_rescore_that_gives_no_scores_is_refused(model):
    with pytest.raises(InputError, match=r"^rescore: a NoneType for similarities \[1, 7\]; give a tensor"):
        model.retrieve("a dog", IMAGES, k=1, rescore=lambda queries, candidates: lambda similarities: None)


@pytest.mark.parametrize("kept", [0, 2, 5, 7])
def test_a_prepared_corpus_gives_the_same_and_encodes_only_candidates_not_kept(model, tmp_path, monkeypatch, kept):
    expected = model.retrieve("a red dog", IMAGES, k=2, candidates=3)
    chosen = set(model.retrieve("a red dog", IMAGES, k=3, candidates=3).ids[0].tolist())
    monkeypatch.setattr("tcl.inference.tcl_model.ROOM_FOR_TOKENS", kept * 5 * 24 * 4 + 7)
    paths = []
    for i, image in enumerate(IMAGES):
        paths.append(tmp_path / f"{i}.png")
        image.save(paths[-1])
    corpus = model.embed_images([str(path) for path in paths])
    encoded = []
    hook = model.student.encoders.image_encoder.register_forward_hook(lambda _, args, out: encoded.append(len(out)))
    found = model.retrieve("a red dog", corpus, k=2, candidates=3)
    hook.remove()
    assert sum(encoded) == len(chosen - set(range(kept)))
    np.testing.assert_allclose(found.match_scores, expected.match_scores, atol=1e-5)
    assert found.ids.tolist() == expected.ids.tolist()
    by_image = model.retrieve(paths[0], model.embed_texts(TEXTS), k=1)
    assert by_image.ids.tolist() == model.retrieve(IMAGES[0], TEXTS, k=1).ids.tolist()


def test_searching_images_by_images_is_refused(model):
    with pytest.raises(InputError, match=r"^corpus: images, as the query; search texts by images"):
        model.retrieve(IMAGES[0], model.embed_images(IMAGES), k=1)
    with pytest.raises(InputError, match=r"^query: texts \(strings\) and images .* in one list; give one kind$"):
        model.retrieve(["a dog", IMAGES[0]], TEXTS, k=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k: 0, of a corpus of 7; accepted: 1 to 7"),
        ({"k": 8}, "k: 8, of a corpus of 7; accepted: 1 to 7"),
        ({"k": 1, "candidates": 0}, "candidates: 0 is not possible; accepted: 1 or more"),
    ],
)
def test_impossible_numbers_of_results(model, options, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        model.retrieve("a dog", IMAGES, **options)


def test_not_as_many_texts_as_images(model):
    with pytest.raises(InputError, match=r"^texts: 5 for 7 images; .*match_grid"):
        model.match(IMAGES, TEXTS)


@torch.no_grad()
def test_fill_mask_gives_the_distribution_at_each_mask(model):
    encoders = model.student.encoders
    words = ["[CLS]", "a", "[MASK]", "dog", "on", "[MASK]"]
    ids = torch.tensor([TOKENIZER.convert_tokens_to_ids(words)])
    mask = torch.ones_like(ids)
    images = encoders.fusion_encoder.image_keys_values(encoders.image_encoder(pixels(model, IMAGES[2])))
    fused = encoders.fusion_encoder(encoders.text_encoder(ids, mask), mask, images)
    states = encoders.mlm_head.norm(encoders.mlm_head.activation(encoders.mlm_head.dense(fused[0])))
    logits = states @ encoders.text_encoder.word_embeddings.weight.T + encoders.mlm_head.bias
    found = model.fill_mask(IMAGES[2], "A [MASK] dog, on [MASK]!", k=3)
    assert len(found) == 2
    for guesses, place in zip(found, (2, 5), strict=True):
        expected = logits[place].softmax(0).topk(3)
        assert [guess.word for guess in guesses] == TOKENIZER.convert_ids_to_tokens(expected.indices.tolist())
        np.testing.assert_allclose([guess.probability for guess in guesses], expected.values, rtol=1e-4)


def test_a_word_after_a_mask_keeps_its_space():
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "d", "o", "g", "Ġ"]
    tokenizer = RobertaTokenizerFast(vocab={token: i for i, token in enumerate(letters)}, merges=[])
    ids, masks = tokenize_masked("A [MASK] dog", tokenizer, max_tokens=9)
    assert tokenizer.convert_ids_to_tokens(ids[0].tolist()) == ["<s>", "a", "<mask>", "Ġ", "d", "o", "g"]
    assert masks.tolist() == [2]


@pytest.mark.parametrize(
    ("text", "k", "said"),
    [
        ("a red dog", 5, r"text: 'a red dog' has no \[MASK\]; write it where"),
        ("", 5, r"text\[0\]: '' has no words; give a text"),
        (["a [MASK]"], 5, r"text\[0\]: a list is no text; give a string"),
        ("a [MASK] " + "dog " * 10_000, 5, r"text\[0\]: 10,002 words; give a caption of a few words, 1,000 at most"),
        ("a [MASK] " + "dog " * 10, 5, "text: 13 tokens, but this model reads 12; give a shorter text"),
        ("a [MASK]", 0, "k: 0 is not possible; accepted: 1 to 17"),
        ("a [MASK]", 18, "k: 18 is not possible; accepted: 1 to 17"),
    ],
)
def test_masked_texts_that_cannot_be_filled(model, text, k, said):
    with pytest.raises(InputError, match=f"^{said}"):
        model.fill_mask(IMAGES[0], text, k)


def test_weights_without_an_mlm_head_fill_no_masks():
    model = tiny_tcl()
    model.pretrained.lacks = ("encoders.mlm_head.",)
    with pytest.raises(InputError, match=r"^fill_mask: this model was loaded without the MLM head"):
        model.fill_mask(IMAGES[0], "a [MASK]")


def test_bf16_is_close_to_fp32_and_its_match_scores_are_no_rounded_ones(model):
    rough = tiny_tcl(precision="bf16")
    np.testing.assert_allclose(rough.encode_image(IMAGES), model.encode_image(IMAGES), atol=0.05)
    assert not np.array_equal(rough.encode_image(IMAGES), model.encode_image(IMAGES))
    scores = torch.from_numpy(rough.retrieve(TEXTS, IMAGES, k=7).match_scores)
    assert not torch.equal(scores, scores.bfloat16().float())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "fp16"}, "precision: 'fp16' is not possible; accepted: auto, bf16, fp32"),
        ({"device": "gpu"}, r"device: 'gpu' cannot be used \(.*\); give cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, r"device: 'cuda:99' cannot be used \(.*\); give cpu, cuda or cuda:N"),
        ({"batch_size": 0}, "batch_size: 0 is not possible; accepted: 1 or more"),
    ],
)
@pytest.mark.parametrize("build", [tiny_tcl, tiny_vqa])
def test_impossible_options(build, options, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        build(**options)


def test_a_vqa_model_is_no_tcl_and_the_other_way_round():
    with pytest.raises(InputError, match=r"^a vqa model is no TCL; load it with TCLForVQA$"):
        TCL(tiny_vqa().pretrained)
    with pytest.raises(InputError, match=r"^a tcl model is no TCLForVQA; load it with TCL$"):
        type(tiny_vqa())(tiny_tcl().pretrained)


def test_a_saved_model_gives_the_same_when_loaded(model, tmp_path):
    model.save_pretrained(tmp_path / "export")
    loaded = TCL.from_pretrained(tmp_path / "export", precision="fp32", device="cpu")
    np.testing.assert_array_equal(loaded.encode_image(IMAGES[:3]), model.encode_image(IMAGES[:3]))
    np.testing.assert_array_equal(loaded.match_grid(IMAGES, TEXTS), model.match_grid(IMAGES, TEXTS))


def test_what_is_pushed_to_the_hub_is_the_export(model, monkeypatch):
    pushed = {}

    class Hub:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **options):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path, repo_id, **options):
            names = sorted(path.name for path in Path(folder_path).iterdir())
            pushed.update(repo=repo_id, names=names, model=TCL.from_pretrained(folder_path, device="cpu"))

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    model.push_to_hub("me/mine")
    assert pushed["repo"] == "me/mine"
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(pushed["names"])
    state, own = pushed["model"].student.state_dict(), model.student.state_dict()
    assert state.keys() == own.keys() and all(torch.equal(state[name], own[name]) for name in own)


def test_the_hub_mixin_holds_no_copy_of_the_model(model):
    assert TCL(model.pretrained, device="cpu")._hub_mixin_config == {}
    assert tiny_vqa()._hub_mixin_config == {}


def test_networks_are_in_eval_mode_and_no_gradient_is_left():
    model = tiny_tcl()
    model.encode_image(IMAGES[0])
    model.explain(IMAGES[0], "a dog")
    assert not model.student.training
    assert all(parameter.grad is None for parameter in model.student.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives(model):
    there = tiny_tcl(device="cuda", batch_size=3)
    assert there.encode_text(TEXTS).dtype == np.float32
    np.testing.assert_allclose(there.encode_image(IMAGES), model.encode_image(IMAGES), atol=1e-3)
    np.testing.assert_allclose(there.encode_text(TEXTS), model.encode_text(TEXTS), atol=1e-3)
    np.testing.assert_allclose(there.match(IMAGES[:5], TEXTS), model.match(IMAGES[:5], TEXTS), atol=1e-3)
    np.testing.assert_allclose(there.match_grid(IMAGES, TEXTS), model.match_grid(IMAGES, TEXTS), atol=1e-3)
    found, expected = (each.retrieve(TEXTS, IMAGES, k=7) for each in (there, model))
    np.testing.assert_allclose(found.match_scores, expected.match_scores, atol=1e-2)
    heat, expected = (each.explain(IMAGES[0], TEXTS[0]) for each in (there, model))
    np.testing.assert_allclose(heat.of_words, expected.of_words, atol=1e-3)
    guesses, expected = (each.fill_mask(IMAGES[0], "a [MASK] dog") for each in (there, model))
    assert guesses[0][0].word == expected[0][0].word
    candidates = ["red", "blue", "green cat", "dog"]
    asked = (IMAGES[:5], TEXTS, candidates)
    assert tiny_vqa(device="cuda").answer(*asked) == tiny_vqa().answer(*asked)
    assert all(isinstance(answer, str) for answer in tiny_vqa(device="cuda").answer(*asked[:2]))
    assert there.to("cpu").hardware.device.type == "cpu"
    np.testing.assert_allclose(there.encode_image(IMAGES), model.encode_image(IMAGES), atol=1e-5)
