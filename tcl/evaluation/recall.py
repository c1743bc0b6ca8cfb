"""Recall at k of image-text retrieval."""

import torch
from torch import Tensor

CUTS = (1, 5, 10)


def retrieval_recalls(scores: Tensor, image_of_caption: Tensor) -> dict[str, float]:
    """Percent of queries with a right answer among their k best, k = 1, 5, 10.

    scores [I, C] of every image with every caption (higher is better; equal scores rank in index order),
    image_of_caption [C] -> {"i2t_r1", ..., "t2i_r10"}: images asking for any of their captions, captions for theirs.
    """
    relevant = torch.arange(len(scores), device=scores.device)[:, None] == image_of_caption[None, :]
    recalls = {}
    for name, s, r in (("i2t", scores, relevant), ("t2i", scores.T, relevant.T)):
        order = s.argsort(dim=1, descending=True, stable=True)
        ranked = r.gather(1, order)
        for k in CUTS:
            recalls[f"{name}_r{k}"] = 100 * ranked[:, :k].any(dim=1).float().mean().item()
    return recalls
