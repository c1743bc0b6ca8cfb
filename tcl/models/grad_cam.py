"""Grad-CAM: how much a network looks at each patch, times how much looking there raises a score (ALBEF section 5).

Of the attention probabilities A of one layer and the gradient G of the score with respect to them, A x max(G, 0) is
what a patch contributes; heads are averaged. The score is the ITM logit of "match", and A the fusion encoder's
cross-attention, or the similarity, and A the ViT's self-attention. Rows do not see each other, so one backward pass
serves them all. In fp32, and no parameter gets a gradient.
"""

import torch
from torch import Tensor, nn

from tcl.encoders.watched_block import run_from, run_to
from tcl.errors import InputError
from tcl.models.encoders import Encoders


def match_maps(
    encoders: Encoders,
    itm_head: nn.Module,
    image_tokens: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_of: Tensor,
    layer: int,
) -> Tensor:
    """What patches contribute to the ITM logit of "match", token by token, of R texts, each with one of I images.

    image_tokens [I, 1 + patches, width], input_ids and attention_mask [R, L], image_of [R] (indices), layer: 0 to
    fusion layers - 1 -> [R, L, patches] >= 0; padding contributes 0. Keys and values are computed once for each image.
    Where the fusion encoder looks at few tokens, each passes what it contributes on to the patches, in the shares in
    which it looks at them.
    """
    fusion = encoders.fusion_encoder
    mask = attention_mask.bool()[:, None, None, :]
    with torch.no_grad():
        images = fusion.image_keys_values(image_tokens)
        text = fusion.to_width(encoders.text_encoder(input_ids, attention_mask))
        for before, image in zip(fusion.layers[:layer], images[:layer], strict=True):
            text = before(text, mask, image.rows(image_of), None)
        watched, seen = fusion.layers[layer], images[layer].rows(image_of)
        text = watched.read_text(text, mask)
        probabilities = watched.cross_attention.probabilities(text, seen)
    with torch.enable_grad():
        probabilities.requires_grad_()
        text = watched.feed_forward(watched.cross_attention.look(text, seen, probabilities))
        for after, image in zip(fusion.layers[layer + 1 :], images[layer + 1 :], strict=True):
            text = after(text, mask, image.rows(image_of), None)
        found = _contributions(itm_head(text[:, 0])[:, 1], probabilities)
    if fusion.compression is not None:
        with torch.no_grad():
            found = found @ fusion.compression.looks(image_tokens)[image_of]
    return found[..., 1:]


def similarity_maps(
    encoders: Encoders,
    temperature: Tensor,
    image: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_of: Tensor,
    block: int,
) -> Tensor:
    """What patches contribute to the cosine over the temperature, through what the ViT's [CLS] looks at in `block`.

    image [I, 3, H, W], normalised; the texts as in `match_maps`; block: 0 to the ViT's blocks - 1, of an encoder that
    `tcl.encoders.watched_block.check_watchable` takes -> [R, patches] >= 0.
    """
    with torch.no_grad():
        text = encoders.project_text(encoders.text_encoder(input_ids, attention_mask)[:, 0])
        before = run_to(encoders.image_encoder, image, block)[image_of]
    with torch.enable_grad():
        global_token, probabilities = run_from(encoders.image_encoder, before, block)
        similarity = (encoders.project_image(global_token) * text).sum(dim=1) / temperature.detach()
        found = _contributions(similarity, probabilities)
    patches = encoders.image_encoder.grid[0] * encoders.image_encoder.grid[1]
    return found[:, 0, -patches:]


def _contributions(score: Tensor, probabilities: Tensor) -> Tensor:
    """score [R], each of its own row of probabilities [R, heads, L, N] -> [R, L, N], the mean over heads."""
    (gradient,) = torch.autograd.grad(score.sum(), probabilities)
    return (gradient.clamp(min=0) * probabilities.detach()).mean(dim=1)


def layer_to_watch(layers: int, asked: int | None, usual: int, field: str, of: str) -> int:
    """The one of `layers` that is asked for, from 0, or else the `usual` one. InputError, naming the option `field`:
    `of`, what has the layers, has no such one."""
    if asked is None:
        return usual
    if not 0 <= asked < layers:
        raise InputError(f"{field}: {asked}, but {of} has {layers}; accepted: 0 to {layers - 1}")
    return asked
