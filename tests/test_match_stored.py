"""Matching from stored tokens: equal to matching from fresh ones within their precision, wherever it is asked for."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import noise
from tiny import MODEL
from tiny_pretrained import tiny_compressed, tiny_tcl

from tcl import TCL
from tcl.config.model import FusionConfig
from tcl.data.tokens.stored_tokens import StoredTokens, restore_tokens, store_tokens
from tcl.data.tokens.token_file import TokenFile
from tcl.errors import InputError
from tcl.models.compress_tokens import build_compression
from tcl.search.match_stored import match_stored, split_into_passes
from tcl.search.pair_scores import match_once, pairs_of_images, pairs_of_texts
from tcl.search.two_stage import Search, search

IMAGES = [noise(i, (24, 20)) for i in range(7)]
TEXTS = ["a red dog", "cat", "a photo of thing number dog on mat", "blue", "green cat on mat"]
TOLERANCE = {"fp16": 2e-3, "int8": 2e-2}


def model(tokens: int | None = None, **options) -> TCL:
    """tokens: of an image for the fusion encoder; None: all."""
    loaded = tiny_tcl(**options)
    encoders = loaded.student.encoders
    torch.manual_seed(1)
    encoders.fusion_encoder.compression = build_compression(tokens, encoders.image_encoder)
    loaded.student.eval()
    loaded.pretrained.model = replace(MODEL, fusion=FusionConfig(image_tokens=tokens))
    return loaded


@pytest.mark.parametrize("tokens", [None, 2])
@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_stored_matches_are_the_fresh_ones_within_their_precision(tmp_path, tokens, storage):
    tcl = model(tokens)
    corpus = tcl.store_tokens(IMAGES, tmp_path / "a.tokens", storage=storage)
    assert corpus.stored.header.tokens == (tokens or 5) and corpus.stored.header.storage == storage
    np.testing.assert_array_equal(corpus.features, tcl.encode_image(IMAGES))
    fresh = tcl.match_grid(IMAGES, TEXTS)
    stored = tcl.match_stored(tmp_path / "a.tokens", TEXTS)
    assert stored.shape == (7, 5) and stored.dtype == np.float32
    np.testing.assert_allclose(stored, fresh, atol=TOLERANCE[storage])
    assert np.abs(stored - fresh).max() > 0 and np.ptp(fresh) > 10 * TOLERANCE[storage]
    some = tcl.match_stored(corpus.stored, TEXTS[2], images=[5, 0, 5])
    np.testing.assert_allclose(some, stored[[5, 0, 5]][:, 2:3], atol=1e-6)


@pytest.mark.parametrize("storage", ["fp16", "int8"])
@torch.no_grad()
def test_they_are_exactly_those_of_the_restored_tokens(tmp_path, storage):
    """By the fusion encoder's plain pass, pair by pair."""
    tcl = model(2)
    corpus = tcl.store_tokens(IMAGES, tmp_path / "a.tokens", storage=storage)
    encoders, found = tcl.student.encoders, tcl.match_stored(corpus.stored, TEXTS)
    for image in range(7):
        tokens = restore_tokens(corpus.stored.read([image]))
        for text in range(5):
            ids, mask = tcl._tokenize([TEXTS[text]])
            keys_values = encoders.fusion_encoder.keys_values(tokens)
            fused = encoders.fusion_encoder(encoders.text_encoder(ids, mask), mask, keys_values)
            right = tcl.student.itm_head(fused[:, 0]).softmax(1)[0, 1]
            assert found[image, text] == pytest.approx(right.item(), abs=1e-5)


def test_a_model_with_codes_stores_what_it_matches_beside_its_own_embeddings(tmp_path):
    """Those of its heads, which are not those of the projections."""
    compressed = tiny_compressed()
    features = compressed.encode_image(IMAGES)
    corpus = compressed.store_tokens(IMAGES, tmp_path / "a.tokens", storage="fp16")
    assert features.shape == (7, 48) and compressed.embed_dim == 48
    np.testing.assert_array_equal(corpus.features, features)
    np.testing.assert_array_equal(compressed.embed_images(IMAGES).features, features)
    expected = compressed.retrieve(TEXTS, IMAGES, k=7, candidates=7)
    found = compressed.retrieve(TEXTS, corpus, k=7, candidates=7)
    np.testing.assert_allclose(found.match_scores, expected.match_scores, atol=2e-2)


def test_images_are_encoded_once_for_their_embeddings_and_their_tokens(tmp_path):
    tcl, encoded = model(2, batch_size=3), []
    tcl.student.encoders.image_encoder.register_forward_hook(lambda _, given, found: encoded.append(len(found)))
    tcl.store_tokens(IMAGES, tmp_path / "a.tokens")
    tcl.embed_images(IMAGES)
    assert encoded == [3, 3, 1] * 2


def test_a_corpus_on_the_disk_ranks_without_its_images(tmp_path, monkeypatch):
    tcl = model(2)
    corpus = tcl.store_tokens(IMAGES, tmp_path / "a.tokens", storage="fp16")
    expected = tcl.retrieve(TEXTS, tcl.embed_images(IMAGES), k=3, candidates=5)
    of_images = tcl.retrieve(tcl.embed_images(IMAGES), TEXTS, k=2, candidates=3)

    def never(*arguments, **options):
        raise AssertionError("an image was encoded")

    monkeypatch.setattr(tcl, "encode_tokens", never)
    on_disk = replace(corpus, items=[None] * 7)
    found = tcl.retrieve(TEXTS, on_disk, k=3, candidates=5)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.match_scores, expected.match_scores, atol=2e-2)
    texts = tcl.retrieve(on_disk, tcl.embed_texts(TEXTS), k=2, candidates=3)
    np.testing.assert_array_equal(texts.ids, of_images.ids)


@pytest.mark.parametrize("pass_tokens", [1, 30, 10_000])
def test_two_stage_search_from_a_store_is_the_slow_search(tmp_path, pass_tokens):
    """Both directions at once; every order is that of all scores, computed one by one."""
    tcl = model(2)
    corpus = tcl.store_tokens(IMAGES, tmp_path / "a.tokens")
    states = tcl.read_texts(TEXTS)
    student = tcl.student
    logits = partial(
        match_stored,
        student.encoders.fusion_encoder,
        student.itm_head,
        corpus.stored,
        states,
        pass_tokens=pass_tokens,
        autocast=tcl.hardware.autocast,
    )

    def match(texts_of_images, images_of_texts):
        wanted = [pairs_of_images(texts_of_images), pairs_of_texts(images_of_texts)]
        return match_once(wanted, lambda images, texts: logits(images, texts)[:, 1])

    images, texts = torch.from_numpy(corpus.features), torch.from_numpy(tcl.encode_text(TEXTS))
    by_image, by_text = search([Search(images, texts), Search(texts, images)], 4, match)
    every = torch.stack([logits(torch.tensor([i]), torch.tensor([t]))[0, 1] for i in range(7) for t in range(5)])
    every = every.unflatten(0, (7, 5))
    for found, scores in ((by_image, every), (by_text, every.T)):
        torch.testing.assert_close(found.best.scores, scores.gather(1, found.best.candidates), atol=1e-5, rtol=0)
        assert (found.best.scores.diff(dim=1) <= 0).all()
        assert found.best.candidates.sort(dim=1).values.equal(found.first.candidates.sort(dim=1).values)


@pytest.mark.parametrize("pass_tokens", [1, 20, 45, 1000])
def test_passes_hold_every_pair_once_and_no_more_tokens_than_asked(pass_tokens):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 6, (40,), generator=generator).sort().values
    lengths = torch.randint(3, 9, (40,), generator=generator)
    passes = list(split_into_passes(images, lengths, 4, pass_tokens))
    assert torch.cat([one.flatten() for one in passes]).sort().values.equal(torch.arange(40))
    for one in passes:
        assert (images[one] == images[one][:, :1]).all()
        size = len(one) * (4 + one.shape[1] * int(lengths[one].max()))
        assert size <= pass_tokens or one.numel() == 1


def test_only_the_candidates_at_hand_are_restored(tmp_path, monkeypatch):
    """One row of the file for each of the images asked for, a pass at a time."""
    tcl = model(2)
    corpus = tcl.store_tokens(IMAGES, tmp_path / "a.tokens")
    read, asked = TokenFile.read, []

    def recorded(self, images) -> StoredTokens:
        asked.append(len(images))
        return read(self, images)

    monkeypatch.setattr(TokenFile, "read", recorded)
    tcl.retrieve("a red dog", corpus, k=1, candidates=3)
    assert sum(asked) <= 3 + 1  # one to learn their number of tokens


def test_a_fusion_encoder_that_learned_on_reads_the_same_file_and_another_model_does_not(tmp_path):
    tcl = model(2)
    tcl.store_tokens(IMAGES, tmp_path / "a.tokens")
    other = model(2)
    with torch.no_grad():
        other.student.encoders.fusion_encoder.layers[0].cross_attention.key.weight += 1
        other.student.encoders.vision_proj.weight += 1
    assert len(other.open_tokens(tmp_path / "a.tokens")) == 7
    for change in ("image_encoder.vit.blocks.0.norm1.weight", "fusion_encoder.compression.queries"):
        changed = model(2)
        with torch.no_grad():
            changed.student.encoders.get_parameter(change).flatten()[0] += 1e-3
        with pytest.raises(InputError, match=r"^tokens: .* was made by another model \("):
            changed.match_stored(tmp_path / "a.tokens", "a dog")
    darker = model(2)
    darker.student.encoders.image_encoder.mean = (0.1, 0.1, 0.1)
    with pytest.raises(InputError, match="another model"):
        darker.open_tokens(tmp_path / "a.tokens")


def test_what_cannot_be_is_one_line(tmp_path):
    tcl = model(2)
    with pytest.raises(InputError, match=r"^storage: 'int4' is not possible; accepted: fp16, int8$"):
        tcl.store_tokens(IMAGES, tmp_path / "a.tokens", storage="int4")
    with pytest.raises(InputError, match=r"^path: .* cannot be written"):
        tcl.store_tokens(IMAGES, tmp_path / "no" / "a.tokens")
    with pytest.raises(InputError, match=r"^images\[1\]: "):
        tcl.store_tokens([IMAGES[0], Path("/nowhere.jpg")], tmp_path / "a.tokens")
    assert not list(tmp_path.iterdir())
    stored = tcl.store_tokens(IMAGES[:2], tmp_path / "a.tokens").stored
    for images, said in (([2], r"^images: 2 is not in "), ([], r"^images: there are none")):
        with pytest.raises(InputError, match=said):
            tcl.match_stored(stored, "a dog", images=images)


def test_bf16_restores_to_what_the_layers_compute_in(tmp_path):
    tcl = model(2, precision="bf16")
    corpus = tcl.store_tokens(IMAGES, tmp_path / "a.tokens", storage="int8")
    np.testing.assert_allclose(tcl.match_stored(corpus.stored, TEXTS), model(2).match_grid(IMAGES, TEXTS), atol=0.1)
    right = store_tokens(torch.zeros(1, 1, 4), "int8")
    assert restore_tokens(right, torch.bfloat16).dtype == torch.bfloat16


def test_stored_images_of_a_model_with_codes_have_its_embeddings(tmp_path):
    coded = tiny_compressed()
    corpus = coded.store_tokens(IMAGES, tmp_path / "a.tokens", storage="fp16")
    assert np.allclose(corpus.features, coded.encode_image(IMAGES), atol=1e-6)
