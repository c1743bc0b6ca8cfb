"""Rows of the annotation files that hold captions: jsonl, json, coco and karpathy of `tcl shards`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tcl.annotations.json_file import BadLine, read_json, read_json_lines
from tcl.annotations.recognise import structure_of
from tcl.annotations.row import NO_IMAGE_KEY, Row, id_key, is_id, objects_in, without_duplicates
from tcl.data.texts.sample_texts import EMPTY_CAPTION, NOT_TEXT
from tcl.errors import InputError

UNKNOWN_IMAGE = "annotation of no image in the file"
NO_SPLIT = 'no "split"'
NO_COCO_ID = 'no "id"'
NO_IMAGE_ID = 'no "cocoid" or "imgid"'
DUPLICATE_IMAGE = "duplicate image id"
"""Causes of a skipped row."""

LIKE_CAPTIONS = ("text", "txt", "sentence", "sentences", "description", "title", "Caption", "question")
"""What people call the captions of a row whose "caption" is missed."""


def jsonl_rows(path: Path) -> Iterator[Row]:
    """Rows of lines {"image", "captions" or "caption"}. InputError: see read_json_lines."""
    lines = read_json_lines(path, "jsonl")
    return (
        Row(where, None, problem=item.cause) if isinstance(item, BadLine) else caption_row(where, item)
        for where, item in lines
    )


def json_rows(path: Path) -> Iterator[Row]:
    """Rows of a list [{"image", "caption" or "captions"}]. InputError: unreadable, or no list."""
    content = read_json(path, "json")
    if not isinstance(content, list):
        better = f"--from {structure_of(content)}" if structure_of(content) else "jsonl, or coco"
        raise InputError(f"annotations: {path} holds no list of rows, as --from json needs; is it {better}?")
    return (caption_row(f"item {i}", item) for i, item in enumerate(content))


def caption_row(where: str, item: object) -> Row:
    """The row of {"image", "captions" or "caption"}; captions that are null or blank are dropped from others."""
    if not isinstance(item, dict) or not isinstance(item.get("image"), str) or not item["image"]:
        return Row(where, None, problem=NO_IMAGE_KEY)
    captions = item["captions"] if item.get("captions") is not None else item.get("caption")
    captions = [] if captions is None else [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(caption, str | None) for caption in captions):
        return Row(where, item["image"], problem=NOT_TEXT)
    kept = [caption for caption in captions if caption is not None and caption.strip()]
    if not kept:
        return Row(where, item["image"], problem=_why_no_caption(item))
    sample = {"captions": kept, "image": item["image"]}
    return Row(where, item["image"], sample, blank_captions=len(captions) - len(kept))


def _why_no_caption(item: dict) -> str:
    if "caption" in item or "captions" in item:
        return EMPTY_CAPTION
    other = next((name for name in LIKE_CAPTIONS if name in item), None)
    if other is None:
        return EMPTY_CAPTION
    return f'no "caption", but "{other}"; ' + ("use --from vqa" if other == "question" else "rename it")


def coco_rows(path: Path) -> Iterator[Row]:
    """A row per image of a COCO captions file, then the annotations of none. InputError: of another structure."""
    content = read_json(path, "coco")
    images, annotations = objects_in(content, "images"), objects_in(content, "annotations")
    if images is None or annotations is None:
        raise InputError(
            f'annotations: {path} has no lists "images" and "annotations", which --from coco needs{_is_it(content)}'
        )
    if annotations and not any("caption" in annotation for annotation in annotations):
        advice = f"give a COCO captions file{_is_it(content) if structure_of(content) != 'coco' else ''}"
        raise InputError(f'annotations: {path} has no "caption" in its annotations; {advice}')

    def rows() -> Iterator[Row]:
        captions: dict[str, list] = {id_key(image.get("id")): [] for image in images if is_id(image.get("id"))}
        orphans = []
        for i, annotation in enumerate(annotations):
            of_image = captions.get(id_key(annotation.get("image_id")))
            if of_image is None:
                orphans.append(Row(f"annotation {i}", None, problem=UNKNOWN_IMAGE))
            else:
                of_image.append(annotation.get("caption"))
        for i, image in enumerate(images):
            item = {"image": image.get("file_name"), "captions": captions.get(id_key(image.get("id")), [])}
            yield _with_id(caption_row(f"image {i}", item), image.get("id"), NO_COCO_ID)
        yield from orphans

    return without_duplicates(rows(), "image_id", DUPLICATE_IMAGE)


def _is_it(content: object) -> str:
    better = structure_of(content)
    return "" if better is None else f"; is it --from {better}?"


def karpathy_rows(path: Path, split: str | None) -> Iterator[Row]:
    """A row per image of the splits that `split` names, separated by commas; images of other splits are no rows.

    InputError: no split, one that the file has not, a file of another structure.
    """
    if split is None:
        raise InputError("split: none given; --from karpathy needs one, such as train,restval")
    content = read_json(path, "karpathy")
    images = objects_in(content, "images")
    # In order of first appearance.
    there = list(dict.fromkeys(image["split"] for image in images or [] if isinstance(image.get("split"), str)))
    if not there:
        raise InputError(
            f'annotations: {path} has no list "images" with "split", which --from karpathy needs{_is_it(content)}'
        )
    chosen = [name.strip() for name in split.split(",")]
    unknown = next((name for name in chosen if name not in there), None)
    if unknown is not None:
        raise InputError(f"split: {unknown!r} is not in {path}; accepted: {', '.join(there)}")

    def rows() -> Iterator[Row]:
        for i, image in enumerate(images):
            if not isinstance(image.get("split"), str):
                yield Row(f"image {i}", None, problem=NO_SPLIT)
            elif image["split"] in chosen:
                yield _karpathy_row(f"image {i}", image)

    return without_duplicates(rows(), "image_id", DUPLICATE_IMAGE)


def _karpathy_row(where: str, image: dict) -> Row:
    name, folder = image.get("filename"), image.get("filepath")
    name = f"{folder}/{name}" if isinstance(name, str) and name and isinstance(folder, str) and folder else name
    image_id = image["cocoid"] if image.get("cocoid") is not None else image.get("imgid")
    sentences = image["sentences"] if isinstance(image.get("sentences"), list) else []
    captions = [sentence.get("raw") if isinstance(sentence, dict) else sentence for sentence in sentences]
    return _with_id(caption_row(where, {"image": name, "captions": captions}), image_id, NO_IMAGE_ID)


def _with_id(row: Row, image_id: object, problem: str) -> Row:
    if row.problem == NO_IMAGE_KEY:
        return row
    if not is_id(image_id):
        return Row(row.where, row.image, problem=problem)
    return row if row.problem is not None else replace(row, sample=row.sample | {"image_id": image_id})
