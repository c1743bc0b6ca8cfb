"""Re-ranking as the published evaluation does it: a loop over queries, with copies of what candidates share."""

import torch
from torch import Tensor

from tcl.objectives.tcl import TCLStudent

NOT_A_CANDIDATE = -100.0


@torch.no_grad()
def rerank_query_by_query(
    student: TCLStudent, image_tokens: Tensor, text_tokens: Tensor, text_mask: Tensor, similarity: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """ITM scores of the k best candidates by similarity [I, C]: (images' texts [I, C], texts' images [C, I]).

    image_tokens [I, N, image width], text_tokens [C, L, width], padded to one length as published, text_mask [C, L].
    """
    image_count, text_count = similarity.shape
    scores_i2t = torch.full((image_count, text_count), NOT_A_CANDIDATE)
    scores_t2i = torch.full((text_count, image_count), NOT_A_CANDIDATE)
    for image in range(image_count):
        texts = similarity[image].topk(k).indices
        repeated = image_tokens[image].expand(k, -1, -1)
        scores_i2t[image, texts] = _match(student, repeated, text_tokens[texts], text_mask[texts])
    for text in range(text_count):
        images = similarity[:, text].topk(k).indices
        tokens, mask = text_tokens[text].expand(k, -1, -1), text_mask[text].expand(k, -1)
        scores_t2i[text, images] = _match(student, image_tokens[images], tokens, mask)
    return scores_i2t, scores_t2i


def _match(student: TCLStudent, image_tokens: Tensor, text_tokens: Tensor, text_mask: Tensor) -> Tensor:
    fusion = student.encoders.fusion_encoder
    fused = fusion(text_tokens, text_mask, fusion.image_keys_values(image_tokens))
    return student.itm_head(fused[:, 0])[:, 1].float()
