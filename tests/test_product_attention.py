"""Attention by products of matrices against torch's own, its gradients too, in blocks of any size."""

import copy

import pytest
import torch
from timm.layers import Attention
from torch.nn import functional as F

from tcl.encoders import product_attention as module
from tcl.encoders.dropout import dropout as dropout_of
from tcl.encoders.product_attention import ProductAttention, product_attention, use_product_attention

R, HEADS, L, N, H = 5, 2, 3, 7, 8
SEEN = torch.arange(N) < torch.tensor([7, 4, 1, 6, 2])[:, None]
MASKS = {
    "no mask": None,
    "padding": SEEN[:, None, None],
    "one for all": torch.ones(L, N, dtype=torch.bool).tril(),
    "by row and query": torch.rand(R, 1, L, N, generator=torch.Generator().manual_seed(1)).gt(0.4)
    | SEEN[:, None, None],
}


def inputs(dtype: torch.dtype = torch.float32, rows: int = R) -> list[torch.Tensor]:
    """Queries, keys and values as a projection gives them: transposed views."""
    torch.manual_seed(0)
    shapes = [(rows, length, HEADS, H) for length in (L, N, N)]
    return [torch.randn(shape).to(dtype).transpose(1, 2).requires_grad_() for shape in shapes]


def with_gradients(attended: torch.Tensor, given: list[torch.Tensor]) -> list[torch.Tensor]:
    upstream = torch.randn(attended.shape, generator=torch.Generator().manual_seed(2)).to(attended.dtype)
    return [attended, *torch.autograd.grad(attended, given, upstream)]


@pytest.mark.parametrize("block", [1, 2 * HEADS * L * N, 10**6], ids=["a row", "two rows", "all"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_it_is_torchs_attention(mask, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    given = inputs()
    found = with_gradients(product_attention(*given, mask), given)
    expected = with_gradients(F.scaled_dot_product_attention(*given, mask), given)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_in_bf16_it_is_as_close_to_the_truth_as_products_are():
    given = inputs(torch.bfloat16)
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    found = with_gradients(product_attention(*given), given)
    expected = with_gradients(F.scaled_dot_product_attention(*exact), exact)
    for ours, truth in zip(found, expected, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours.double() - truth).norm() / truth.norm() < 0.01


def test_under_autocast_it_is_in_bf16_whatever_it_is_given():
    queries, keys, values = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        found = product_attention(queries, keys.bfloat16(), values)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(
        found.float(), F.scaled_dot_product_attention(queries, keys, values), rtol=0.05, atol=0.02
    )


def test_a_query_that_sees_nothing_looks_at_everything_alike():
    queries, keys, values = inputs()
    found = product_attention(queries, keys, values, torch.zeros(R, 1, 1, N, dtype=torch.bool))
    torch.testing.assert_close(found, values.mean(dim=2, keepdim=True).expand_as(found))


@pytest.mark.parametrize("dropout", [0.3, 1.0])
def test_what_dropout_leaves_has_the_gradients_of_what_was_left(dropout, monkeypatch):
    """The same weights as in the forward pass are dropped in the backward pass, block by block."""
    monkeypatch.setattr(module, "BLOCK", HEADS * L * N)
    given = inputs()
    torch.manual_seed(3)
    found = with_gradients(product_attention(*given, dropout=dropout), given)
    torch.manual_seed(3)
    weights = (given[0] @ given[1].transpose(-1, -2) / H**0.5).softmax(dim=-1)
    expected = with_gradients(dropout_of(weights, dropout) @ given[2], given)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_backward_pass_keeps_nothing_of_pairs_of_tokens():
    kept = []
    given = inputs(rows=64)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        product_attention(*given)
    assert sum(kept) <= 2 * sum(tensor.numel() for tensor in given)
    assert all(count in {tensor.numel() for tensor in given} for count in kept)


@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "norm_layer": torch.nn.LayerNorm}, {"attn_drop": 0.2}])
def test_a_block_of_timm_gives_the_same_with_it(options):
    torch.manual_seed(0)
    plain = Attention(16, num_heads=2, **options)
    ours = torch.nn.Sequential(copy.deepcopy(plain))
    use_product_attention(ours)
    assert type(ours[0]) is ProductAttention and ours[0].state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(3, 9, 16)
    torch.testing.assert_close(ours(x), plain(x)) if not options.get("attn_drop") else None
    for mode in (False, True):
        plain.train(mode), ours.train(mode)
        with torch.autocast("cpu", torch.bfloat16):
            torch.manual_seed(1)
            found = ours(x)
            expected = plain(x)
        if not (mode and options.get("attn_drop")):
            torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)
    mask = torch.ones(3, 1, 1, 9, dtype=torch.bool)
    mask[..., 5:] = False
    plain.eval(), ours.eval()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(ours[0](x, mask), plain(x, mask), rtol=0.05, atol=0.01)
