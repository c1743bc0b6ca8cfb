"""Each loss against a slow version written from its formula, one term at a time."""

import math

import pytest
import torch
from torch.nn import functional as F

from tcl.config.tcl_objective import ObjectiveConfig
from tcl.losses.cma import cross_modal_alignment, expected_candidates
from tcl.losses.contrast import CHUNK, contrast, softmax_mean, weighted_sum
from tcl.losses.imc import intra_modal_contrast
from tcl.losses.itm import LEFT_OUT, draw_negatives, image_text_matching, matching_labels, negative_weights
from tcl.losses.lmi import local_mutual_information, pool_regions
from tcl.losses.mlm import masked_language_modelling, soft_labels
from tcl.objectives.objective import weighted
from tcl.objectives.tcl import loss_weights


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def cross_entropy_by_hand(logits: list[float], targets: list[float]) -> float:
    total = sum(math.exp(x) for x in logits)
    return -sum(t * math.log(math.exp(x) / total) for x, t in zip(logits, targets, strict=True))


def test_cma_with_soft_targets():
    B, C, D, alpha, tau = 3, 7, 5, 0.4, 0.3
    features, teacher, candidates = unit(B, D), unit(B, D), unit(C, D)
    expected = 0.0
    for b in range(B):
        logits = [(features[b] @ candidate).item() / tau for candidate in candidates]
        teacher_logits = [(teacher[b] @ candidate).item() / tau for candidate in candidates]
        total = sum(math.exp(x) for x in teacher_logits)
        y = [alpha * math.exp(x) / total + (1 - alpha) * (c == b) for c, x in enumerate(teacher_logits)]
        expected += cross_entropy_by_hand(logits, y) / B
    targets = expected_candidates(teacher, candidates.split(4), candidates[:B], torch.tensor(tau), alpha)
    loss = cross_modal_alignment(features, targets, (candidates,), torch.tensor(tau))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_cma_without_soft_targets_and_imc_are_plain_cross_entropy():
    features, candidates, tau = unit(4, 5), unit(9, 5), torch.tensor(0.2)
    positives = expected_candidates(unit(4, 5), (candidates,), candidates[:4], tau, 0.0)
    expected = 0.0
    for b in range(4):
        logits = [(features[b] @ candidate / tau).item() for candidate in candidates]
        expected += cross_entropy_by_hand(logits, [float(c == b) for c in range(9)]) / 4
    for loss in (cross_modal_alignment, intra_modal_contrast):
        assert loss(features, positives, candidates.split([4, 5]), tau).item() == pytest.approx(expected, rel=1e-5)


def test_contrast_over_several_chunks_has_the_gradients_of_the_whole_matrix():
    """More candidates than are taken at a time, the last chunk not a full one."""
    B, C, D = 3, 2 * CHUNK + 5, 4
    candidates, targets = unit(C, D), torch.rand(B, C)
    targets /= targets.sum(dim=1, keepdim=True)
    found = []
    for whole in (True, False):
        torch.manual_seed(1)
        features, tau = unit(B, D).requires_grad_(), torch.tensor([0.05]).requires_grad_()
        if whole:
            loss = F.cross_entropy(features @ candidates.T / tau, targets)
        else:
            parts = candidates.split([7, C - 7])
            loss = contrast(features, weighted_sum(targets, parts), parts, tau)
        (3 * loss).backward()
        found.append((loss.detach(), features.grad, tau.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    features = unit(B, D)
    mean = softmax_mean(features, candidates.split([7, C - 7]), torch.tensor(0.05))
    by_matrix = (features @ candidates.T / 0.05).softmax(dim=1) @ candidates
    torch.testing.assert_close(mean, by_matrix, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("M", [4, 70], ids=["one block", "three blocks"])
def test_mlm_mixes_labels_and_teacher(M):
    V, alpha = 6, 0.3
    logits, labels, teacher_logits = torch.randn(M, V), torch.randint(V, (M,)), torch.randn(M, V)
    teacher = teacher_logits.softmax(-1)
    expected = 0.0
    for m in range(M):
        hard = cross_entropy_by_hand(logits[m].tolist(), [float(v == labels[m]) for v in range(V)])
        soft = cross_entropy_by_hand(logits[m].tolist(), teacher[m].tolist())
        expected += ((1 - alpha) * hard + alpha * soft) / M
    loss = masked_language_modelling(logits, labels, teacher_logits, alpha)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    hard = masked_language_modelling(logits, labels)
    assert hard.item() == pytest.approx(masked_language_modelling(logits, labels, teacher_logits, 0.0).item())
    halved = masked_language_modelling(logits, labels, teacher_logits, alpha, count=torch.tensor(2.0 * M))
    assert halved.item() == pytest.approx(expected / 2, rel=1e-5)


def test_mlm_has_the_gradient_that_autograd_finds():
    M, V = 40, 7
    labels, teacher_logits = torch.randint(V, (M,)), torch.randn(M, V)
    logits = torch.randn(M, V, dtype=torch.float64, requires_grad=True)
    targets = soft_labels(teacher_logits, labels, 0.4).double()
    right = torch.autograd.grad(-3 * (targets * logits.log_softmax(-1)).sum() / M, logits)[0]
    found = torch.autograd.grad(3 * masked_language_modelling(logits, labels, teacher_logits, 0.4), logits)[0]
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-8)


def test_mlm_without_masked_positions_costs_zero_and_has_a_gradient():
    logits, labels = torch.randn(0, 6, requires_grad=True), torch.zeros(0, dtype=torch.long)
    for teacher_logits in (None, torch.randn(0, 6)):
        loss = masked_language_modelling(logits, labels, teacher_logits, 0.4)
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
        "dsl_i2t": 9.0,
        "dsl_t2i": 10.0,
        "circle_i2t": 11.0,
        "circle_t2i": 12.0,
    }
    each = {name: torch.tensor(value) for name, value in values.items()}
    weights = {"cma": 2, "imc": 3, "lmi": 5, "itm": 7, "mlm": 11, "dsl": 13, "circle": 17}
    objective = ObjectiveConfig(**{f"{name}_weight": weight for name, weight in weights.items()})
    expected = (2 * (1 + 2) + 3 * (3 + 4) + 5 * (5 + 6)) / 6 + 7 * 7 + 11 * 8 + 13 * (9 + 10) / 2 + 17 * (11 + 12) / 2
    assert weighted(each, loss_weights(objective)).total.item() == pytest.approx(expected)
