"""Two-stage retrieval against slow, obvious versions: dense ranking, and the loop that scores pair by pair."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from data_files import encode, noise
from PIL import Image
from rescoring import (
    dual_softmax,
    dual_softmax_at_once,
    inverted_softmax,
    inverted_softmax_at_once,
    order_of,
    unit_rows,
)
from tiny import MODEL, VOCABULARY, random_batch, tiny_models

from benchmarks.textbook.retrieval import rerank_query_by_query
from tcl.config.model import ModelConfig, TextEncoderConfig
from tcl.config.retrieval_eval import EvalConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.images.augment import eval_transform
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.evaluation import evaluate_retrieval as retrieval
from tcl.evaluation.decoded_images import decoded_batches
from tcl.evaluation.recall import rank_metrics
from tcl.models.encoders import build_encoders
from tcl.objectives.tcl import TCLStudent
from tcl.search.candidates import rank_again, rank_by_embedding, relevance
from tcl.search.match_pairs import image_logits, read_texts
from tcl.search.text_passes import split_by_tokens


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def slow_ranks(scores: torch.Tensor, right: list[set[int]]) -> list[int]:
    """Rank of the first right answer of each row; of equal scores the later index comes first."""
    ranks = []
    for row, answers in zip(scores.tolist(), right, strict=True):
        order = sorted(range(len(row)), key=lambda i: (row[i], i), reverse=True)
        ranks.append(min(order.index(answer) for answer in answers) + 1)
    return ranks


def some_relevance(queries: int, candidates: int, seed: int) -> tuple[list[set[int]], object]:
    generator = torch.Generator().manual_seed(seed)
    right = [set(torch.randperm(candidates, generator=generator)[: 1 + q % 3].tolist()) for q in range(queries)]
    pairs = torch.tensor([(q, a) for q, answers in enumerate(right) for a in answers])
    pairs = pairs[torch.randperm(len(pairs), generator=generator)]
    return right, relevance(pairs[:, 0], pairs[:, 1], queries)


@pytest.mark.parametrize("k", [1, 5, 16, 17])
@pytest.mark.parametrize("values", [(-2, 3), (0, 2), (1, 2)], ids=str)
def test_ranks_by_embedding_equal_a_sorted_list_with_ties_and_any_number_of_answers(monkeypatch, k, values):
    monkeypatch.setattr("tcl.search.candidates.QUERIES_AT_A_TIME", 4)
    generator = torch.Generator().manual_seed(0)
    # Whole numbers: many scores are equal, and exact.
    queries = torch.randint(*values, (11, 3), generator=generator).float()
    candidates = torch.randint(*values, (17, 3), generator=generator).float()
    right, relevant = some_relevance(11, 17, seed=1)
    found = rank_by_embedding(queries, candidates, relevant, k)
    assert rank_by_embedding(queries, candidates, None, k).candidates.equal(found.candidates)
    scores = queries @ candidates.T
    assert found.ranks.tolist() == slow_ranks(scores, right)
    for q, row in enumerate(scores.tolist()):
        order = sorted(range(17), key=lambda i: (row[i], i), reverse=True)
        assert found.candidates[q].tolist() == order[:k]
        assert found.scores[q].tolist() == [row[i] for i in order[:k]]


def test_candidates_that_are_ruled_out_come_last_the_later_first():
    queries, candidates = torch.eye(2), torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    ruled_out = torch.tensor([0.0, -torch.inf, -torch.inf, 0.0])
    right = relevance(torch.tensor([0, 1]), torch.tensor([1, 2]), 2)
    found = rank_by_embedding(queries, candidates, right, 4, lambda queries, candidates: lambda rows: rows + ruled_out)
    assert found.candidates.tolist() == [[0, 3, 2, 1], [3, 0, 2, 1]] and found.ranks.tolist() == [4, 3]


@pytest.mark.parametrize("k", [1, 4, 17])
def test_ranks_after_reranking_equal_those_of_the_dense_scores(k):
    """Dense as published: -100 for every pair outside the k best."""
    generator = torch.Generator().manual_seed(2)
    queries, candidates = torch.randn(11, 3, generator=generator), torch.randn(17, 3, generator=generator)
    right, relevant = some_relevance(11, 17, seed=3)
    first = rank_by_embedding(queries, candidates, relevant, k)
    scores = torch.randint(-3, 3, (11, k), generator=generator).float()
    found = rank_again(first, scores, relevant, count=17)
    dense = torch.full((11, 17), -100.0).scatter_(1, first.candidates, scores)
    assert found.ranks.tolist() == slow_ranks(dense, right)
    assert found.scores.equal(dense.gather(1, found.candidates))
    assert (found.scores.diff(dim=1) <= 0).all()


def test_metrics_by_hand():
    metrics = rank_metrics(torch.tensor([1, 2, 6, 11]), torch.tensor([1, 1, 1, 3, 40]))
    assert metrics["i2t_r1"] == 25 and metrics["i2t_r5"] == 50 and metrics["i2t_r10"] == 75
    assert metrics["i2t_mean"] == 50 and metrics["i2t_median_rank"] == 4
    assert metrics["t2i_r1"] == pytest.approx(60) and metrics["t2i_r10"] == pytest.approx(80)
    assert metrics["t2i_median_rank"] == 1
    assert metrics["mean"] == pytest.approx((50 + (60 + 80 + 80) / 3) / 2)


def model_with(fusion_layers: int) -> TCLStudent:
    torch.manual_seed(4)
    text = TextEncoderConfig(overrides=MODEL.text.overrides, fusion_layers=fusion_layers)
    encoders = build_encoders(ModelConfig(MODEL.image, text, embed_dim=8, lmi_regions=2), VOCABULARY, pad_id=0)
    return TCLStudent(encoders, ObjectiveConfig(queue_size=4)).eval()


@torch.no_grad()
@pytest.mark.parametrize("fusion_layers", [1, 2, 3])
def test_scores_of_an_image_equal_the_fusion_encoder_pair_by_pair(fusion_layers):
    student = model_with(fusion_layers)
    batch = random_batch(9, seed=5)
    encoders, accelerator = student.encoders, Accelerator(cpu=True)
    features, states = read_texts(
        encoders, batch.inputs["text"].ids, batch.inputs["text"].mask, pass_tokens=20, autocast=accelerator.autocast
    )
    tokens = encoders.image_encoder(batch.inputs["image"].view[:1])
    texts = torch.tensor([8, 0, 3, 5])
    logits = image_logits(encoders.fusion_encoder, student.itm_head, tokens[0], texts, states, pass_tokens=12)
    found = logits[:, 1]
    text_tokens = encoders.text_encoder(batch.inputs["text"].ids, batch.inputs["text"].mask)
    torch.testing.assert_close(features, encoders.project_text(text_tokens[:, 0]))
    for score, text in zip(found, texts, strict=True):
        length = int(batch.inputs["text"].mask[text].sum())
        fused = encoders.fusion_encoder(
            text_tokens[text : text + 1, :length],
            batch.inputs["text"].mask[text : text + 1, :length],
            encoders.fusion_encoder.image_keys_values(tokens),
        )
        torch.testing.assert_close(score, student.itm_head(fused[:, 0])[0, 1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_both_directions_equal_the_plain_loop_over_queries():
    """The benchmark's other side."""
    student = model_with(2)
    accelerator, k = Accelerator(cpu=True), 3
    images, texts = random_batch(5, seed=6).inputs["image"], random_batch(13, seed=7).inputs["text"]
    encoders = student.encoders
    image_tokens = encoders.image_encoder(images.view)
    text_tokens = encoders.text_encoder(texts.ids, texts.mask)
    features, states = read_texts(encoders, texts.ids, texts.mask, pass_tokens=20, autocast=accelerator.autocast)
    similarity = encoders.project_image(image_tokens[:, 0]) @ features.T
    i2t, t2i = rerank_query_by_query(student, image_tokens, text_tokens, texts.mask, similarity, k)

    class Kept:
        def encode(self, indices):
            return ((i, image_tokens[i]) for i in indices)

    of_images, of_texts = similarity.topk(k, dim=1).indices, similarity.T.topk(k, dim=1).indices
    ours = retrieval.candidate_logits(accelerator, student, Kept(), states, of_images, of_texts, pass_tokens=15)
    torch.testing.assert_close(ours[0][..., 1], i2t.gather(1, of_images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1][..., 1], t2i.gather(1, of_texts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pass_tokens", [1, 7, 12, 1000])
def test_passes_hold_every_text_once_and_stay_within_their_tokens(pass_tokens):
    lengths = torch.tensor([3, 9, 1, 4, 4, 7, 2])
    order = lengths.argsort(stable=True)
    passes = list(split_by_tokens(order, lengths, pass_tokens))
    assert torch.cat(passes).tolist() == order.tolist()
    assert all(len(some) == 1 or len(some) * int(lengths[some].max()) <= pass_tokens for some in passes)


def ids_of(data) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of its captions in `evaluate`."""
    ids = random_batch(len(data.captions), seed=8).inputs["text"].ids
    mask = (ids != 0).long()
    mask[:, 0] = 1
    return ids, mask


def read(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


def decode_of(data):
    transform = eval_transform(32, (0.5,) * 3, (0.5,) * 3)
    return partial(decoded_batches, data.images, transform=transform, max_pixels=10**6, workers=0)


def evaluate(student, data, rescore=None, **options):
    return retrieval.evaluate_retrieval(
        Accelerator(cpu=True),
        student,
        data,
        decode_of(data),
        lambda texts: ids_of(data),
        config=EvalConfig(**{"rerank_k": 4, "batch_size": 2, **options}),
        rescore=rescore,
    )


@torch.no_grad()
def features_of(student, data) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the images and captions of `evaluate`, by the plain forward pass."""
    ids, mask = ids_of(data)
    transform = eval_transform(32, (0.5,) * 3, (0.5,) * 3)
    pixels = torch.stack([transform(read(content)) for content in data.images])
    encoders = student.encoders
    images = encoders.project_image(encoders.image_encoder(pixels)[:, 0])
    return images.numpy(), encoders.project_text(encoders.text_encoder(ids, mask)[:, 0]).numpy()


def small_set() -> RetrievalSet:
    """6 images with 1 to 3 captions each; caption 0 belongs to two images."""
    pairs, caption = [(1, 0)], 0
    for image in range(6):
        for _ in range(1 + image % 3):
            pairs.append((image, caption))
            caption += 1
    images = [encode(noise(i), "PNG") for i in range(6)]
    texts = [f"caption {i}" for i in range(caption)]
    return RetrievalSet(images, texts, pairs, [str(i) for i in range(6)], texts)


def test_images_that_do_not_fit_into_the_cache_are_encoded_again_to_the_same_scores():
    student, _ = tiny_models()
    calls = []
    student.encoders.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    kept = evaluate(student, small_set())
    with_cache, calls[:] = len(calls), []
    room_for_two = 2.5 * 5 * 24 * 4 / 2**30
    again = evaluate(student, small_set(), image_cache_gib=room_for_two)
    assert with_cache == 3 and len(calls) == 3 + 2
    assert again.metrics == kept.metrics
    assert again.images.candidates.equal(kept.images.candidates)
    torch.testing.assert_close(again.images.scores, kept.images.scores)
    assert student.training


@torch.no_grad()
def test_what_is_said_of_pairs_is_that_of_the_plain_forward_pass():
    """Cosines of right pairs; probabilities in the order of the second stage; the order of the first."""
    student, _ = tiny_models()
    data = small_set()
    images, texts = features_of(student.eval(), data)
    found = evaluate(student, data, rerank_k=3, rerank_similarity=0.5)
    np.testing.assert_allclose(found.pair_similarities, [images[i] @ texts[c] for i, c in data.pairs], atol=1e-6)
    assert found.first_images.candidates.tolist() == order_of(images @ texts.T)[:, :3].tolist()
    assert found.first_captions.candidates.tolist() == order_of(texts @ images.T)[:, :3].tolist()
    encoders, (ids, mask) = student.encoders, ids_of(data)
    pixels = torch.stack([eval_transform(32, (0.5,) * 3, (0.5,) * 3)(read(content)) for content in data.images])
    tokens, text_tokens = encoders.image_encoder(pixels), encoders.text_encoder(ids, mask)
    of_pairs = torch.empty(len(data.images), len(data.captions))
    for i in range(len(tokens)):
        keys_values = encoders.fusion_encoder.image_keys_values(tokens[i : i + 1])
        for c in range(len(ids)):
            fused = encoders.fusion_encoder(text_tokens[c : c + 1], mask[c : c + 1], keys_values)
            of_pairs[i, c] = student.itm_head(fused[:, 0]).softmax(dim=1)[0, 1]
    expected = of_pairs.gather(1, found.images.candidates)
    torch.testing.assert_close(found.image_probabilities, expected, rtol=1e-4, atol=1e-5)
    expected = of_pairs.T.gather(1, found.captions.candidates)
    torch.testing.assert_close(found.caption_probabilities, expected, rtol=1e-4, atol=1e-5)


def test_embeddings_alone():
    student, _ = tiny_models()
    found = evaluate(student, small_set(), rerank_k=0)
    assert not any(name.startswith("rerank_") for name in found.metrics)
    assert found.images.candidates.shape == (6, 10) and found.captions.candidates.shape == (12, 6)
    assert found.image_probabilities is None and found.caption_probabilities is None
    assert len(found.pair_similarities) == len(small_set().pairs)


def test_a_student_without_a_second_stage_is_evaluated_by_its_embeddings():
    student, _ = tiny_models()
    data = small_set()
    images, texts = features_of(student.eval(), data)
    del student.encoders.fusion_encoder, student.itm_head
    found = evaluate(student, data, rerank_k=0)
    assert found.images.candidates.tolist() == order_of(images @ texts.T)[:, :10].tolist()
    assert found.captions.candidates.tolist() == order_of(texts @ images.T).tolist()


@pytest.mark.parametrize(("k", "weight"), [(0, 0.0), (3, 0.0), (3, 0.5), (0, 0.5)])
def test_rescoring_is_what_numpy_makes_of_the_whole_matrix(k, weight, monkeypatch):
    """Another way for either direction; ITM scores of all pairs are those without re-scoring. weight: of the first
    stage's score, over the temperature, in the second."""
    monkeypatch.setattr("tcl.search.candidates.QUERIES_AT_A_TIME", 4)
    student, _ = tiny_models()
    data, bank = small_set(), unit_rows(9, 8, seed=0)
    images, texts = features_of(student.eval(), data)
    by_pair = evaluate(student, data, rerank_k=12).images
    itm = torch.zeros(6, 12).scatter(1, by_pair.candidates, by_pair.scores).numpy()
    found = evaluate(
        student, data, rescore=(dual_softmax, inverted_softmax(bank)), rerank_k=k, rerank_similarity=weight
    )
    right = torch.zeros(6, 12, dtype=torch.bool)
    right[tuple(torch.tensor(data.pairs).T)] = True
    for ranked, scores, plain, matches, answers, name in (
        (found.images, dual_softmax_at_once(images, texts), images @ texts.T, itm, right, "i2t"),
        (found.captions, inverted_softmax_at_once(texts, images, bank), texts @ images.T, itm.T, right.T, "t2i"),
    ):
        first = order_of(scores)
        assert [set(row[:3]) for row in first] != [set(row[:3]) for row in order_of(plain)]
        for q, row in enumerate(ranked.candidates.tolist()):
            expected = first[q, :10].tolist()
            if k:
                both = matches[q] + weight * scores[q] / student.temperature.item()
                expected = sorted(expected[:k], key=lambda i, both=both: (both[i], i), reverse=True)
            assert row == expected
        best = [answers[q, order[0]].item() for q, order in enumerate(first)]
        assert found.metrics[f"rescored_{name}_r1"] == pytest.approx(100 * sum(best) / len(best))
        best = [answers[q, order[0]].item() for q, order in enumerate(order_of(plain))]
        assert found.metrics[f"{name}_r1"] == pytest.approx(100 * sum(best) / len(best))
    assert any(name.startswith("rerank_") for name in found.metrics) == (k > 0)


@pytest.mark.parametrize("k", [7, 12, 128])
def test_more_candidates_than_there_are_is_all_of_them(k):
    """Both directions score every pair: the same matrix, whose rows and columns give the recalls."""
    student, _ = tiny_models()
    data = small_set()
    found = evaluate(student, data, rerank_k=k)
    assert found.images.candidates.shape == (6, min(k, 12)) and found.captions.candidates.shape == (12, 6)
    by_caption = torch.zeros(12, 6).scatter(1, found.captions.candidates, found.captions.scores)
    torch.testing.assert_close(found.images.scores, by_caption.T.gather(1, found.images.candidates))
    right = {caption: [image for image, other in data.pairs if other == caption] for caption in range(12)}
    first = [max(by_caption[caption][images]) >= max(by_caption[caption]) for caption, images in right.items()]
    assert found.metrics["rerank_t2i_r1"] == pytest.approx(100 * sum(map(bool, first)) / 12)


def test_a_note_says_that_there_are_fewer_candidates():
    assert retrieval.cut_rerank_k(6, small_set(), "eval.rerank_k") == []
    assert retrieval.cut_rerank_k(7, small_set(), "eval.rerank_k") == [
        "eval.rerank_k: 7, of 6 images and 12 captions; ITM orders 7 captions of each image, 6 images of each caption"
    ]
