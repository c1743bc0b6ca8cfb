"""Masking for MLM (section 3 of the design): 15 % of the tokens, of these 80 % [MASK], 10 % random, 10 % kept.

It runs where batches are made, on the CPU: the number of masked tokens M is a shape, and on a GPU learning it would
stall the device in every step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class MaskedText:
    """Texts with tokens masked, and where and what they were."""

    ids: Tensor
    """[B, L] int64."""
    positions: Tensor
    """[M] int64, flat index b * L + l, ascending."""
    labels: Tensor
    """[M] int64, the tokens that were there."""


def mask_tokens(
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    probability: float,
    mask_id: int,
    vocab_size: int,
    generator: torch.Generator,
) -> MaskedText:
    """Mask each token but [CLS] (column 0) and padding with `probability` (0 to 1). Ids and mask are [B, L]."""
    chosen = torch.rand(input_ids.shape, generator=generator) < probability
    chosen &= attention_mask.bool()
    chosen[:, 0] = False
    fate = torch.rand(input_ids.shape, generator=generator)
    random_ids = torch.randint(vocab_size, input_ids.shape, generator=generator)

    masked_ids = input_ids.masked_fill(chosen & (fate < 0.8), mask_id)
    masked_ids = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random_ids, masked_ids)
    positions = chosen.flatten().nonzero().flatten()
    return MaskedText(masked_ids, positions, input_ids.flatten()[positions])
