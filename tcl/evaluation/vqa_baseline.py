"""What answering without looking at the image is worth: a number that a trained model has to beat."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tcl.errors import InputError
from tcl.evaluation.vqa_accuracy import exact_match, vqa_accuracy


@dataclass(frozen=True)
class AnnotatedQuestion:
    """A question with the answers that people gave, at least one."""

    question: str
    answers: list[str]
    question_type: str | None = None


def commonest_answer_baseline(train: Sequence[AnnotatedQuestion], dev: Sequence[AnnotatedQuestion]) -> dict[str, float]:
    """Percent {"exact_match", "accuracy"} on `dev` of always giving the commonest training answer of the question type.

    A question without a type has its first two words for one; a type that training lacks gets the commonest answer of
    all. All answers of a question count, as they were typed; of equally common ones the first seen is taken.
    InputError: no questions, or one without answers.
    """
    for name, questions in (("train", train), ("dev", dev)):
        if not questions:
            raise InputError(f"{name}: no questions; give at least one")
        unanswered = next((question for question in questions if not question.answers), None)
        if unanswered is not None:
            raise InputError(f"{name}: {unanswered.question!r} has no answers; give a split that has them")
    of_all, of_type = Counter(), defaultdict(Counter)
    for question in train:
        of_all.update(question.answers)
        of_type[_type_of(question)].update(question.answers)
    exact, accuracy = [], []
    for question in dev:
        (answer, _), *_ = of_type.get(_type_of(question), of_all).most_common(1)
        exact.append(exact_match(answer, question.answers))
        accuracy.append(vqa_accuracy(answer, question.answers))
    return {"exact_match": 100 * sum(exact) / len(dev), "accuracy": 100 * sum(accuracy) / len(dev)}


def _type_of(question: AnnotatedQuestion) -> tuple[str, ...]:
    """Marked by where it comes from: a given type is not mistaken for two words that read the same."""
    if question.question_type is not None:
        return ("given", question.question_type)
    return ("words", *question.question.lower().split()[:2])
