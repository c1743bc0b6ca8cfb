"""Answers to questions: the best of a closed list, or freely written (greedy or beam search).

What is asked of a question again and again, its keys and values in every decoder layer, is computed once; of an answer
list, the distribution after [CLS] as well, and no answer is padded to the longest of the list.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.data.texts.tokenize import join_tokens
from tcl.models.answer_decoder import AnswerDecoder
from tcl.models.fusion_encoder import KeysValues
from tcl.search.text_passes import split_by_tokens


@dataclass
class AnswerList:
    """N possible answers as tokens."""

    ids: Tensor
    """[N, T] int64: [CLS], at least one token, [SEP], padding."""
    lengths: Tensor
    """[N] int64, [CLS] and [SEP] included."""


def choose_answers(
    questions: list[KeysValues],
    *,
    decoder: AnswerDecoder,
    candidates: list[str],
    answers: AnswerList,
    rank_k: int,
    pass_tokens: int,
) -> list[str]:
    """The best of N candidates for each of Q questions; `answers` are their tokens, on the decoder's device.

    rank_k (>= 1) and pass_tokens as in `rank_answers`.
    """
    best, _ = rank_answers(decoder, questions, answers, min(rank_k, len(candidates)), pass_tokens)
    return [candidates[i] for i in best[:, 0].tolist()]


def write_answers(
    questions: list[KeysValues],
    *,
    decoder: AnswerDecoder,
    tokenizer: PreTrainedTokenizerBase,
    beams: int,
    max_tokens: int,
) -> list[str]:
    """Whatever the decoder writes on each of Q questions; beams and max_tokens as in `generate_answers`."""
    written = generate_answers(
        decoder,
        questions,
        beams=beams,
        max_tokens=max_tokens,
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
    )
    return [join_tokens(tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in written]


@torch.no_grad()
def rank_answers(
    decoder: AnswerDecoder, questions: list[KeysValues], answers: AnswerList, k: int, pass_tokens: int
) -> tuple[Tensor, Tensor]:
    """Answer indices [Q, k], best first, and their probabilities among these k [Q, k].

    The k (1 to N) answers with the most probable first tokens are ordered by the likelihood of the whole answer, times
    that of the first token once more, as in the published code. pass_tokens (>= 1) bounds the answer tokens of one
    pass. `questions` from `AnswerDecoder.question_keys_values`.
    """
    Q = len(questions[0].keys)
    everyone = torch.arange(Q, device=answers.ids.device)
    states, after_cls = decoder(answers.ids[:1, :1].expand(Q, 1), questions, everyone)
    first = decoder.logits(states[:, 0]).float().log_softmax(dim=1)[:, answers.ids[:, 1]]  # [Q, N]
    first, chosen = first.sort(dim=1, descending=True, stable=True)
    first, chosen = first[:, :k], chosen[:, :k]

    rows = torch.arange(Q * k, device=chosen.device)
    written = answers.lengths[chosen.flatten()] - 2  # tokens after [CLS] and before [SEP]
    rest = torch.empty(Q * k, device=chosen.device)
    for some in split_by_tokens(written.argsort(stable=True), written, pass_tokens):
        rest[some] = _after_the_first(decoder, questions, after_cls, answers, chosen.flatten()[some], rows[some] // k)
    scores = 2 * first + rest.view(Q, k)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return chosen.gather(1, order), scores.softmax(dim=1)


def _after_the_first(
    decoder: AnswerDecoder,
    questions: list[KeysValues],
    after_cls: list[KeysValues],
    answers: AnswerList,
    chosen: Tensor,
    question: Tensor,
) -> Tensor:
    """Log-likelihood [R] of all tokens of answers `chosen` [R] but the first, [SEP] included, for questions [R]."""
    lengths = answers.lengths[chosen]
    T = int(lengths.max()) - 2
    ids = answers.ids[chosen]
    states, _ = decoder(ids[:, 1 : 1 + T], questions, question, [past.rows(question) for past in after_cls])
    asked = torch.arange(T, device=ids.device) < lengths[:, None] - 2
    logits = decoder.logits(states[asked]).float()
    targets = ids[:, 2 : 2 + T][asked]
    log_likelihood = logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(dim=1)
    return torch.zeros(len(chosen), device=ids.device).index_add_(0, asked.nonzero()[:, 0], log_likelihood)


@torch.no_grad()
def generate_answers(
    decoder: AnswerDecoder, questions: list[KeysValues], *, beams: int, max_tokens: int, cls_id: int, sep_id: int
) -> list[list[int]]:
    """The tokens of an answer to each of Q questions, without [CLS] and [SEP].

    beams 1: greedy; more: the most probable answer that a beam of that many finds. max_tokens (>= 1): an answer that
    has not ended by then is cut.
    """
    Q = len(questions[0].keys)
    device = questions[0].keys.device
    question = torch.arange(Q, device=device).repeat_interleave(beams)
    tokens = torch.full((Q * beams, 1), cls_id, device=device)
    scores = torch.full((Q, beams), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all beams start alike: only the first counts
    best_score = torch.full((Q,), -torch.inf, device=device)
    best: list[list[int]] = [[] for _ in range(Q)]
    past = None
    for _ in range(max_tokens):
        states, past = decoder(tokens[:, -1:], questions, question, past)
        log_p = decoder.logits(states[:, 0]).float().log_softmax(dim=1)
        vocabulary = log_p.shape[1]
        total = (scores[:, :, None] + log_p.view(Q, beams, vocabulary)).flatten(1)
        # Twice as many as there are beams: whatever ends, as many remain to go on.
        total, place = total.topk(min(2 * beams, total.shape[1]), dim=1)
        beam, token = place // vocabulary, place % vocabulary
        ends = token == sep_id
        ended = total.masked_fill(~ends, -torch.inf)[:, :beams]
        score, which = ended.max(dim=1)
        for q in (score > best_score).nonzero().flatten().tolist():
            best[q] = tokens[q * beams + int(beam[q, which[q]]), 1:].tolist()
        best_score = torch.maximum(best_score, score)
        scores, going = total.masked_fill(ends, -torch.inf).topk(beams, dim=1)
        came_from = (torch.arange(Q, device=device)[:, None] * beams + beam.gather(1, going)).flatten()
        tokens = torch.cat([tokens[came_from], token.gather(1, going).flatten()[:, None]], dim=1)
        past = [kept.rows(came_from) for kept in past]
        if bool((best_score >= scores[:, 0]).all()):  # a longer answer is never more probable than its beginning
            break
    for q in (best_score == -torch.inf).nonzero().flatten().tolist():
        best[q] = tokens[q * beams, 1:].tolist()
    return best
