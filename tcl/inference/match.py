"""ITM logits of image-text pairs: of images with their own texts each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tcl.errors import InputError
from tcl.inference.embed import PASS_TOKENS
from tcl.inference.hardware import Hardware
from tcl.models.fusion_encoder import FusionEncoder
from tcl.search.match_pairs import TextStates, image_logits, images_logits, read_states


@dataclass(frozen=True)
class JointEncoder:
    """What reads an image and a text together, and says whether they match."""

    text_encoder: Callable[[Tensor, Tensor], Tensor]
    """Ids and mask [R, L] -> tokens [R, L, width], for the fusion encoder."""
    fusion_encoder: FusionEncoder
    itm_head: nn.Module
    """State of [CLS] [R, width] -> logits [R, 2], "no match" and "match"."""


@torch.no_grad()
def match_several(
    joint: JointEncoder,
    batches: Iterable[Tensor],
    texts_of_image: Sequence[Tensor],
    states: TextStates,
    hardware: Hardware,
) -> Iterator[Tensor]:
    """Batches of tokens of I images, the texts of each (indices [R] into `states`) -> its logits [R, 2], fp32, host.

    Image by image, so that equal images get equal logits.
    """
    images = (tokens for batch in batches for tokens in batch)
    for tokens, texts in zip(images, texts_of_image, strict=True):
        with hardware.autocast():
            yield image_logits(
                joint.fusion_encoder, joint.itm_head, tokens, texts.to(hardware.device), states, PASS_TOKENS
            ).cpu()


@torch.no_grad()
def match_together(
    joint: JointEncoder,
    batches: Iterable[Tensor],
    texts_of_image: Sequence[Tensor],
    states: TextStates,
    hardware: Hardware,
) -> Iterator[Tensor]:
    """As `match_several`, images with as many texts of a batch in one pass: faster where they have few."""
    fusion, head, start = joint.fusion_encoder, joint.itm_head, 0
    for tokens in batches:
        texts = [some.to(hardware.device) for some in texts_of_image[start : start + len(tokens)]]
        start += len(tokens)
        with hardware.autocast():
            logits = images_logits(fusion, head, tokens, texts, states, PASS_TOKENS)
        yield from (own.cpu() for own in logits)


@torch.no_grad()
def read_all_texts(joint: JointEncoder, input_ids: Tensor, mask: Tensor, hardware: Hardware) -> TextStates:
    """Ids and mask [T, L], on the host -> what `match_several` needs of them, on the device."""
    return read_states(
        joint.text_encoder,
        joint.fusion_encoder,
        input_ids.to(hardware.device),
        mask.to(hardware.device),
        pass_tokens=PASS_TOKENS,
        autocast=hardware.autocast,
    )


def pairs_of(images: Sequence, texts: Sequence) -> list[Tensor]:
    """Which of the texts is paired with each image: one for all of them, or for each its own. InputError: not as many
    texts as images."""
    if len(texts) not in (1, len(images)):
        raise InputError(
            f"texts: {len(texts)} for {len(images)} images; give one for each, or one for all, or use match_grid for "
            f"all pairs"
        )
    return [torch.tensor([0 if len(texts) == 1 else i]) for i in range(len(images))]


def match_probabilities(logits: Tensor) -> Tensor:
    """ITM logits [..., 2] -> probabilities of "match" [...], 0 to 1."""
    return logits.softmax(dim=-1)[..., 1]
