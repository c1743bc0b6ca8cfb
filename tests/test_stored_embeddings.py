"""experiments.stored_embeddings: recalls of what is kept, against slow searches in what each storage stands for."""

import json

import faiss
import numpy as np
import pytest
import torch
from data_files import encode, noise, pairs, write_tar
from tiny_pretrained import tiny_compressed, tiny_tcl

from experiments import stored_embeddings
from experiments.recalls import recalls
from experiments.stored_embeddings import coded, fitted, kept_by, main, milliseconds, plain, search_figures
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.errors import InputError

CAPTIONS = ["a red dog", "two cats", "a blue bird in a tree", "dogs", "a green sea", "a dog on a mat", "blue"]


@pytest.fixture(scope="module")
def unit():
    """float32 [600, 16]."""
    rows = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pairs_set() -> RetrievalSet:
    images = [encode(noise(i)) for i in range(6)]
    return RetrievalSet(images, CAPTIONS, [(i % 6, i) for i in range(7)], list("abcdef"), CAPTIONS)


def test_recalls():
    ids = np.array([[4, 7, 2], [1, 0, 3]])
    scores = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])  # 7 2 4, 1 0 3
    assert recalls(ids, scores, {(0, 2), (0, 4), (1, 1)}) == {"r1": 50.0, "r5": 100.0, "r10": 100.0}
    assert recalls(ids, scores, {(0, 1), (1, 7)}) == {"r1": 0.0, "r5": 0.0, "r10": 0.0}


@pytest.mark.parametrize(("storage", "size", "off"), [("fp32", 64, 0), ("fp16", 32, 5e-4), ("int8", 20, 4.1e-3)])
def test_numbers_made_smaller(unit, storage, size, off):
    kept = plain(storage, 16)
    restored = kept.restored(unit)
    assert kept.bytes == size and np.abs(restored - unit).max() <= off and kept.queries(unit) is unit
    assert storage == "fp32" or not np.array_equal(restored, unit)
    found = kept.index(unit).search(unit[:1], 1)
    assert found[1].tolist() == [[0]] and found[0][0, 0] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", ["PQ4x8", "OPQ4,PQ4x8"])
def test_what_is_restored_scores_as_faiss_scores(unit, name):
    kept = fitted(name, unit)
    scores, places = kept.index(unit).search(unit[:5], 600)
    by_place = np.take_along_axis(scores, np.argsort(places, axis=1), axis=1)
    assert kept.bytes == 4
    np.testing.assert_allclose(by_place, unit[:5] @ kept.restored(unit).T, atol=1e-5)


@pytest.mark.parametrize("coarse", [False, True])
def test_codes_score_as_a_slow_search_in_codewords(coarse):
    model = tiny_compressed()
    books = model.codebooks
    levels = 1 if coarse else len(books)
    kept = coded(model, levels)
    embeddings = model.encode_text(CAPTIONS)
    by_level = embeddings.reshape(len(CAPTIONS), len(books), -1)
    slow = np.zeros((7, 7))
    for q, t in np.ndindex(7, 7):
        for level in range(levels):
            query = by_level[q, level] / np.linalg.norm(by_level[q, :levels])
            parts = by_level[t, level].reshape(books.shape[1], -1)
            words = [books[level, m, np.argmax(books[level, m] @ part)] for m, part in enumerate(parts)]
            slow[q, t] += query @ np.concatenate(words) / (levels * books.shape[1]) ** 0.5
    np.testing.assert_allclose(kept.queries(embeddings) @ kept.restored(embeddings).T, slow, atol=1e-5)
    assert kept.bytes == levels * books.shape[1]


def test_figures_of_a_search():
    model, held_out = tiny_tcl(), pairs_set()
    found = search_figures(model, held_out, plain("fp32", model.embed_dim), 0.5)
    cosines = model.encode_image(held_out.images) @ model.encode_text(CAPTIONS).T
    states, every = model.read_texts(CAPTIONS), [torch.arange(7)] * 6
    logits = torch.stack(list(model.match_tokens(model.encode_tokens(held_out.images), states, every)))[..., 1].numpy()
    for prefix, scores in (("", cosines), ("rerank_", logits + 0.5 / model.temperature * cosines)):
        for rank in (1, 5, 10):
            texts = [any((i, t) in held_out.pairs for t in np.argsort(-scores[i])[:rank].tolist()) for i in range(6)]
            images = [
                any((i, t) in held_out.pairs for i in np.argsort(-scores[:, t])[:rank].tolist()) for t in range(7)
            ]
            assert found[f"{prefix}i2t_r{rank}"] == pytest.approx(100 * np.mean(texts))
            assert found[f"{prefix}t2i_r{rank}"] == pytest.approx(100 * np.mean(images))
    assert 0 < found["rerank_i2t_r5"] + found["t2i_r5"] < 200


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_embeddings, "ROWS", 100)
    monkeypatch.setattr(stored_embeddings, "load_model", lambda run: tiny_tcl())
    write_tar(tmp_path / "val.tar", pairs("a", 4))
    shards = str(tmp_path / "val.tar")
    given = ["--output_dir", str(tmp_path / "out"), "--run", "tiny", "--val", shards, "--train", shards]
    main([*given, "--storage", "int8"])
    row = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    assert row["step"] == 0 and row["eval_bytes"] == tiny_tcl().embed_dim + 4 and row["eval_ms"] > 0
    with pytest.raises(InputError, match=r"^storage: codes wants a run of --task compressed_retrieval"):
        main([*given, "--storage", "codes"])


def test_what_pq_is_fitted_to_is_read_for_it_alone(unit):
    model = tiny_tcl()

    def training() -> np.ndarray:
        raise AssertionError("not asked for")

    assert kept_by(model, "fp16", 4, training).bytes == 2 * model.embed_dim
    assert isinstance(kept_by(model, "opq", 4, lambda: unit).index(unit), faiss.IndexPreTransform)


def test_queries_among_many(unit, monkeypatch):
    monkeypatch.setattr(stored_embeddings, "ROWS", 1000)
    made = []
    kept = plain("fp32", 16)
    monkeypatch.setattr(stored_embeddings.faiss, "omp_set_num_threads", made.append)
    assert milliseconds(kept, unit) > 0 and made == [1]
