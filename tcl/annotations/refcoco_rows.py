"""Rows of expressions with the boxes that they mean, in the forms in which RefCOCO and its like are passed on: refcoco
of `tcl shards`."""

from collections.abc import Iterator
from pathlib import Path

from tcl.annotations.expression_rows import Said, rows_of_images
from tcl.annotations.image_name import BY_ID, checked_template, image_path
from tcl.annotations.json_file import BadLine, read_json, read_lines_or_json
from tcl.annotations.proposals_file import read_proposals
from tcl.annotations.recognise import structure_of
from tcl.annotations.row import NO_IMAGE_KEY, Row, id_key, is_whole_id, objects_in
from tcl.errors import InputError

UNKNOWN_IMAGE = "annotation of no image in the file"
UNKNOWN_ANNOTATION = 'no annotation with this "ann_id" in the instances'
NO_SENTENCES = 'no "sentences"'
"""Causes of a skipped row."""

TEXTS = ("text", "sentence", "sent", "caption")
BOXES = ("box", "bbox")
IDS = ("ref_id", "id")
"""Names of one thing, in the order in which they count."""

Items = list[tuple[str, object]]
"""What stands where in a file."""


def refcoco_rows(
    path: Path, split: str | None, instances: Path | None, proposals: Path | None, image_name: str | None
) -> Iterator[Row]:
    """A row for each image, with all expressions about it, and one for each expression that cannot be used.

    The file has rows {"image" or "image_id", "text", "box" (x, y, width, height), perhaps "ref_id", "height", "width",
    "proposals", "split"}, one per line or in a list; or is MDETR's (COCO with a "caption" for each image); or refer's
    list of references, as JSON, with its instances.json as `instances`. Without any box they are to train on. split:
    those to take, separated by commas, needed where the file has any. proposals: see read_proposals. image_name:
    template of the path of an image that is named by its id alone, default BY_ID.
    InputError: files of another structure, a split that is missing or not there, no template.
    """
    template = checked_template(image_name, BY_ID)
    if path.suffix in (".p", ".pkl", ".pickle"):
        raise InputError(
            f"annotations: {path} is a pickle, which could run code when it is read; write what it holds as JSON and "
            f"give that"
        )
    lines, content = read_lines_or_json(path, "refcoco")
    choices = {} if proposals is None else read_proposals(proposals)
    items: Items = list(lines) if lines is not None else [(f"item {i}", one) for i, one in enumerate(_listed(content))]
    if any(isinstance(item, dict) and "sentences" in item for _, item in items):
        said = _of_refer(_of_splits(items, split, path), instances, path, template)
    elif instances is not None:
        raise InputError(f"instances: {instances} means nothing to {path}; it is for refer's list of references alone")
    elif lines is None and isinstance(content, dict):
        said = _of_mdetr(content, split, path)
    elif lines is None and not isinstance(content, list):
        raise InputError(f"annotations: {path} {_mistaken(content)}")
    else:
        if lines is None and structure_of(content) in ("vqa", "vg_qa"):
            raise InputError(f"annotations: {path} {_mistaken(content)}")
        said = [_of_row(where, item, template) for where, item in _of_splits(items, split, path)]
    return rows_of_images(said, choices)


def _listed(content: object) -> list:
    return content if isinstance(content, list) else []


def _mistaken(content: object) -> str:
    better = structure_of(content)
    if better not in (None, "refcoco"):
        return f"holds no expressions with boxes; is it --from {better}?"
    return 'holds no expressions; give rows {"image", "text", "box"}, or a file of MDETR or refer'


def _of_splits(items: Items, split: str | None, path: Path) -> Items:
    """The items of the splits that are asked for; with those that name none, to be told of."""
    named = [item.get("split") if isinstance(item, dict) else None for _, item in items]
    there = list(dict.fromkeys(name for name in named if isinstance(name, str)))  # in order of first appearance
    if split is None:
        if len(there) > 1:
            raise InputError(f"split: none given, but {path} has several; give some of {', '.join(there)}")
        return items
    chosen = [name.strip() for name in split.split(",")]
    unknown = next((name for name in chosen if name not in there), None)
    if unknown is not None:
        accepted = f"accepted: {', '.join(there)}" if there else "it has no splits, so give none"
        raise InputError(f"split: {unknown!r} is not in {path}; {accepted}")
    return [item for item, name in zip(items, named, strict=True) if name in chosen or not isinstance(name, str)]


def _of_row(where: str, item: object, template: str) -> Said:
    if isinstance(item, BadLine):
        return Said(where, problem=item.cause)
    if not isinstance(item, dict):
        return Said(where, problem=NO_IMAGE_KEY)
    image = item.get("image")
    return Said(
        where,
        image_path(template, item.get("image_id")) if image is None else image,
        _first(item, TEXTS),
        _first(item, BOXES),
        _first(item, IDS),
        item.get("image_id"),
        item.get("height"),
        item.get("width"),
        item.get("proposals"),
    )


def _of_mdetr(content: dict, split: str | None, path: Path) -> Iterator[Said]:
    """An expression for each of "images", which are there once for each, then the annotations of none."""
    images, annotations = objects_in(content, "images"), objects_in(content, "annotations")
    is_mdetr = structure_of(content) == "refcoco"
    if images is None or annotations is None or not is_mdetr:
        raise InputError(f"annotations: {path} {_mistaken(content)}")
    if split is not None:
        raise InputError(f"split: {split!r} is not in {path}; it has no splits, so give none")
    box_of, orphans = {}, []
    known = {id_key(image.get("id")) for image in images if is_whole_id(image.get("id"))}
    for i, annotation in enumerate(annotations):
        key = id_key(annotation.get("image_id"))
        if key is None or key not in known:
            orphans.append(Said(f"annotation {i}", problem=UNKNOWN_IMAGE))
        else:
            box_of.setdefault(key, _first(annotation, BOXES))

    def said() -> Iterator[Said]:
        for i, image in enumerate(images):
            number = _first(image, ("original_id",))
            yield Said(
                f"image {i}",
                image.get("file_name"),
                image.get("caption"),
                box_of.get(id_key(image.get("id"))),
                image.get("id"),
                number,
                image.get("height"),
                image.get("width"),
            )
        yield from orphans

    return said()


def _of_refer(references: Items, instances: Path | None, path: Path, template: str) -> Iterator[Said]:
    """An expression for each sentence of a reference."""
    if instances is None:
        raise InputError(f"instances: none given; the boxes of {path}, a list of refer's, are in its instances.json")
    content = read_json(instances, "refcoco", "instances")
    images, annotations = objects_in(content, "images"), objects_in(content, "annotations")
    if images is None or annotations is None:
        raise InputError(
            f'instances: {instances} has no lists "images" and "annotations"; give refer\'s instances.json'
        )
    image_of, annotation_of = _by_id(images), _by_id(annotations)

    def said() -> Iterator[Said]:
        for where, item in references:
            reference = item if isinstance(item, dict) else {}
            image = image_of.get(id_key(reference.get("image_id")), {})
            annotation = annotation_of.get(id_key(reference.get("ann_id")))
            sentences = reference.get("sentences")
            file = image.get("file_name") or image_path(template, reference.get("image_id"))
            if annotation is None or not isinstance(sentences, list) or not sentences:
                problem = UNKNOWN_ANNOTATION if annotation is None else NO_SENTENCES
                yield Said(where, file, problem=problem)
                continue
            for j, sentence in enumerate(sentences):
                told = sentence if isinstance(sentence, dict) else {"sent": sentence}
                yield Said(
                    f"{where} sentence {j}",
                    file,
                    _first(told, ("sent", "raw")),
                    _first(annotation, BOXES),
                    _first(told, ("sent_id",)),
                    reference.get("image_id"),
                    image.get("height"),
                    image.get("width"),
                )

    return said()


def _by_id(objects: list[dict]) -> dict[str, dict]:
    return {id_key(one["id"]): one for one in objects if is_whole_id(one.get("id"))}


def _first(item: dict, names: tuple[str, ...]) -> object:
    return next((item[name] for name in names if item.get(name) is not None), None)
