"""Rows of the annotation files that hold questions: vqa, vqa_v2 and vg_qa of `tcl shards`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tcl.annotations.row import BAD_JSON, NO_IMAGE_KEY, Row, id_key, objects_in, read_json, read_json_lines
from tcl.errors import InputError

NO_IMAGE_ID = 'no "image_id"'
NO_QUESTION_ID = 'no "question_id"'
NO_QA_ID = 'no "qa_id"'
NO_QAS = 'no "qas"'
EMPTY_QUESTION = "empty question"
QUESTION_NOT_TEXT = "question is not text"
NO_ANSWERS = "no answers"
ANSWERS_NOT_TEXT = "answers are not a list of texts"
TYPE_NOT_TEXT = "question_type or answer_type is not text"
DUPLICATE_QUESTION = "duplicate question_id"
UNKNOWN_QUESTION = "annotation of no question in the file"
"""Causes of a skipped row."""

TYPES = ("question_type", "answer_type")
"""What a sample may hold besides."""

VQA_V2_IMAGE_NAME = "COCO_train2014_{:012d}.jpg"
VG_IMAGE_NAME = "{image_id}.jpg"


def vqa_rows(path: Path) -> Iterator[Row]:
    """Rows of lines {"question_id", "image", "question", "answers"}. InputError: see read_json_lines."""
    lines = read_json_lines(path, "vqa", if_list="vg_qa", if_object="vqa_v2")

    def rows() -> Iterator[Row]:
        for where, item in lines:
            if item is None:
                yield Row(where, None, problem=BAD_JSON)
            elif not isinstance(item, dict) or not isinstance(item.get("image"), str) or not item["image"]:
                yield Row(where, None, problem=NO_IMAGE_KEY)
            else:
                yield _question_row(where, item["image"], item, item.get("answers"))

    return _without_duplicates(rows())


def vqa_v2_rows(path: Path, answers: Path | None, image_name: str | None) -> Iterator[Row]:
    """A row per question of the VQA v2 question file `path`, then the annotations that belong to none.

    answers: the annotation file; without it, as for the test split, every question has "answers": []. image_name:
    template of the image path, default VQA_V2_IMAGE_NAME. InputError: files of another structure, no template.
    """
    template = _checked_template(VQA_V2_IMAGE_NAME if image_name is None else image_name)
    questions = objects_in(read_json(path, "vqa_v2"), "questions")
    if questions is None:
        raise InputError(f'annotations: {path} has no list "questions"; give the VQA v2 file of questions')
    annotations = [] if answers is None else objects_in(read_json(answers, "vqa_v2", "answers"), "annotations")
    if annotations is None:
        raise InputError(f'answers: {answers} has no list "annotations"; give the VQA v2 file of annotations')

    def rows() -> Iterator[Row]:
        asked = {id_key(question["question_id"]) for question in questions if "question_id" in question}
        annotation_of, unused = {}, []
        for i, annotation in enumerate(annotations):
            key = id_key(annotation.get("question_id"))
            if key not in asked:
                unused.append(Row(f"annotation {i}", None, problem=UNKNOWN_QUESTION))
            elif key in annotation_of:
                unused.append(Row(f"annotation {i}", None, problem=DUPLICATE_QUESTION))
            else:
                annotation_of[key] = annotation
        for i, question in enumerate(questions):
            annotation = annotation_of.get(id_key(question.get("question_id")), {})
            types = {name: annotation.get(name) for name in TYPES}
            image = _image_path(template, question.get("image_id"))
            if image is None:
                yield Row(f"question {i}", None, problem=NO_IMAGE_ID)
            else:
                given = _answers_of(annotation) if answers is not None else []
                yield _question_row(f"question {i}", image, question | types, given, unanswered=answers is None)
        yield from unused

    return _without_duplicates(rows())


def _answers_of(annotation: dict) -> object:
    """What the annotators typed, in their order; entries of another form stay, to be refused with the others."""
    given = annotation.get("answers")
    if not isinstance(given, list):
        return given
    return [entry.get("answer") if isinstance(entry, dict) else None for entry in given]


def vg_qa_rows(path: Path, image_name: str | None) -> Iterator[Row]:
    """A row per question of Visual Genome's question_answers.json, in its order.

    image_name: template of the image path, default VG_IMAGE_NAME. InputError: of another structure, no template.
    """
    template = _checked_template(VG_IMAGE_NAME if image_name is None else image_name)
    images = read_json(path, "vg_qa")
    if not isinstance(images, list):
        raise InputError(f"annotations: {path} holds no list of images; give Visual Genome's question_answers.json")

    def rows() -> Iterator[Row]:
        for i, image in enumerate(images):
            qas = objects_in(image, "qas")
            if qas is None:
                yield Row(f"image {i}", None, problem=NO_QAS)
            for j, qa in enumerate(qas or []):
                name = _image_path(template, qa["image_id"] if "image_id" in qa else image.get("id"))
                where = f"image {i} qa {j}"
                if name is None:
                    yield Row(where, None, problem=NO_IMAGE_ID)
                elif not _is_id(qa.get("qa_id")):
                    yield Row(where, name, problem=NO_QA_ID)
                else:
                    item = {"question": qa.get("question"), "question_id": qa["qa_id"]}
                    yield _question_row(where, name, item, [] if qa.get("answer") is None else [qa["answer"]])

    return _without_duplicates(rows())


def _question_row(where: str, image: str, item: dict, answers: object, unanswered: bool = False) -> Row:
    """The row of a question with its "question_id" and types in `item`; unanswered: no answers are no problem."""
    problem = _question_problem(item, answers, unanswered)
    if problem is not None:
        return Row(where, image, problem=problem)
    sample = {"question": item["question"], "answers": answers, "question_id": item["question_id"], "image": image}
    types = {name: item[name] for name in TYPES if item.get(name) is not None}
    return Row(where, image, sample | types)


def _question_problem(item: dict, answers: object, unanswered: bool) -> str | None:
    question = item.get("question")
    if not _is_id(item.get("question_id")):
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


def _is_id(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and bool(value))


def _without_duplicates(rows: Iterator[Row]) -> Iterator[Row]:
    """Of usable rows with one question_id only the first stays usable."""
    seen = set()
    for row in rows:
        key = id_key(row.sample.get("question_id"))
        if row.problem is None and key in seen:
            row = replace(row, problem=DUPLICATE_QUESTION)
        elif row.problem is None:
            seen.add(key)
        yield row


def _image_path(template: str, image_id: object) -> str | None:
    """None where image_id is no number."""
    is_number = isinstance(image_id, int) and not isinstance(image_id, bool)
    return template.format(image_id, image_id=image_id) if is_number else None


def _checked_template(template: str) -> str:
    try:
        names = [_image_path(template, image_id) for image_id in (1, 2)]
    except (ValueError, LookupError, AttributeError, TypeError):
        names = ["", ""]
    if names[0] == names[1]:
        accepted = f"such as {VQA_V2_IMAGE_NAME} or {VG_IMAGE_NAME}"
        raise InputError(f"image_name: {template!r} gives no name per image; accepted: {accepted}")
    return template
