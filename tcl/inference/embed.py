"""Embeddings: unit vectors of images and texts in the space that they share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from tcl.config.retrieval_eval import EvalConfig
from tcl.data.tokens.token_file import TokenFile
from tcl.errors import InputError
from tcl.inference.hardware import Hardware
from tcl.inference.images import ImageLike
from tcl.search.hubness import Method, hubness
from tcl.search.text_passes import embed_texts as embed_in_passes

if TYPE_CHECKING:
    from tcl.inference.matcher import Matcher

PASS_TOKENS = EvalConfig.pass_tokens
"""Text tokens in one forward pass, padding included: bounds its memory."""
ROOM_FOR_TOKENS = 2**30
"""Bytes of image tokens that a corpus keeps: of 1,300 images of ViT-B at 256 pixels."""


@dataclass(frozen=True)
class Embedded:
    """Images or texts with their embeddings: a corpus to search again and again."""

    kind: Literal["images", "texts"]
    items: list[ImageLike] | list[str]
    features: np.ndarray
    """float32 [n, embed_dim], rows of length 1."""
    tokens: list[Tensor] = field(default_factory=list)
    """[1 + patches, width] of the first images, as many as there was room for: these need not be encoded again."""
    hubness: np.ndarray | None = None
    """float32 [n], by which the cosine of each item with any query is lowered; None: not balanced."""
    tokens_of: "Matcher | None" = None
    """Whose `tokens` these are; None: there are none."""
    stored: TokenFile | None = None
    """Tokens of all images on the disk: the matcher that made them encodes none again. None: there are none."""

    def balanced(
        self, bank: "Embedded", method: Method = "inverted_softmax", *, temperature: float = 0.05, iterations: int = 5
    ) -> "Embedded":
        """This corpus, in which items near to every query of `bank` (of the other kind, such as training captions for
        a corpus of images) have lost that advantage: `tcl.search.hubness`, which names the arguments.

        A search costs a subtraction for each item more. InputError: a bank of the corpus's own kind, of another model,
        or empty; numbers out of range.
        """
        if bank.kind == self.kind:
            raise InputError(f"bank: {bank.kind}, as the corpus; give queries, which are of the other kind")
        stored, candidates = torch.from_numpy(bank.features), torch.from_numpy(self.features)
        return replace(self, hubness=hubness(stored, candidates, method, temperature, iterations).numpy())


def keep_tokens(batches: Iterable[Tensor], room: int) -> list[Tensor]:
    """Batches of image tokens [b, N, width] -> those of the first images, as many as fit into `room` bytes; batches
    beyond these are not asked for."""
    kept: list[Tensor] = []
    for tokens in batches:
        fitting = tokens[: room // tokens[0].nbytes].clone()
        room -= fitting.nbytes
        kept += fitting.unbind()
        if len(fitting) < len(tokens):
            break
    return kept


def embed_texts(
    embed: Callable[[Tensor, Tensor], Tensor], input_ids: Tensor, mask: Tensor, hardware: Hardware
) -> np.ndarray:
    """Ids and mask [T, L], on the host -> float32 [T, embed_dim], rows of length 1: `embed` of them, in passes."""
    return embed_in_passes(
        embed, input_ids, mask, pass_tokens=PASS_TOKENS, device=hardware.device, autocast=hardware.autocast
    ).numpy()
