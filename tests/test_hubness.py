"""Re-scoring against hubs: relations between the methods, float64, chunks, and what cannot be."""

import math

import numpy as np
import pytest
import torch
from rescoring import unit_rows
from scipy.special import logsumexp

from tcl.errors import InputError
from tcl.search import hubness as module
from tcl.search.hubness import hubness, log_sums
from tcl.search.rescorings import METHODS, activation_set, dual_softmax, less, rescoring, stacked_sinkhorn

TEMPERATURE = 0.05


def rows(count: int, seed: int, width: int = 6) -> torch.Tensor:
    return torch.from_numpy(unit_rows(count, width, seed))


BANK, CANDIDATES, QUERIES = rows(40, 0), rows(25, 1), rows(9, 2)


def in_float64(bank, candidates, method, temperature, iterations):
    """With the whole matrix."""
    scaled = bank.double().numpy() @ candidates.double().numpy().T / temperature
    if method == "inverted_softmax":
        return temperature * logsumexp(scaled, axis=0)
    N, C = scaled.shape
    log_u = np.full(C, -math.log(C))
    for _ in range(iterations):
        log_v = -math.log(N) - logsumexp(scaled + log_u, axis=1)
        log_u = -math.log(C) - logsumexp(scaled + log_v[:, None], axis=0)
    return -temperature * log_u


@pytest.mark.parametrize("chunk", [(2048, 2048), (7, 3), (1, 100)])
@pytest.mark.parametrize("temperature", [0.005, 0.05, 1.0])
@pytest.mark.parametrize(("method", "iterations"), [("inverted_softmax", 1), ("sinkhorn", 1), ("sinkhorn", 5)])
def test_chunk_by_chunk_it_is_what_float64_makes_of_the_whole_matrix(
    method, iterations, temperature, chunk, monkeypatch
):
    monkeypatch.setattr(module, "ROWS", chunk[0])
    monkeypatch.setattr(module, "COLUMNS", chunk[1])
    found = hubness(BANK, CANDIDATES, method, temperature, iterations)
    expected = in_float64(BANK, CANDIDATES, method, temperature, iterations)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=1e-5)


def test_no_row_sums_are_lost_where_exponents_are_far_apart():
    found = log_sums(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [-1.0]]), 0.001)
    assert found.tolist() == pytest.approx([1000.0, 1000.0])


def test_inverted_softmax_is_a_round_of_sinkhorn_without_its_rows():
    rowless = -TEMPERATURE * (-math.log(25) - log_sums(CANDIDATES, BANK, TEMPERATURE, torch.zeros(40)))
    found = hubness(BANK, CANDIDATES, "inverted_softmax", TEMPERATURE)
    torch.testing.assert_close(found - found.mean(), rowless - rowless.mean())


def test_a_query_on_the_bank_ranks_as_stored_potentials_after_one_iteration():
    similarities = QUERIES @ CANDIDATES.T
    stored = less(hubness(BANK, CANDIDATES, "sinkhorn", TEMPERATURE, 1))(similarities.clone())
    stacked = stacked_sinkhorn(similarities, BANK, CANDIDATES, TEMPERATURE, 1)
    assert stored.argsort(dim=1).equal(stacked.argsort(dim=1))
    assert not stored.argsort(dim=1).equal(similarities.argsort(dim=1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("with_bank", [True, False])
def test_the_order_of_the_bank_is_nothing(method, with_bank):
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    similarities = QUERIES @ CANDIDATES.T
    if with_bank:
        found = [rescoring(method, bank, TEMPERATURE)(QUERIES, CANDIDATES) for bank in (BANK, BANK[shuffled])]
        torch.testing.assert_close(found[0](similarities.clone()), found[1](similarities.clone()))
    else:  # a query's own scores stay its own, whichever others come with it first
        order = torch.tensor([3, 0, 8, 1, 2, 7, 6, 5, 4])
        found = rescoring(method, None, TEMPERATURE)(QUERIES, CANDIDATES)(similarities.clone())
        again = rescoring(method, None, TEMPERATURE)(QUERIES[order], CANDIDATES)(similarities[order])
        torch.testing.assert_close(again, found[order], atol=1e-5, rtol=1e-4)


def test_a_bank_of_one_takes_from_each_candidate_its_own_similarity():
    one = BANK[:1]
    found = hubness(one, CANDIDATES, "inverted_softmax", TEMPERATURE)
    torch.testing.assert_close(found, (one @ CANDIDATES.T)[0])
    ranked = rescoring("sinkhorn", one, TEMPERATURE)(one, CANDIDATES)(one @ CANDIDATES.T)
    torch.testing.assert_close(ranked, ranked[:, :1].expand(-1, 25), atol=1e-5, rtol=0)


@pytest.mark.parametrize("bank", [BANK, None])
def test_dual_softmax_ranks_as_the_published_product_with_one_more(bank):
    """1 + cosine, times the softmax over the queries of the bank and the query, or of the search."""
    similarities = QUERIES @ CANDIDATES.T
    scores = rescoring("dsl", bank, TEMPERATURE)(QUERIES, CANDIDATES)(similarities)
    for q, own in enumerate(similarities):
        others = torch.cat([BANK @ CANDIDATES.T, own[None]]) if bank is not None else similarities
        expected = (1 + own) * (others / TEMPERATURE).softmax(dim=0)[-1 if bank is not None else q]
        torch.testing.assert_close(scores[q].exp(), expected, atol=1e-6, rtol=1e-4)


def test_the_published_product_ranks_negative_scores_the_wrong_way_round():
    """Why the search takes another: the candidate nobody else wants is the worst of those below 0."""
    similarities = torch.tensor([[-0.1, -0.2]])
    sums = torch.tensor([-0.1, -0.2]) / TEMPERATURE + torch.tensor([0.0, 5.0])
    published = dual_softmax(similarities, sums, TEMPERATURE, stacked=False)
    assert published[0, 0] < published[0, 1]


def test_a_cosine_that_rounding_puts_below_minus_one_comes_last():
    cosines = torch.tensor([[-1.0000001, 0.5, -0.9]])
    scores = rescoring("dsl", BANK, TEMPERATURE)(QUERIES, CANDIDATES[:3])(cosines)
    assert scores[0, 0] == -math.inf and scores[0, 1:].isfinite().all()


def test_activation_is_that_of_any_query_of_the_bank():
    nearest = (BANK @ CANDIDATES.T).topk(3, dim=1).indices
    expected = [c in set(nearest.flatten().tolist()) for c in range(25)]
    assert activation_set(BANK, CANDIDATES, 3).tolist() == expected and not all(expected)


NOT_FINITE = CANDIDATES.clone()
NOT_FINITE[2, 3] = math.nan


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bank": torch.empty(0, 6)}, r"^bank: a tensor \[0, 6\]; give one row for each, of at least one, \[N, D\]$"),
        ({"bank": rows(4, 0, width=5)}, r"^bank: features of width 5, candidates of width 6; give both as one model"),
        ({"candidates": NOT_FINITE}, r"^candidates: NaN or infinite features; give embeddings, rows of length 1$"),
        ({"bank": NOT_FINITE}, r"^bank: NaN or infinite features"),
        ({"temperature": 0.0}, r"^temperature: 0\.0 is not possible; accepted: a number > 0$"),
        ({"temperature": math.inf}, r"^temperature: inf is not possible; accepted: a number > 0$"),
        ({"temperature": math.nan}, r"^temperature: nan is not possible; accepted: a number > 0$"),
        ({"iterations": 0}, r"^iterations: 0 is not possible; accepted: 1 or more$"),
        ({"method": "softmax"}, r"^method: 'softmax' is not possible; accepted: inverted_softmax or sinkhorn$"),
    ],
)
def test_what_cannot_be_is_refused(changed, message):
    given = {"bank": BANK, "candidates": CANDIDATES, "method": "sinkhorn", "temperature": 0.05, "iterations": 2}
    with pytest.raises(InputError, match=message):
        hubness(**given | changed)


def test_an_unknown_method_and_k_are_refused():
    with pytest.raises(InputError, match=r"^method: 'csls' is not possible; accepted: one of inverted_softmax, sinkh"):
        rescoring("csls", None, 1.0)
    with pytest.raises(InputError, match=r"^temperature: -1 is not possible"):
        rescoring("dsl", None, -1)
    with pytest.raises(InputError, match=r"^k: 26 is not possible; accepted: 1 to 25$"):
        activation_set(BANK, CANDIDATES, 26)
