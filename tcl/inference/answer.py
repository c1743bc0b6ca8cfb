"""Answers to questions about images: the best of given ones, or written by the decoder."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedTokenizerBase

from tcl.data.questions import tokenize_answers
from tcl.data.text import join_tokens
from tcl.errors import InputError
from tcl.evaluation.answering import AnswerList, generate_answers, rank_answers
from tcl.inference.texts import list_texts
from tcl.models.answer_decoder import AnswerDecoder
from tcl.models.fusion_encoder import KeysValues

RANK_K, BEAMS, MAX_TOKENS, PASS_TOKENS = 128, 3, 10, 2048
"""As fine-tuning evaluates by default: `answers` and `eval` of `tcl finetune --task vqa --help`."""
MAX_CANDIDATE_TOKENS = 64


def list_candidates(candidates: Iterable[str]) -> list[str]:
    """Possible answers as a list, spaces squeezed. InputError: none, one without words, one that is there twice."""
    listed = [" ".join(candidate.split()) for candidate in list_texts(candidates, "candidates")]
    seen: set[str] = set()
    for candidate in listed:
        if candidate.lower() in seen:
            raise InputError(f"candidates: {candidate!r} is there twice; give each answer once")
        seen.add(candidate.lower())
    return listed


def tokenize_candidates(candidates: list[str], tokenizer: PreTrainedTokenizerBase) -> AnswerList:
    """As `tcl.data.questions.tokenize_answers`, on the host. InputError: an answer over MAX_CANDIDATE_TOKENS."""
    ids, lengths = tokenize_answers(tokenizer, candidates, MAX_CANDIDATE_TOKENS + 1)
    longest = int(lengths.argmax())
    if lengths[longest] - 2 > MAX_CANDIDATE_TOKENS:
        raise InputError(f"candidates[{longest}]: more than {MAX_CANDIDATE_TOKENS} tokens; give answers of a few words")
    return AnswerList(ids, lengths)


def best_candidates(decoder: AnswerDecoder, questions: list[KeysValues], answers: AnswerList) -> list[int]:
    """The best of N answers for each of Q questions, its index. `answers` on the decoder's device."""
    best, _ = rank_answers(decoder, questions, answers, min(RANK_K, len(answers.ids)), PASS_TOKENS)
    return best[:, 0].tolist()


@torch.no_grad()
def write_answers(decoder: AnswerDecoder, questions: list[KeysValues], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """An answer of at most MAX_TOKENS tokens to each of Q questions, by beam search."""
    written = generate_answers(
        decoder,
        questions,
        beams=BEAMS,
        max_tokens=MAX_TOKENS,
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
    )
    return [join_tokens(tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in written]
