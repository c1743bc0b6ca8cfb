"""Rows of the annotation files that hold captions: jsonl, json, coco and karpathy of `tcl shards`."""

from collections.abc import Iterator
from pathlib import Path

from tcl.annotations.row import BAD_JSON, NO_IMAGE_KEY, Row, id_key, objects_in, read_json, read_json_lines
from tcl.data.decode import EMPTY_CAPTION, NOT_TEXT
from tcl.errors import InputError

UNKNOWN_IMAGE = "annotation of no image in the file"
NO_SPLIT = 'no "split"'
NO_IMAGE_ID = 'no "cocoid" or "imgid"'
DUPLICATE_IMAGE = "duplicate image id"
"""Causes of a skipped row."""


def jsonl_rows(path: Path) -> Iterator[Row]:
    """Rows of lines {"image", "captions" or "caption"}. InputError: see read_json_lines."""
    lines = read_json_lines(path, "jsonl", if_list="json", if_object="coco")
    return (Row(where, None, problem=BAD_JSON) if item is None else _caption_row(where, item) for where, item in lines)


def json_rows(path: Path) -> Iterator[Row]:
    """Rows of a list [{"image", "caption" or "captions"}]. InputError: unreadable, or no list."""
    content = read_json(path, "json")
    if not isinstance(content, list):
        raise InputError(f"annotations: {path} holds no list of rows, as --from json needs; is it jsonl, or coco?")
    return (_caption_row(f"item {i}", item) for i, item in enumerate(content))


def _caption_row(where: str, item: object, extra: dict | None = None) -> Row:
    if not isinstance(item, dict) or not isinstance(item.get("image"), str) or not item["image"]:
        return Row(where, None, problem=NO_IMAGE_KEY)
    captions = item["captions"] if item.get("captions") is not None else item.get("caption")
    captions = [] if captions is None else [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        return Row(where, item["image"], problem=NOT_TEXT)
    kept = [caption for caption in captions if caption.strip()]
    if not kept:
        return Row(where, item["image"], problem=EMPTY_CAPTION)
    sample = {"captions": kept, "image": item["image"], **(extra or {})}
    return Row(where, item["image"], sample, blank_captions=len(captions) - len(kept))


def coco_rows(path: Path) -> Iterator[Row]:
    """A row per image of a COCO captions file, then the annotations of none. InputError: of another structure."""
    content = read_json(path, "coco")
    images, annotations = objects_in(content, "images"), objects_in(content, "annotations")
    if images is None or annotations is None:
        raise InputError(f'annotations: {path} has no lists "images" and "annotations", which --from coco needs')
    if annotations and not any("caption" in annotation for annotation in annotations):
        raise InputError(f'annotations: {path} has no "caption" in its annotations; give a COCO captions file')

    def rows() -> Iterator[Row]:
        captions: dict[str, list] = {id_key(image.get("id")): [] for image in images if "id" in image}
        orphans = []
        for i, annotation in enumerate(annotations):
            of_image = captions.get(id_key(annotation.get("image_id")))
            if of_image is None:
                orphans.append(Row(f"annotation {i}", None, problem=UNKNOWN_IMAGE))
            else:
                of_image.append(annotation.get("caption"))
        for i, image in enumerate(images):
            item = {"image": image.get("file_name"), "captions": captions.get(id_key(image.get("id")), [])}
            yield _caption_row(f"image {i}", item, {"image_id": image.get("id")})
        yield from orphans

    return rows()


def karpathy_rows(path: Path, split: str) -> Iterator[Row]:
    """A row per image of the splits that `split` names, separated by commas; images of other splits are no rows.

    InputError: of another structure, a split that the file has not.
    """
    images = objects_in(read_json(path, "karpathy"), "images")
    # In order of first appearance.
    there = list(dict.fromkeys(image["split"] for image in images or [] if isinstance(image.get("split"), str)))
    if not there:
        raise InputError(f'annotations: {path} has no list "images" with "split", which --from karpathy needs')
    chosen = [name.strip() for name in split.split(",")]
    unknown = next((name for name in chosen if name not in there), None)
    if unknown is not None:
        raise InputError(f"split: {unknown!r} is not in {path}; accepted: {', '.join(there)}")

    def rows() -> Iterator[Row]:
        seen = set()
        for i, image in enumerate(images):
            if not isinstance(image.get("split"), str):
                yield Row(f"image {i}", None, problem=NO_SPLIT)
            elif image["split"] in chosen:
                row = _karpathy_row(f"image {i}", image)
                key = id_key(row.sample.get("image_id"))
                if row.problem is None and key in seen:
                    row = Row(row.where, row.image, problem=DUPLICATE_IMAGE)
                elif row.problem is None:
                    seen.add(key)
                yield row

    return rows()


def _karpathy_row(where: str, image: dict) -> Row:
    name, folder = image.get("filename"), image.get("filepath")
    name = f"{folder}/{name}" if isinstance(name, str) and isinstance(folder, str) and folder else name
    image_id = image["cocoid"] if image.get("cocoid") is not None else image.get("imgid")
    if image_id is None:
        return Row(where, name if isinstance(name, str) else None, problem=NO_IMAGE_ID)
    captions = [sentence.get("raw") for sentence in objects_in(image, "sentences") or []]
    return _caption_row(where, {"image": name, "captions": captions}, {"image_id": image_id})
