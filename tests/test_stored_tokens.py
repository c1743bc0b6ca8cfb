"""Tokens in fp16 and int8: how far they are from what was stored, and what cannot be."""

import pytest
import torch

from tcl.data.tokens.stored_tokens import restore_tokens, store_tokens
from tcl.errors import InputError


def test_int8_is_off_by_half_a_step_of_each_token_at_most():
    sizes = torch.tensor([1e-20, 1e-3, 1.0, 300.0])
    tokens = torch.randn(5, 4, 32, generator=torch.Generator().manual_seed(0)) * sizes[:, None]
    stored = store_tokens(tokens, "int8")
    assert stored.values.dtype == torch.int8 and stored.scales.shape == (5, 4)
    for image in range(5):
        for token in range(4):
            exact = tokens[image, token].double()
            step = exact.abs().max() / 127
            restored = restore_tokens(stored)[image, token].double()
            assert (restored - exact).abs().max() <= step * 0.5001
            assert restored.abs().max() == pytest.approx(exact.abs().max().item(), rel=1e-6)


def test_fp16_is_torchs_own():
    tokens = torch.randn(2, 3, 4)
    stored = store_tokens(tokens, "fp16")
    assert stored.scales is None and torch.equal(restore_tokens(stored), tokens.half().float())


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_a_token_of_zeros_stays_one(storage):
    assert not restore_tokens(store_tokens(torch.zeros(1, 2, 8), storage)).any()


@pytest.mark.parametrize(
    ("storage", "value", "said"),
    [
        ("fp16", 7e4, "70000.0"),
        ("fp16", float("nan"), "nan"),
        ("int8", float("inf"), "inf"),
        ("int8", -float("nan"), "nan"),
    ],
)
def test_what_cannot_be_stored(storage, value, said):
    tokens = torch.zeros(1, 2, 4)
    tokens[0, 1, 2] = value
    with pytest.raises(InputError, match=rf"^tokens: {said} cannot be stored as {storage}; finite values of at most "):
        store_tokens(tokens, storage)
