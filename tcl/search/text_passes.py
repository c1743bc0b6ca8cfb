"""Embeddings of texts, in passes that hold about equally long ones: little padding, and memory is bounded."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from tqdm import tqdm

from tcl.models.encoders import Encoders
from tcl.shown import QUIET_SECONDS


@torch.no_grad()
def embed_texts(
    encoders: Encoders,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    pass_tokens: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
    no_bar: bool | None = None,
) -> Tensor:
    """Ids and mask [T, L] -> fp32 [T, embedding_size], rows of length 1, on the host.

    device: that of `encoders`. no_bar: None where nobody watches, as tqdm's `disable`.
    """
    lengths = attention_mask.sum(dim=1)
    features = torch.empty(len(input_ids), encoders.embedding_size)
    passes = list(split_by_tokens(lengths.argsort(stable=True), lengths, pass_tokens))
    for texts in tqdm(passes, desc="texts", unit="pass", leave=False, delay=QUIET_SECONDS, disable=no_bar):
        longest = int(lengths[texts].max())
        ids, mask = (tensor[texts, :longest].to(device) for tensor in (input_ids, attention_mask))
        with autocast():
            features[texts.cpu()] = encoders.embed_texts(encoders.text_encoder(ids, mask), mask).cpu()
    return features


def split_by_tokens(order: Tensor, lengths: Tensor, pass_tokens: int) -> Iterator[Tensor]:
    """Cut `order`, indices by ascending length, into pieces that hold at most pass_tokens when padded, or one text."""
    ordered = lengths[order].tolist()
    start = 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or (end + 1 - start) * ordered[end] > pass_tokens:
            yield order[start:end]
            start = end
