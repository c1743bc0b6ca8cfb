"""The captions of a batch as tokens, and the same with some of them masked."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from tcl.data.texts.masking import mask_tokens
from tcl.data.texts.text_tokens import Texts
from tcl.data.texts.tokenize import tokenize


def masked_texts(
    tokenizer: PreTrainedTokenizerBase, captions: Sequence[str], max_tokens: int, probability: float, seed: int
) -> Texts:
    """B captions, cleaned, cut to max_tokens; each token masked with `probability`, 0 to 1, as `seed` says. 0: no
    masked texts are made."""
    ids, mask = tokenize(tokenizer, captions, max_tokens)
    if probability == 0:
        return Texts(ids, mask)
    masked = mask_tokens(
        ids,
        mask,
        probability=probability,
        mask_id=tokenizer.mask_token_id,
        vocab_size=len(tokenizer),
        generator=torch.Generator().manual_seed(seed),
    )
    return Texts(ids, mask, masked)
