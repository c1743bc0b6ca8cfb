"""The structures of annotations that `tcl shards` reads, and which options go with which."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tcl.annotations.caption_rows import coco_rows, json_rows, jsonl_rows, karpathy_rows
from tcl.annotations.clip_rows import clip_rows
from tcl.annotations.folder_rows import folder_rows
from tcl.annotations.image_name import BY_ID, VQA_V2_IMAGE_NAME
from tcl.annotations.refcoco_rows import refcoco_rows
from tcl.annotations.row import Row, bounded
from tcl.annotations.statement_rows import nlvr2_rows, snli_ve_rows
from tcl.annotations.table_rows import csv_rows, tsv_rows
from tcl.annotations.vqa_rows import vqa_rows
from tcl.annotations.vqa_v2_rows import vg_qa_rows, vqa_v2_rows
from tcl.errors import InputError


@dataclass(frozen=True)
class Structure:
    """How annotations of one structure are read."""

    read: Callable[..., Iterator[Row]]
    """Takes the values of `options`, in their order."""
    options: tuple[str, ...]


_COLUMNS = ("annotations", "image_column", "caption_column", "delimiter")

STRUCTURES = {
    "jsonl": Structure(jsonl_rows, ("annotations",)),
    "json": Structure(json_rows, ("annotations",)),
    "csv": Structure(csv_rows, _COLUMNS),
    "tsv": Structure(tsv_rows, _COLUMNS),
    "folder": Structure(folder_rows, ("images",)),
    "coco": Structure(coco_rows, ("annotations",)),
    "karpathy": Structure(karpathy_rows, ("annotations", "split")),
    "vqa": Structure(vqa_rows, ("annotations", "image_name")),
    "vqa_v2": Structure(vqa_v2_rows, ("annotations", "answers", "image_name")),
    "vg_qa": Structure(vg_qa_rows, ("annotations", "image_name")),
    "refcoco": Structure(refcoco_rows, ("annotations", "split", "instances", "proposals", "image_name")),
    "snli_ve": Structure(snli_ve_rows, ("annotations", "image_name")),
    "nlvr2": Structure(nlvr2_rows, ("annotations",)),
    "clips": Structure(clip_rows, ("annotations",)),
}

IMAGE_NAME_HELP = f"path of an image by its id (default {VQA_V2_IMAGE_NAME} for vqa_v2, {BY_ID} for others)"


def read_rows(
    structure: str,
    annotations: Path | None = None,
    *,
    images: Path | None = None,
    split: str | None = None,
    answers: Path | None = None,
    instances: Path | None = None,
    proposals: Path | None = None,
    image_name: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    delimiter: str | None = None,
) -> Iterator[Row]:
    """Rows of annotations of one of STRUCTURES, in their order.

    annotations: their file; folder has none, but reads the folder `images`. split: for karpathy and refcoco, the splits
    to take, separated by commas. answers: for vqa_v2, the file of annotations. instances, proposals: for refcoco, see
    refcoco_rows. image_name: for vqa, vqa_v2, vg_qa, refcoco and snli_ve, a template of image paths. image_column,
    caption_column, delimiter: for csv and tsv, see csv_rows.
    InputError: a file that is unreadable, empty, or of another structure; an option that is missing, impossible or of
    another structure.
    """
    if structure not in STRUCTURES:
        raise InputError(f"from: {structure!r} is not possible; accepted: {', '.join(STRUCTURES)}")
    given = {
        "annotations": annotations,
        "split": split,
        "answers": answers,
        "instances": instances,
        "proposals": proposals,
        "image_name": image_name,
        "image_column": image_column,
        "caption_column": caption_column,
        "delimiter": delimiter,
    }
    taken = STRUCTURES[structure].options
    for name, value in given.items():
        if value is not None and name not in taken:
            raise InputError(
                f"{name}: {str(value)!r} means nothing to --from {structure}; it is for {_takers(name)} alone"
            )
    if "annotations" in taken and annotations is None:
        raise InputError(f"annotations: none given; --from {structure} needs a file")
    values = given | {"images": images}
    return bounded(STRUCTURES[structure].read(*(values[name] for name in taken)))


def _takers(option: str) -> str:
    *others, last = (name for name, structure in STRUCTURES.items() if option in structure.options)
    return f"{', '.join(others)} and {last}" if others else last
