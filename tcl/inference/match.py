"""ITM logits of image-text pairs: of an image with its own text each, or of every image with several texts."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from tcl.inference.embed import PASS_TOKENS
from tcl.inference.hardware import Hardware
from tcl.objectives.tcl import TCLStudent
from tcl.search.match_pairs import TextStates, image_logits, itm_logits, read_texts


@torch.no_grad()
def match_one_to_one(
    student: TCLStudent, batches: Iterable[Tensor], input_ids: Tensor, mask: Tensor, hardware: Hardware
) -> Tensor:
    """Batches of image tokens [b, N, width], ids and mask of as many texts [n, L] -> logits [n, 2], fp32, host."""
    encoders, logits, start = student.encoders, [], 0
    for tokens in batches:
        some = slice(start, start + len(tokens))
        start = some.stop
        longest = int(mask[some].sum(dim=1).max())
        ids, present = (tensor[some, :longest].to(hardware.device) for tensor in (input_ids, mask))
        with hardware.autocast():
            read = encoders.fusion_encoder.read_texts(encoders.text_encoder(ids, present), present)
            images = encoders.fusion_encoder.image_keys_values(tokens)
            logits.append(itm_logits(student.itm_head, encoders.fusion_encoder.match(read, present, images)).cpu())
    return torch.cat(logits)


@torch.no_grad()
def match_several(
    student: TCLStudent,
    batches: Iterable[Tensor],
    texts_of_image: Sequence[Tensor],
    states: TextStates,
    hardware: Hardware,
) -> Iterator[Tensor]:
    """Batches of tokens of I images, the texts of each (indices [R] into `states`) -> its logits [R, 2], fp32, host."""
    images = (tokens for batch in batches for tokens in batch)
    for tokens, texts in zip(images, texts_of_image, strict=True):
        with hardware.autocast():
            yield image_logits(
                student.encoders.fusion_encoder, student.itm_head, tokens, texts, states, PASS_TOKENS
            ).cpu()


@torch.no_grad()
def read_all_texts(student: TCLStudent, input_ids: Tensor, mask: Tensor, hardware: Hardware) -> TextStates:
    """Ids and mask [T, L], on the host -> what `match_several` needs of them, on the device."""
    _, states = read_texts(
        student.encoders,
        input_ids.to(hardware.device),
        mask.to(hardware.device),
        pass_tokens=PASS_TOKENS,
        autocast=hardware.autocast,
    )
    return states


def match_probabilities(logits: Tensor) -> Tensor:
    """ITM logits [..., 2] -> probabilities of "match" [...], 0 to 1."""
    return logits.softmax(dim=-1)[..., 1]
