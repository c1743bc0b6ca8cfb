"""Accuracy of answers to questions about images, by the rules of the official VQA v2 evaluation.

Sources: Antol et al., "VQA: Visual Question Answering" (ICCV 2015), and the evaluation notes and code published with
the data set (visualqa.org/evaluation).
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tcl.errors import InputError

ENOUGH_MATCHES = 3
"""As many of the others as this have to give an answer for it to be right in full."""

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = {"a", "an", "the"}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
# Left out: those that are another word without it (it's, we'll, we're, she'd), and I'm and its kin, which the official
# table has in capitals only, so that lower-cased answers never meet them.
CONTRACTIONS = {
    word[:i] + word[i + 1 :]: word for word in _CONTRACTED.split() for i, letter in enumerate(word) if letter == "'"
}
"""By what is typed where one apostrophe is missing: "dont" -> "don't", "couldnt've" -> "couldn't've"."""


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question with what the model answered and what people did."""

    question_id: int | str
    answer: str
    annotators: list[str]
    """Their answers, 10 in VQA v2, 1 in most other sets."""
    question_type: str | None = None
    answer_type: str | None = None


def normalise_answer(text: str) -> str:
    """Lower case with plain spaces, digits for none and zero to ten, no articles, contractions with apostrophes.

    A punctuation mark becomes a space, or nothing where it stands next to a space somewhere in the text; where digits
    are joined by a comma, every mark becomes nothing. Periods go unless a digit follows. As officially, apostrophes,
    colons and other marks stay.
    """
    text = _one_line(text)
    kept = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        kept = kept.replace(mark, "" if beside_space or _COMMA_IN_NUMBER.search(text) else " ")
    words = (_DIGITS.get(word, word) for word in _PERIOD.sub("", kept).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def vqa_accuracy(answer: str, annotators: Sequence[str]) -> float:
    """How far people agree with the answer, 0 to 1: min(1, matches / 3), averaged over leaving out each annotator.

    As in the official code, answers are normalised only where annotators differ; what all of them typed alike has to be
    met to the letter, but for line breaks, tabs and spaces around it. A single annotator has nobody to be compared
    with: 1.0 if the normalised answers are equal, else 0.0. With n annotators, 2 <= n <= 3, the best is (n - 1) / 3.
    InputError: no annotators.
    """
    if not annotators:
        raise InputError("annotators: [] has no answer to compare with; give at least one")
    if len(annotators) == 1:
        return exact_match(answer, annotators)
    answer, given = _one_line(answer), [_one_line(text) for text in annotators]
    if len(set(given)) > 1:
        answer, given = normalise_answer(answer), [normalise_answer(text) for text in given]
    matches = [text == answer for text in given]
    return sum(min(1.0, (sum(matches) - own) / ENOUGH_MATCHES) for own in matches) / len(matches)


def exact_match(answer: str, answers: Sequence[str]) -> float:
    """1.0 if the answer is one of `answers`, all of them normalised, else 0.0."""
    return float(normalise_answer(answer) in map(normalise_answer, answers))


def accuracy_report(
    results: Sequence[AnsweredQuestion], score: Callable[[str, Sequence[str]], float]
) -> dict[str, float]:
    """Mean of `score` (vqa_accuracy or exact_match) in percent: "accuracy", then by type
    "accuracy/answer_type/<name>" and "accuracy/question_type/<name>", sorted. Questions without a type count in
    "accuracy" alone.

    InputError: no results, a question without annotators, two results for one question.
    """
    if not results:
        raise InputError("results: none given; answer at least one question")
    _check_ids(results)
    scores = defaultdict(list)
    for result in results:
        if not result.annotators:
            raise InputError(f"question_id: {result.question_id!r} has no annotators; score a split that has answers")
        value = score(result.answer, result.annotators)
        scores["accuracy"].append(value)
        for kind in ("question_type", "answer_type"):
            if getattr(result, kind) is not None:
                scores[f"accuracy/{kind}/{getattr(result, kind)}"].append(value)
    # "accuracy" is a prefix of the other names, so it comes first.
    return {name: 100 * sum(scores[name]) / len(scores[name]) for name in sorted(scores)}


def write_submission(path: Path, results: Sequence[AnsweredQuestion]) -> None:
    """Write [{"question_id", "answer"}, ...], the file that the official evaluation takes, in the order of `results`.

    InputError: two results for one question, a path that cannot be written.
    """
    _check_ids(results)
    rows = [{"question_id": result.question_id, "answer": result.answer} for result in results]
    try:
        path.write_text(json.dumps(rows) + "\n")
    except OSError as error:
        raise InputError(
            f"path: {path} cannot be written ({error.strerror}); name a file in a folder that is there and yours"
        ) from error


def _check_ids(results: Sequence[AnsweredQuestion]) -> None:
    seen = set()
    for result in results:
        if result.question_id in seen:
            raise InputError(f"question_id: {result.question_id!r} is there twice; give one answer per question")
        seen.add(result.question_id)
