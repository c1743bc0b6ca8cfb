"""Second stage of retrieval from stored image tokens: what an image costs is reading them, keys and values.

Images that are matched with as many texts go through the fusion encoder together, the texts of each one after the
other, so that they share its keys and values without a copy. Tokens are restored, and keys and values made, of the
images at hand alone.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from tcl.data.tokens.stored_tokens import StoredTokens, restore_tokens
from tcl.models.fusion_encoder import FusionEncoder
from tcl.search.match_pairs import TextStates, itm_logits


class TokenStore(Protocol):
    """Tokens of images by their number, such as a `tcl.data.tokens.token_file.TokenFile`."""

    def read(self, images: Tensor) -> StoredTokens:
        """Of images [R], int64 on the host: [R, N, image width]."""


@torch.no_grad()
def match_stored(
    fusion: FusionEncoder,
    itm_head: nn.Module,
    store: TokenStore,
    states: TextStates,
    images: Tensor,
    texts: Tensor,
    *,
    pass_tokens: int,
    autocast: Callable[[], AbstractContextManager],
) -> Tensor:
    """ITM logits [P, 2], fp32, on the device of `states`, of pairs image by image: images of `store` [P] and texts of
    `states` [P], int64. Column 1 is what a `tcl.search.pair_scores.MatchPairs` gives.

    The store holds what `FusionEncoder.compress` gave. pass_tokens: of images and texts in one pass, padding included.
    """
    device, images, texts = states.states.device, images.cpu(), texts.to(states.states.device)
    logits = torch.empty(len(images), 2, device=device)
    tokens_of_image = store.read(images[:1]).values.shape[1]
    for pairs in split_into_passes(images, states.lengths[texts].cpu(), tokens_of_image, pass_tokens):
        some = pairs.flatten().to(device)
        stored = store.read(images[pairs[:, 0]])
        with autocast():
            tokens = restore_tokens(_to(stored, device), _dtype(device))
            read, mask = states.get(texts[some])
            logits[some] = itm_logits(itm_head, fusion.match(read, mask, fusion.keys_values(tokens)))
    return logits


def split_into_passes(images: Tensor, lengths: Tensor, image_tokens: int, pass_tokens: int) -> Iterator[Tensor]:
    """Places of pairs [P], image by image, in passes [I, n]: n pairs of each of I images, so that these are of about
    pass_tokens tokens, or one pair.

    lengths [P]: of the texts, in tokens. An image with many texts is in several passes.
    """
    longest = int(lengths.max())
    most = max(1, (pass_tokens - image_tokens) // longest)
    _, of_image = images.unique_consecutive(return_counts=True)
    pieces = [piece for own in torch.arange(len(images)).split(of_image.tolist()) for piece in own.split(most)]
    by_size: dict[int, list[Tensor]] = {}
    for piece in pieces:
        by_size.setdefault(len(piece), []).append(piece)
    for size, alike in by_size.items():
        together = max(1, pass_tokens // (image_tokens + size * longest))
        stacked = torch.stack(alike)
        # Those with texts of about the same length together: little padding.
        yield from stacked[lengths[stacked].amax(dim=1).argsort(stable=True)].split(together)


def _dtype(device: torch.device) -> torch.dtype:
    """In which the linear layers compute: tokens restored to it are not converted again by each of them."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def _to(stored: StoredTokens, device: torch.device) -> StoredTokens:
    return StoredTokens(stored.values.to(device), None if stored.scales is None else stored.scales.to(device))
