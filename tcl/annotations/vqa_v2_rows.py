"""Rows of questions about numbered images: vqa_v2 and vg_qa of `tcl shards`."""

from collections.abc import Iterator
from pathlib import Path

from tcl.annotations.image_name import BY_ID, VQA_V2_IMAGE_NAME, checked_template, image_path
from tcl.annotations.json_file import read_json
from tcl.annotations.question_row import (
    DUPLICATE_QUESTION,
    NO_IMAGE_ID,
    NO_QUESTION_ID,
    TYPES,
    answers_of,
    question_row,
)
from tcl.annotations.recognise import structure_of
from tcl.annotations.row import Row, id_key, is_whole_id, objects_in, without_duplicates
from tcl.errors import InputError

NO_QA_ID = 'no "qa_id"'
NO_QAS = 'no "qas"'
UNKNOWN_QUESTION = "annotation of no question in the file"
"""Causes of a skipped row."""


def vqa_v2_rows(path: Path, answers: Path | None, image_name: str | None) -> Iterator[Row]:
    """A row per question of the VQA v2 question file `path`, then the annotations that belong to none.

    answers: the annotation file; without it, as for the test split, every question has "answers": []. image_name:
    template of the image path, default VQA_V2_IMAGE_NAME. InputError: files of another structure, no template.
    """
    template = checked_template(image_name, VQA_V2_IMAGE_NAME)
    content = read_json(path, "vqa_v2")
    questions = objects_in(content, "questions")
    if questions is None:
        advice = f"give the VQA v2 file of questions{_or_else(content, 'vqa_v2')}"
        raise InputError(f'annotations: {path} has no list "questions"; {advice}')
    annotations = [] if answers is None else objects_in(read_json(answers, "vqa_v2", "answers"), "annotations")
    if annotations is None:
        raise InputError(f'answers: {answers} has no list "annotations"; give the VQA v2 file of annotations')

    def rows() -> Iterator[Row]:
        asked = {id_key(q["question_id"]) for q in questions if is_whole_id(q.get("question_id"))}
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
            image = _numbered(template, question.get("image_id"))
            if image is None:
                yield Row(f"question {i}", None, problem=NO_IMAGE_ID)
            elif not is_whole_id(question.get("question_id")):
                yield Row(f"question {i}", image, problem=NO_QUESTION_ID)
            else:
                given = answers_of(annotation.get("answers")) if answers is not None else []
                yield question_row(f"question {i}", image, question | types, given, unanswered=answers is None)
        yield from unused

    return without_duplicates(rows(), "question_id", DUPLICATE_QUESTION)


def vg_qa_rows(path: Path, image_name: str | None) -> Iterator[Row]:
    """A row per question of Visual Genome's question_answers.json, in its order.

    image_name: template of the image path, default BY_ID. InputError: of another structure, no template.
    """
    template = checked_template(image_name, BY_ID)
    images = read_json(path, "vg_qa")
    if not isinstance(images, list):
        raise InputError(
            f"annotations: {path} holds no list of images; give Visual Genome's question_answers.json"
            f"{_or_else(images, 'vg_qa')}"
        )

    def rows() -> Iterator[Row]:
        for i, image in enumerate(images):
            qas = objects_in(image, "qas")
            if qas is None:
                yield Row(f"image {i}", None, problem=NO_QAS)
            for j, qa in enumerate(qas or []):
                name = _numbered(template, qa["image_id"] if "image_id" in qa else image.get("id"))
                where = f"image {i} qa {j}"
                if name is None:
                    yield Row(where, None, problem=NO_IMAGE_ID)
                elif not is_whole_id(qa.get("qa_id")):
                    yield Row(where, name, problem=NO_QA_ID)
                else:
                    item = {"question": qa.get("question"), "question_id": qa["qa_id"]}
                    yield question_row(where, name, item, [] if qa.get("answer") is None else [qa["answer"]])

    return without_duplicates(rows(), "question_id", DUPLICATE_QUESTION)


def _numbered(template: str, image_id: object) -> str | None:
    return image_path(template, image_id) if isinstance(image_id, int) else None


def _or_else(content: object, structure: str) -> str:
    better = structure_of(content)
    return "" if better in (None, structure) else f", or use --from {better}"
