"""Ranking answers as the published code does it: the question repeated for each of its k candidates."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tcl.models.answer_decoder import AnswerDecoder


@torch.no_grad()
def rank_by_repetition(
    decoder: AnswerDecoder, states: Tensor, mask: Tensor, answer_ids: Tensor, answer_mask: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Fused questions [Q, L, width] with mask [Q, L], answers [N, T] of one length -> (ids [Q, k], probabilities).

    See tcl.evaluation.answering.rank_answers.
    """
    questions = len(states)
    start = answer_ids[0, 0].expand(questions, 1)
    first, _ = decoder(start, decoder.question_keys_values(states, mask), torch.arange(questions))
    probabilities = decoder.logits(first)[:, 0].softmax(dim=1)[:, answer_ids[:, 1]]
    probabilities, chosen = probabilities.topk(k, dim=1)

    ids, counts = answer_ids[chosen.flatten()], answer_mask[chosen.flatten()]
    repeated = decoder.question_keys_values(states.repeat_interleave(k, dim=0), mask.repeat_interleave(k, dim=0))
    written, _ = decoder(ids, repeated, torch.arange(questions * k))
    logits = decoder.logits(written)[:, :-1]
    labels = ids.masked_fill(counts == 0, -100)[:, 1:]
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(questions, k, -1).sum(dim=2)
    scores, order = (probabilities.log() - loss).topk(k, dim=1)
    return chosen.gather(1, order), scores.softmax(dim=1)
