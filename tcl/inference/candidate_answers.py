"""Possible answers as callers give them, checked and as tokens."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from tcl.data.texts.question import tokenize_answers
from tcl.errors import InputError
from tcl.evaluation.answering import AnswerList
from tcl.inference.texts import list_texts

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
    """As `tcl.data.texts.question.tokenize_answers`, on the host. InputError: an answer without tokens, or over
    MAX_CANDIDATE_TOKENS."""
    ids, lengths = tokenize_answers(tokenizer, candidates, MAX_CANDIDATE_TOKENS + 1)
    shortest = int(lengths.argmin())
    if lengths[shortest] == 2:
        raise InputError(f"candidates[{shortest}]: {candidates[shortest]!r} has no words; give a text")
    longest = int(lengths.argmax())
    if lengths[longest] - 2 > MAX_CANDIDATE_TOKENS:
        raise InputError(f"candidates[{longest}]: more than {MAX_CANDIDATE_TOKENS} tokens; give answers of a few words")
    return AnswerList(ids, lengths)
