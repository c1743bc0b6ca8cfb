"""The attention that a CPU gets where there is dropout, against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from tcl.models import attention
from tcl.models.attention import attend

R, HEADS, L, N, H = 3, 2, 5, 7, 8
SEEN = torch.arange(N) < torch.tensor([7, 4, 1])[:, None]


@pytest.mark.parametrize(
    "mask",
    [None, SEEN[:, None, None], torch.ones(L, N, dtype=torch.bool).tril()],
    ids=["no mask", "padding", "causal"],
)
def test_with_dropout_a_cpu_attends_as_torch_does(mask, monkeypatch):
    """Dropout itself drops nothing here: what is left is the arithmetic around it, and its gradients."""
    kept = []
    monkeypatch.setattr(attention, "drop", lambda weights, p: kept.append(p) or weights)
    torch.manual_seed(0)
    inputs = [torch.randn(R, HEADS, length, H, requires_grad=True) for length in (L, N, N)]
    found, expected = attend(*inputs, mask, 0.1), F.scaled_dot_product_attention(*inputs, mask)
    assert kept == [0.1], "the branch with dropout"
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(found)
    gradients = [torch.autograd.grad(output, inputs, upstream) for output in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_dropout_is_of_the_weights_and_keeps_their_mean():
    torch.manual_seed(0)
    queries, keys, values = torch.zeros(1, 1, 2000, 1), torch.zeros(1, 1, 4, 1), torch.ones(1, 1, 4, 1)
    found = attend(queries, keys, values, None, 0.25).flatten()
    assert set((found * 3).round().int().tolist()) == {0, 1, 2, 3, 4}  # how many of four equal weights are left
    torch.testing.assert_close(found * 3, (found * 3).round())
    assert abs(found.mean().item() - 1) < 0.03  # over 4 standard deviations
