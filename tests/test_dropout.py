"""Dropout by 16 random bits an element, against what dropout is."""

import pytest
import torch

from tcl.encoders.dropout import Dropout, dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_each_element_is_dropped_with_probability_p_or_divided_by_the_rest(dtype, p):
    torch.manual_seed(0)
    x = torch.ones(999, 1001, dtype=dtype, requires_grad=True)  # an odd number of elements
    found = dropout(x, p)
    kept = found != 0
    right = torch.full_like(x, 1 / (1 - p)).detach()
    torch.testing.assert_close(found[kept].detach(), right[kept], rtol=0.01, atol=0)
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs((~kept).float().mean().item() - p) < 5 * deviation + 1e-5
    found.backward(torch.full_like(found, 2))
    assert x.grad.equal(2 * found.detach()), "what was dropped learns nothing, the rest as much more"


def test_elements_are_dropped_independently_of_their_neighbours():
    torch.manual_seed(0)
    kept = (dropout(torch.ones(100_000), 0.3) != 0).float() - 0.7
    for distance in (1, 2, 3, 4):
        correlation = (kept[:-distance] * kept[distance:]).mean().item() / 0.21
        assert abs(correlation) < 5 / len(kept) ** 0.5


def test_nothing_is_dropped_at_0_and_everything_at_1():
    x = torch.randn(10)
    assert dropout(x, 0.0).equal(x) and dropout(x, 1.0).equal(torch.zeros(10))
    assert Dropout(0.5).eval()(x).equal(x)


def test_the_draw_follows_torchs_seed():
    x = torch.ones(1000)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(Dropout(0.5)(x))
    assert draws[0].equal(draws[1]) and not draws[0].equal(draws[2])
