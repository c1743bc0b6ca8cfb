"""The one search, on vectors alone: re-scored or not, with a second stage or without, against numpy all at once."""

import numpy as np
import pytest
import torch
from rescoring import (
    dual_softmax,
    dual_softmax_at_once,
    inverted_softmax,
    inverted_softmax_at_once,
    order_of,
    unit_rows,
)

from tcl.errors import InputError
from tcl.search.candidates import best_of
from tcl.search.pair_scores import image_by_image, match_once, pairs_of_images, pairs_of_texts
from tcl.search.two_stage import Search, both_directions, search

QUERIES, CANDIDATES, BANK = unit_rows(11, 6, seed=0), unit_rows(17, 6, seed=1), unit_rows(23, 6, seed=2)
IN_NUMPY = {
    "none": (None, QUERIES.astype(np.float64) @ CANDIDATES.T),
    "inverted softmax": (inverted_softmax(BANK), inverted_softmax_at_once(QUERIES, CANDIDATES, BANK)),
    "dual softmax": (dual_softmax, dual_softmax_at_once(QUERIES, CANDIDATES)),
}


@pytest.fixture(autouse=True)
def few_queries_at_a_time(monkeypatch):
    monkeypatch.setattr("tcl.search.candidates.QUERIES_AT_A_TIME", 4)


def of_vectors(rescore=None, queries=QUERIES, candidates=CANDIDATES) -> Search:
    return Search(torch.from_numpy(queries), torch.from_numpy(candidates), rescore=rescore)


def some_scores(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Of pairs, whole numbers of which many are equal."""
    return ((images * 7 + texts * 5) % 6).float()


@pytest.mark.parametrize("name", IN_NUMPY)
@pytest.mark.parametrize("k", [1, 5, 17, 40])
def test_without_a_second_stage_the_order_is_that_of_the_scores(name, k):
    rescore, scores = IN_NUMPY[name]
    (found,) = search([of_vectors(rescore)], k)
    assert found.best is found.first and found.best.ranks is None
    expected = order_of(scores)[:, :k]
    assert found.best.candidates.tolist() == expected.tolist()
    np.testing.assert_allclose(found.best.scores, np.take_along_axis(scores, expected, axis=1), atol=1e-5)


def test_the_orders_of_this_file_differ():
    orders = [order_of(scores)[:, :5].tolist() for _, scores in IN_NUMPY.values()]
    assert orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize("name", IN_NUMPY)
def test_a_second_stage_orders_the_best_of_the_first(name):
    rescore, scores = IN_NUMPY[name]
    (found,) = search([of_vectors(rescore)], 5, lambda chosen: match_once([pairs_of_images(chosen)], some_scores))
    again = some_scores(torch.arange(11)[:, None], torch.arange(17)[None]).numpy()
    for q, chosen in enumerate(order_of(scores)[:, :5].tolist()):
        expected = sorted(chosen, key=lambda i, q=q: (again[q, i], i), reverse=True)
        assert found.first.candidates[q].tolist() == chosen
        assert found.best.candidates[q].tolist() == expected
        assert found.best.scores[q].tolist() == again[q, expected].tolist()
        np.testing.assert_allclose(found.best.similarities[q], scores[q, expected], atol=1e-5)


def test_both_directions_are_ranked_and_a_pair_that_both_want_is_scored_once():
    images, texts = torch.from_numpy(QUERIES), torch.from_numpy(CANDIDATES)
    pairs = [(i % 11, i) for i in range(17)]
    asked = []

    def match(*candidates):
        def recorded(pair_images, pair_texts):
            asked.extend(zip(pair_images.tolist(), pair_texts.tolist(), strict=True))
            return some_scores(pair_images, pair_texts)

        return match_once([pairs_of_images(candidates[0]), pairs_of_texts(candidates[1])], recorded)

    by_image, by_text = search(both_directions(images, texts, pairs, (None, dual_softmax)), 4, match)
    of_images = order_of(QUERIES @ CANDIDATES.T)[:, :4]
    scores_of_texts = dual_softmax_at_once(CANDIDATES, QUERIES)
    of_texts = order_of(scores_of_texts)[:, :4]
    wanted = {(i, t) for i, row in enumerate(of_images) for t in row} | {
        (i, t) for t, row in enumerate(of_texts) for i in row
    }
    assert asked == sorted(wanted)
    for text, row in enumerate(by_text.best.candidates.tolist()):
        scores = {i: float(some_scores(torch.tensor(i), torch.tensor(text))) for i in of_texts[text].tolist()}
        assert row == sorted(scores, key=lambda i, scores=scores: (scores[i], i), reverse=True)
        assert by_text.first.ranks[text] == order_of(scores_of_texts)[text].tolist().index(text % 11) + 1
    assert by_image.best.ranks.shape == (11,)


def test_image_by_image_reads_each_once_and_puts_the_scores_in_their_places():
    images, texts = torch.tensor([2, 2, 5, 9, 9, 9]), torch.tensor([1, 8, 8, 0, 1, 3])
    read = []

    def match(image_numbers, text_numbers, texts_of_image):
        read.extend([image_numbers, text_numbers])
        for image, some in zip(image_numbers, texts_of_image, strict=True):
            scores = torch.tensor([100.0 * image + text_numbers[text] for text in some.tolist()])
            yield torch.stack([-scores, scores], dim=1)

    assert image_by_image(images, texts, match).tolist() == [201, 208, 508, 900, 901, 903]
    assert read == [[2, 5, 9], [0, 1, 3, 8]]


def test_a_rescore_sees_all_candidates_and_never_more_queries_than_come_at_a_time():
    prepared, seen = [], []

    def rescore(queries, candidates):
        prepared.append((queries.shape, candidates.shape))
        return lambda similarities: seen.append(tuple(similarities.shape)) or similarities

    search([of_vectors(rescore)], 3)
    assert prepared == [((11, 6), (17, 6))] and seen == [(4, 17), (4, 17), (3, 17)]


def test_equal_scores_rank_the_later_candidate_first_and_minus_infinity_is_last():
    def rescore(queries, candidates):
        return lambda similarities: torch.zeros_like(similarities).index_fill_(1, torch.tensor([16, 3]), -torch.inf)

    (found,) = search([of_vectors(rescore)], 17)
    last = [i for i in range(15, -1, -1) if i != 3] + [16, 3]
    assert found.best.candidates.tolist() == [last] * 11


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            lambda s: s[:, :3],
            r"rescore: a tensor \[4, 3\] for similarities \[4, 17\]; give a tensor with a score for each of them",
        ),
        (
            lambda s: s.numpy(),
            r"rescore: a ndarray for similarities \[4, 17\]; give a tensor with a score for each of them",
        ),
        (lambda s: s.log(), "rescore: NaN among the scores; give numbers, -inf for what shall come last"),
    ],
)
def test_scores_that_cannot_be_ranked(rows, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        search([of_vectors(lambda queries, candidates: rows)], 3)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_of_equal_scores_the_later_is_kept_wherever_they_stand(k):
    rows = torch.randint(0, 3, (200, 6), generator=torch.Generator().manual_seed(k)).float()
    indices, found = best_of(rows, k)
    for row, own, scores in zip(rows.tolist(), indices.tolist(), found.tolist(), strict=True):
        order = sorted(range(6), key=lambda i: (row[i], i), reverse=True)[:k]
        assert own == order and scores == [row[i] for i in order]
