"""Which attention a CPU gets; how it is done is tested in test_product_attention.py."""

import torch
from torch.nn import functional as F

from tcl.models.attention import attend


def test_in_fp32_without_dropout_it_is_torchs_to_the_bit():
    torch.manual_seed(0)
    inputs = [torch.randn(3, 2, length, 8) for length in (5, 7, 7)]
    seen = (torch.arange(7) < torch.tensor([7, 4, 1])[:, None])[:, None, None]
    assert attend(*inputs, seen, 0.0).equal(F.scaled_dot_product_attention(*inputs, seen))


def test_dropout_is_of_the_weights_and_keeps_their_mean():
    torch.manual_seed(0)
    queries, keys, values = torch.zeros(1, 1, 2000, 1), torch.zeros(1, 1, 4, 1), torch.ones(1, 1, 4, 1)
    found = attend(queries, keys, values, None, 0.25).flatten()
    assert set((found * 3).round().int().tolist()) == {0, 1, 2, 3, 4}  # how many of four equal weights are left
    torch.testing.assert_close(found * 3, (found * 3).round())
    assert abs(found.mean().item() - 1) < 0.03  # over 4 standard deviations
