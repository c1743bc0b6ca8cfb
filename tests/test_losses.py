"""Each loss against a slow version written from its formula, one term at a time."""

import math

import pytest
import torch
from torch.nn import functional as F

from tcl.config import ObjectiveConfig
from tcl.losses.cma import cross_modal_alignment, soft_targets
from tcl.losses.imc import intra_modal_contrast
from tcl.losses.itm import LEFT_OUT, draw_negatives, image_text_matching, matching_labels, negative_weights
from tcl.losses.lmi import local_mutual_information, pool_regions
from tcl.losses.mlm import masked_language_modelling
from tcl.models.tcl import Losses


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def cross_entropy_by_hand(logits: list[float], targets: list[float]) -> float:
    total = sum(math.exp(x) for x in logits)
    return -sum(t * math.log(math.exp(x) / total) for x, t in zip(logits, targets, strict=True))


def test_cma_with_soft_targets():
    B, C, alpha = 3, 7, 0.4
    logits, teacher = torch.randn(B, C), torch.randn(B, C)
    expected = 0.0
    for b in range(B):
        total = sum(math.exp(x) for x in teacher[b].tolist())
        y = [alpha * math.exp(x) / total + (1 - alpha) * (c == b) for c, x in enumerate(teacher[b].tolist())]
        expected += cross_entropy_by_hand(logits[b].tolist(), y) / B
    assert cross_modal_alignment(logits, soft_targets(teacher, alpha)).item() == pytest.approx(expected, rel=1e-5)


def test_cma_without_targets_is_alpha_zero():
    logits, teacher = torch.randn(4, 9), torch.randn(4, 9)
    hard = cross_modal_alignment(logits, None)
    assert hard.item() == pytest.approx(cross_modal_alignment(logits, soft_targets(teacher, 0.0)).item(), rel=1e-6)


def test_imc():
    logits = torch.randn(4, 9)
    expected = sum(
        cross_entropy_by_hand(row, [float(c == b) for c in range(9)]) for b, row in enumerate(logits.tolist())
    )
    assert intra_modal_contrast(logits).item() == pytest.approx(expected / 4, rel=1e-5)


def lmi_by_hand(glob, local, temperature, mask) -> float:
    B, M = mask.shape
    s = [[[(glob[b] @ local[c, j]).item() / temperature for j in range(M)] for c in range(B)] for b in range(B)]
    per_sample = []
    for b in range(B):
        negatives = sum(math.exp(s[b][c][j]) for c in range(B) if c != b for j in range(M) if mask[c, j])
        own = [-math.log(math.exp(s[b][b][j]) / (math.exp(s[b][b][j]) + negatives)) for j in range(M) if mask[b, j]]
        if own:
            per_sample.append(sum(own) / len(own))
    return sum(per_sample) / len(per_sample)


@pytest.mark.parametrize("lengths", [[5, 5, 5, 5], [5, 1, 3, 2], [5, 0, 3, 2]])
def test_lmi(lengths):
    glob, local = unit(4, 8), unit(4, 5, 8)
    mask = torch.arange(5)[None, :] < torch.tensor(lengths)[:, None]
    ours = local_mutual_information(glob, local, torch.tensor(0.2), mask.long())
    assert ours.item() == pytest.approx(lmi_by_hand(glob, local, 0.2, mask), rel=1e-5)


def test_lmi_ignores_what_padding_holds_and_its_gradient_is_finite():
    glob, local = unit(3, 8).requires_grad_(), unit(3, 4, 8)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    other = torch.where(mask[:, :, None].bool(), local, unit(3, 4, 8))
    first = local_mutual_information(glob, local, torch.tensor(0.07), mask)
    assert first.item() == local_mutual_information(glob, other, torch.tensor(0.07), mask).item()
    first.backward()
    assert torch.isfinite(glob.grad).all()


def test_lmi_of_one_sample_has_no_negatives_and_costs_nothing():
    assert local_mutual_information(unit(1, 8), unit(1, 4, 8), torch.tensor(0.07)).item() == 0


def test_lmi_memory_grows_with_B_squared_M():
    """No tensor of the computation, saved for backward or not, has more than B * B * M elements."""
    B, M, D = 16, 8, 4
    largest = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: largest.append(t.numel()) or t, lambda t: t):
        local_mutual_information(unit(B, D).requires_grad_(), unit(B, M, D), torch.tensor(0.1))
    assert max(largest) <= B * B * M


def test_pool_regions_averages_cells_in_reading_order():
    patches = torch.arange(36.0).reshape(1, 36, 1)
    cells = pool_regions(patches, (6, 6), 3).flatten().tolist()
    assert cells == [(i + i + 1 + i + 6 + i + 7) / 4 for i in (0, 2, 4, 12, 14, 16, 24, 26, 28)]


@pytest.mark.parametrize("grid", [(14, 14), (24, 24), (7, 10)])
def test_pool_regions_gives_four_by_four_whatever_the_grid(grid):
    assert pool_regions(torch.randn(2, grid[0] * grid[1], 5), grid, 4).shape == (2, 16, 5)


def test_negative_weights_are_a_softmax_over_the_allowed():
    logits = torch.randn(5, 5)
    allowed = torch.rand(5, 5) < 0.6
    allowed[0] = True
    weights = negative_weights(logits, allowed)
    for b in range(5):
        total = sum(math.exp(logits[b, c]) for c in range(5) if allowed[b, c])
        for c in range(5):
            expected = math.exp(logits[b, c]) / total if allowed[b, c] else 0
            assert weights[b, c].item() == pytest.approx(expected, rel=1e-5)


def test_negative_weights_survive_a_dominant_positive():
    """exp(-1000) is 0 in fp32: a softmax taken before masking would leave nothing to draw."""
    logits = torch.diag(torch.full((4,), 1000.0))
    weights = negative_weights(logits, ~torch.eye(4, dtype=torch.bool))
    torch.testing.assert_close(weights, (1 - torch.eye(4)) / 3)


def test_negative_weights_are_uniform_where_all_logits_underflow():
    allowed = torch.tensor([[False, True, True], [True, False, False], [False, False, False]])
    weights = negative_weights(torch.full((3, 3), -torch.inf), allowed)
    assert weights.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_draw_negatives_follows_the_weights():
    weights = torch.tensor([[0.0, 0.2, 0.8], [0.5, 0.0, 0.5]])
    draws = torch.stack([draw_negatives(weights)[0] for _ in range(4000)])
    for row, expected in enumerate(weights):
        share = torch.bincount(draws[:, row], minlength=3) / 4000
        assert (share - expected).abs().max() < 5 * math.sqrt(0.25 / 4000)
        assert share[expected == 0].sum() == 0


def test_a_row_without_allowed_negatives_is_left_out_of_itm():
    index, valid = draw_negatives(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert (index[0].item(), valid.tolist()) == (1, [True, False])
    labels = matching_labels(2, valid, torch.tensor([True, True]))
    assert labels.tolist() == [1, 1, 0, LEFT_OUT, 0, 0]
    logits = torch.randn(6, 2)
    loss, accuracy = image_text_matching(logits, labels)
    counted = [0, 1, 2, 4, 5]
    expected = sum(cross_entropy_by_hand(logits[i].tolist(), [float(labels[i] == c) for c in (0, 1)]) for i in counted)
    assert loss.item() == pytest.approx(expected / 5, rel=1e-5)
    right = sum((logits[i].argmax() == labels[i]).item() for i in counted)
    assert accuracy.item() == pytest.approx(right / 5)


def test_mlm_mixes_labels_and_teacher():
    M, V, alpha = 4, 6, 0.3
    logits, labels, teacher = torch.randn(M, V), torch.tensor([0, 5, 2, 2]), torch.randn(M, V).softmax(-1)
    expected = 0.0
    for m in range(M):
        hard = cross_entropy_by_hand(logits[m].tolist(), [float(v == labels[m]) for v in range(V)])
        soft = cross_entropy_by_hand(logits[m].tolist(), teacher[m].tolist())
        expected += ((1 - alpha) * hard + alpha * soft) / M
    assert masked_language_modelling(logits, labels, teacher, alpha).item() == pytest.approx(expected, rel=1e-5)


def test_mlm_without_masked_positions_costs_zero_and_has_a_gradient():
    logits = torch.randn(0, 6, requires_grad=True)
    loss = masked_language_modelling(logits, torch.zeros(0, dtype=torch.long), torch.zeros(0, 6), 0.4)
    loss.backward()
    assert loss.item() == 0


def test_total_weighs_each_loss():
    values = {
        "i2t": 1.0,
        "t2i": 2.0,
        "imc_image": 3.0,
        "imc_text": 4.0,
        "lmi_image": 5.0,
        "lmi_text": 6.0,
        "itm": 7.0,
        "mlm": 8.0,
    }
    losses = Losses(**{name: torch.tensor(value) for name, value in values.items()})
    weights = ObjectiveConfig(cma_weight=2, imc_weight=3, lmi_weight=5, itm_weight=7, mlm_weight=11)
    expected = (2 * (1 + 2) + 3 * (3 + 4) + 5 * (5 + 6)) / 6 + 7 * 7 + 11 * 8
    assert losses.total(weights).item() == pytest.approx(expected)
