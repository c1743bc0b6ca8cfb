"""Embeddings of texts, in passes that hold about equally long ones: little padding, and memory is bounded."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from tqdm import tqdm

from tcl.shown import QUIET_SECONDS


@torch.no_grad()
def embed_texts(
    embed: Callable[[Tensor, Tensor], Tensor],
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    pass_tokens: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
    no_bar: bool | None = None,
) -> Tensor:
    """Ids and mask [T, L] of T >= 1 texts -> fp32 [T, embed_dim], rows of length 1, on the host.

    embed: ids and mask [R, L] -> such rows [R, embed_dim], on `device`. no_bar: None where nobody watches, as tqdm's
    `disable`.
    """
    lengths = attention_mask.sum(dim=1)
    features = None
    passes = list(split_by_tokens(lengths.argsort(stable=True), lengths, pass_tokens))
    for texts in tqdm(passes, desc="texts", unit="pass", leave=False, delay=QUIET_SECONDS, disable=no_bar):
        longest = int(lengths[texts].max())
        ids, mask = (tensor[texts, :longest].to(device) for tensor in (input_ids, attention_mask))
        with autocast():
            embedded = embed(ids, mask).cpu()
        if features is None:
            features = torch.empty(len(input_ids), embedded.shape[1])
        features[texts.cpu()] = embedded
    return features


def split_by_tokens(order: Tensor, lengths: Tensor, pass_tokens: int) -> Iterator[Tensor]:
    """Cut `order`, indices by ascending length, into pieces that hold at most pass_tokens when padded, or one text."""
    ordered = lengths[order].tolist()
    start = 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or (end + 1 - start) * ordered[end] > pass_tokens:
            yield order[start:end]
            start = end
