"""Where in an image a text is: a map of the image's patches for each text, by Grad-CAM."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tcl.encoders.watched_block import check_watchable
from tcl.errors import InputError
from tcl.models.grad_cam import layer_to_watch, match_maps, similarity_maps

Mode = Literal["itm", "itc"]
"""itm: what the text's tokens look at in the fusion encoder, for the ITM logit; itc: what the image's [CLS] looks at in
the ViT, for the similarity. As published, itm finds more."""


@dataclass(frozen=True)
class Watched:
    """Whose attention is looked at."""

    mode: Mode
    layer: int
    """Of the fusion encoder, or block of the ViT, from 0."""


def watched(student: nn.Module, mode: Mode, layer: int | None, section: str = "") -> Watched:
    """What to look at in a `student` of image-text pairs; layer None: the third of six fusion layers, the ninth of
    twelve blocks, as published, or their like.

    section: of the options mode and layer, as messages name them. InputError: no such layer, an unknown mode, encoders
    that the mode cannot look into.
    """
    if mode not in ("itm", "itc"):
        raise InputError(f"{section}mode: {mode!r} is not possible; accepted: itm, itc")
    if mode == "itc":
        encoder = student.encoders.image_encoder
        check_watchable(encoder, f"{section}mode", mode)
        count = len(encoder.layers)
        return Watched(mode, layer_to_watch(count, layer, 2 * count // 3, f"{section}layer", "the ViT"))
    fusion = student.encoders.fusion_encoder
    if fusion is None or not hasattr(student, "itm_head"):
        raise InputError(
            f"{section}mode: 'itm' needs a fusion encoder that matches, which this model has not; accepted: 'itc'"
        )
    count = len(fusion.layers)
    return Watched(mode, layer_to_watch(count, layer, (count - 1) // 2, f"{section}layer", "the fusion encoder"))


def text_maps(
    student: nn.Module,
    where: Watched,
    image: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_of: Tensor,
    autocast: Callable[[], AbstractContextManager],
) -> Tensor:
    """Of R texts, each about one of I images: image [I, 3, H, W], normalised; input_ids and attention_mask [R, L];
    image_of [R] (indices) -> fp32 [R, rows, columns] >= 0, in mode itm the mean over the tokens, [CLS] included.

    autocast: the context of the image encoder's pass in mode itm; the rest is fp32. `student` is in eval mode.
    """
    encoders = student.encoders
    texts = input_ids, attention_mask, image_of
    if where.mode == "itc":
        maps = similarity_maps(encoders, student.temperature, image, *texts, block=where.layer)
    else:
        with torch.no_grad(), autocast():
            tokens = encoders.image_encoder(image)
        of_tokens = match_maps(encoders, student.itm_head, tokens.float(), *texts, layer=where.layer)
        # As published but for its divisor, the length of the longest text of the batch: no box depends on it.
        maps = of_tokens.sum(dim=1) / attention_mask.sum(dim=1)[:, None]
    return maps.unflatten(1, encoders.image_encoder.grid)
