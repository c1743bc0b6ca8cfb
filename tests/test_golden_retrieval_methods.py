"""Parity with published re-scoring and circle loss; HCQ has `tests/test_golden_hcq.py`.

Any files of the same form work, in the folder that TCL_GOLDEN_RETRIEVAL_METHODS_DIR names.
"""

import re
from collections.abc import Iterator

import pytest
import torch
from golden_retrieval import close, expected_keys, read
from test_golden_hcq import GOLDEN as HCQ
from test_golden_hcq import results
from torch import Tensor
from torch.nn import functional as F

from tcl.losses.circle import circle_loss
from tcl.losses.dual_softmax import dual_softmax_logits, dual_softmax_loss
from tcl.search.hubness import hubness, log_sums, sinkhorn_potentials
from tcl.search.rescorings import activation_set, dual_softmax, less, qb_norm, stacked_sinkhorn

RESCORING, CONFIG, _ = read("rescoring")
BANK, QUERIES, LOGIT_SCALE = RESCORING["in.bank"], RESCORING["in.t2i"], CONFIG["logit_scale"]
CIRCLE, CIRCLE_CONFIG, _ = read("circle")
LABELS, EDGE = CIRCLE["in.labels"], CIRCLE_CONFIG["edge"]


def cases(pattern: str) -> Iterator[tuple[str, ...]]:
    """What the groups of `pattern` matched in the names of outputs, each once."""
    return dict.fromkeys(found.groups() for key in RESCORING if (found := re.match(pattern, key)))


def parametrize(names: str, pattern: str):
    found = list(cases(pattern))
    assert found, pattern
    return pytest.mark.parametrize(names, [one if len(one) > 1 else one[0] for one in found])


def candidates(similarities: Tensor) -> Tensor:
    """Unit rows whose cosines with the rows of `similarities` are the numbers in them."""
    return torch.eye(similarities.shape[1])


def close_but_for_a_constant(ours: Tensor, expected: Tensor) -> None:
    """POT's costs are 1 - s: all hubness, and all scores, are higher by the same."""
    close(ours - ours.mean(), expected - expected.mean())


@parametrize("temperature", r"out\.inverted_softmax\.tau_(.+)\.hubness")
def test_inverted_softmax(temperature):
    found = hubness(BANK, candidates(BANK), "inverted_softmax", float(temperature))
    close(found, RESCORING[f"out.inverted_softmax.tau_{temperature}.hubness"])
    close(less(found)(QUERIES.clone()), RESCORING[f"out.inverted_softmax.tau_{temperature}.scores"])


@parametrize("temperature, iterations", r"out\.sinkhorn_bank\.tau_(.+)\.iterations_(\d+)\.hubness")
def test_sinkhorn_potentials(temperature, iterations):
    found = hubness(BANK, candidates(BANK), "sinkhorn", float(temperature), int(iterations))
    expected = f"out.sinkhorn_bank.tau_{temperature}.iterations_{iterations}"
    close_but_for_a_constant(found, RESCORING[f"{expected}.hubness"])
    close_but_for_a_constant(less(found)(QUERIES.clone()), RESCORING[f"{expected}.scores"])


@parametrize("temperature, direction", r"out\.sinkhorn_all\.tau_(.+)\.(t2i|i2t)")
def test_sinkhorn_of_the_queries_themselves(temperature, direction):
    of_queries, of_candidates = sinkhorn_potentials(QUERIES, candidates(QUERIES), float(temperature), iterations=1000)
    found = less(of_candidates)(QUERIES.clone()) if direction == "t2i" else less(of_queries)(QUERIES.T.clone())
    close_but_for_a_constant(found, RESCORING[f"out.sinkhorn_all.tau_{temperature}.{direction}"])


@parametrize("temperature, iterations", r"out\.sinkhorn_single\.tau_(.+)\.iterations_(\d+)\.log_scores")
def test_sinkhorn_of_one_query_on_the_bank(temperature, iterations):
    found = stacked_sinkhorn(QUERIES, BANK, candidates(BANK), float(temperature), int(iterations))
    close(found, RESCORING[f"out.sinkhorn_single.tau_{temperature}.iterations_{iterations}.log_scores"])


@parametrize("temperature", r"out\.dsl_single\.tau_(.+)")
def test_dual_softmax_of_one_query_on_the_bank(temperature):
    sums = log_sums(candidates(BANK), BANK, float(temperature))
    found = dual_softmax(QUERIES, sums, float(temperature), stacked=True)
    close(found, RESCORING[f"out.dsl_single.tau_{temperature}"])


@parametrize("direction, temperature", r"out\.dsl_query\.(t2i|i2t)\.temp_(.+)")
def test_dual_softmax_of_the_queries_themselves(direction, temperature):
    queries = QUERIES if direction == "t2i" else QUERIES.T
    sums = log_sums(candidates(queries), queries, float(temperature))
    found = len(queries) * dual_softmax(queries, sums, float(temperature), stacked=False)
    close(found, RESCORING[f"out.dsl_query.{direction}.temp_{temperature}"])


@parametrize("beta, k", r"out\.qbnorm\.beta_(.+)\.k_(\d+)")
def test_dynamic_inverted_softmax(beta, k):
    temperature = 1 / float(beta)
    sums = log_sums(candidates(BANK), BANK, temperature)
    active = activation_set(BANK, candidates(BANK), int(k))
    found = qb_norm(sums, active, temperature)(QUERIES)
    normalised = active[QUERIES.argmax(dim=1)]
    assert normalised.any()
    expected = RESCORING[f"out.qbnorm.beta_{beta}.k_{k}"]
    close(torch.where(normalised[:, None], found.exp(), found), expected)


@parametrize("direction, temperature", r"out\.dsl\.(t2i|i2t)\.temp_(.+)\.losses")
def test_dual_softmax_loss(direction, temperature):
    expected = f"out.dsl.{direction}.temp_{temperature}"
    logits = (LOGIT_SCALE * RESCORING["in.square"]).requires_grad_()
    rows = logits if direction == "t2i" else logits.T
    losses = dual_softmax_loss(rows, torch.eye(len(rows)), float(temperature))
    losses.mean().backward()
    close(dual_softmax_logits(rows, float(temperature)).detach(), RESCORING[f"{expected}.rescored"])
    close(losses.detach(), RESCORING[f"{expected}.losses"])
    close(logits.grad, RESCORING[f"{expected}.grad_logits"])


def circle_cases(kind: str):
    found = [re.fullmatch(rf"out\.{kind}\.m_(.+)\.gamma_(.+)\.loss", key) for key in CIRCLE]
    settings = [(float(one[1]), float(one[2]), f"out.{kind}.m_{one[1]}.gamma_{one[2]}") for one in found if one]
    assert settings, kind
    return pytest.mark.parametrize(("margin", "scale", "expected"), settings)


def features(name: str) -> Tensor:
    return CIRCLE[f"in.{name}"].clone().requires_grad_()


def cosines(one: Tensor, other: Tensor) -> Tensor:
    return F.normalize(one, dim=1) @ F.normalize(other, dim=1).T


@circle_cases("class")
def test_circle_loss_with_labels_of_classes(margin, scale, expected):
    samples, weights = features("features"), features("class_weights")
    similarities = cosines(samples, weights)
    right = F.one_hot(LABELS, len(weights)).bool()
    losses = circle_loss(similarities, right, ~right, margin, scale)
    losses.mean().backward()
    close(similarities.detach(), CIRCLE["out.class.cosines"])
    close(losses.detach(), CIRCLE[f"{expected}.losses"])
    close(losses.mean().detach(), CIRCLE[f"{expected}.loss"])
    close(samples.grad, CIRCLE[f"{expected}.grad_features"])
    close(weights.grad, CIRCLE[f"{expected}.grad_weights"])


@circle_cases("pooled")
def test_circle_loss_of_all_pairs_of_a_batch_in_one_formula(margin, scale, expected):
    samples = features("features")
    each_once = torch.ones(len(samples), len(samples), dtype=torch.bool).triu(diagonal=1)
    similarities = cosines(samples, samples)[each_once]
    right = (LABELS[:, None] == LABELS)[each_once]
    similarities.retain_grad()
    (loss,) = circle_loss(similarities[None], right[None], ~right[None], margin, scale)
    loss.backward()
    close(loss.detach(), CIRCLE[f"{expected}.loss"])
    close(similarities.detach()[right], CIRCLE["out.pooled.sp"])
    close(similarities.detach()[~right], CIRCLE["out.pooled.sn"])
    close(similarities.grad[right], CIRCLE[f"{expected}.grad_sp"])
    close(similarities.grad[~right], CIRCLE[f"{expected}.grad_sn"])
    close(samples.grad, CIRCLE[f"{expected}.grad_features"])


@pytest.mark.parametrize("kind", ["anchor", "cross"])
def test_circle_loss_of_each_anchor(kind):
    """Among the others of its batch, or the candidates of the other modality, its own pair included."""
    for margin, scale, expected in circle_cases(kind).args[1]:
        samples, others = features("features"), features("other")
        similarities = cosines(samples, samples if kind == "anchor" else others)
        right = LABELS[:, None] == LABELS
        wrong = ~right
        if kind == "anchor":
            right = right & ~torch.eye(len(samples), dtype=torch.bool)
        losses = circle_loss(similarities, right, wrong, margin, scale)
        loss = losses.sum() / (losses > 0).sum()  # as pytorch-metric-learning has it
        loss.backward()
        close(losses.detach(), CIRCLE[f"{expected}.losses"])
        close(loss.detach(), CIRCLE[f"{expected}.loss"])
        close(samples.grad, CIRCLE[f"{expected}.grad_features"])
        if kind == "cross":
            close(others.grad, CIRCLE[f"{expected}.grad_other"])


@pytest.mark.parametrize("case", sorted({key.split(".")[2] for key in CIRCLE if key.startswith("out.edge.")}))
def test_circle_loss_at_its_edges(case):
    """Exponents that overflow e^x, pairs below -m, no right pair, no wrong one."""
    both = [CIRCLE[f"in.edge.{case}.{side}"].clone().requires_grad_() for side in ("sp", "sn")]
    right = torch.arange(sum(map(len, both))) < len(both[0])
    (loss,) = circle_loss(torch.cat(both)[None], right[None], ~right[None], EDGE["m"], EDGE["gamma"])
    loss.backward()
    close(loss.detach(), CIRCLE[f"out.edge.{case}.loss"])
    for side, values in zip(("sp", "sn"), both, strict=True):
        if len(values):
            close(values.grad, CIRCLE[f"out.edge.{case}.grad_{side}"])


COMPARED = {
    "rescoring": r"inverted_softmax\.tau_[^.]+(\.\d+)?\.(hubness|scores)|sinkhorn_bank\..*\.(hubness|scores)"
    r"|sinkhorn_all\..*\.(t2i|i2t)|sinkhorn_single\..*\.log_scores|dsl_single\.tau_.+|dsl_query\.(t2i|i2t)\.temp_.+"
    r"|qbnorm\.beta_.+\.k_\d+|dsl\.(t2i|i2t)\.temp_.+\.(losses|grad_logits|rescored)",
    "circle": r"class\.cosines|class\..*\.(loss|losses|grad_features|grad_weights)|pooled\.(sp|sn)"
    r"|pooled\..*\.(loss|grad_sp|grad_sn|grad_features)|anchor\..*\.(loss|losses|grad_features)"
    r"|cross\..*\.(loss|losses|grad_features|grad_other)|edge\.[^.]+\.(loss|grad_sp|grad_sn)",
}
"""What the tests above compare, after `out.`."""


@pytest.mark.parametrize("name", COMPARED)
def test_every_result_is_compared(name):
    recorded = {"rescoring": RESCORING, "circle": CIRCLE}[name]
    assert [key for key in expected_keys(recorded) if not re.fullmatch(rf"out\.({COMPARED[name]})", key)] == []


def test_every_result_of_hcq_is_compared():
    """By test_golden_hcq.py."""
    assert expected_keys(HCQ) - results().keys() == set()
