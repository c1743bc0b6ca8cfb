"""The row of a question about an image, and the causes for which there is none."""

from tcl.annotations.row import Row, is_whole_id

NO_IMAGE_ID = 'no "image_id"'
NO_QUESTION_ID = 'no "question_id"'
EMPTY_QUESTION = "empty question"
QUESTION_NOT_TEXT = "question is not text"
NO_ANSWERS = "no answers"
ANSWERS_NOT_TEXT = "answers are not a list of texts"
TYPE_NOT_TEXT = "question_type or answer_type is not text"
DUPLICATE_QUESTION = "duplicate question_id"
"""Causes of a skipped row."""

TYPES = ("question_type", "answer_type")
"""What a sample may hold besides."""


def question_row(where: str, image: str, item: dict, answers: object, unanswered: bool = False) -> Row:
    """The row of a question with its types and perhaps a "question_id" in `item`; without one it has none.

    unanswered: no answers are no problem.
    """
    problem = _problem(item, answers, unanswered)
    if problem is not None:
        return Row(where, image, problem=problem)
    sample = {"question": item["question"], "answers": answers}
    named = {name: item[name] for name in ("question_id", *TYPES) if item.get(name) is not None}
    question_id = {"question_id": named.pop("question_id")} if "question_id" in named else {}
    return Row(where, image, sample | question_id | {"image": image} | named)


def _problem(item: dict, answers: object, unanswered: bool) -> str | None:
    question = item.get("question")
    if item.get("question_id") is not None and not is_whole_id(item["question_id"]):
        return NO_QUESTION_ID
    if not isinstance(question, str | None):
        return QUESTION_NOT_TEXT
    if question is None or not question.strip():
        return EMPTY_QUESTION
    if answers is None:
        return NO_ANSWERS
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        return ANSWERS_NOT_TEXT
    # Blank answers among others stay: accuracy is defined over all annotators.
    if not unanswered and not any(answer.strip() for answer in answers):
        return NO_ANSWERS
    if not all(isinstance(item.get(name), str | None) for name in TYPES):
        return TYPE_NOT_TEXT
    return None


def answers_of(given: object) -> object:
    """The texts of answers given as texts or as {"answer": text}, in their order, null as a blank one.

    What has another form, or both, stays, to be refused.
    """
    if not isinstance(given, list):
        return given
    told = [entry for entry in given if entry is not None]
    if told and all(isinstance(entry, dict) for entry in told):
        given = [None if entry is None else entry.get("answer") for entry in given]
    return ["" if text is None else text for text in given]
