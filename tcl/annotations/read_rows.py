"""The structures of annotation files that `tcl shards` reads, and which options go with which."""

from collections.abc import Iterator
from pathlib import Path

from tcl.annotations.caption_rows import coco_rows, json_rows, jsonl_rows, karpathy_rows
from tcl.annotations.row import Row
from tcl.annotations.vqa_rows import VG_IMAGE_NAME, VQA_V2_IMAGE_NAME, vg_qa_rows, vqa_rows, vqa_v2_rows
from tcl.errors import InputError

STRUCTURES = ("jsonl", "json", "coco", "karpathy", "vqa", "vqa_v2", "vg_qa")

_TAKEN_BY = {"split": ("karpathy",), "answers": ("vqa_v2",), "image_name": ("vqa_v2", "vg_qa")}

IMAGE_NAME_HELP = f"path of an image by its number (default {VQA_V2_IMAGE_NAME} for vqa_v2, {VG_IMAGE_NAME} for vg_qa)"


def read_rows(
    structure: str,
    annotations: Path,
    *,
    split: str | None = None,
    answers: Path | None = None,
    image_name: str | None = None,
) -> Iterator[Row]:
    """Rows of an annotation file of one of STRUCTURES, in its order.

    split: for karpathy, the splits to take, separated by commas. answers: for vqa_v2, the file of annotations.
    image_name: for vqa_v2 and vg_qa, a template of image paths. InputError: a file that is unreadable, empty, or of
    another structure; an option that is missing, impossible or of another structure.
    """
    if structure not in STRUCTURES:
        raise InputError(f"from: {structure!r} is not possible; accepted: {', '.join(STRUCTURES)}")
    for name, value in (("split", split), ("answers", answers), ("image_name", image_name)):
        if value is not None and structure not in _TAKEN_BY[name]:
            takers = " and ".join(_TAKEN_BY[name])
            raise InputError(f"{name}: {str(value)!r} means nothing to --from {structure}; it is for {takers} alone")
    if structure == "karpathy":
        if split is None:
            raise InputError("split: none given; --from karpathy needs one, such as train,restval")
        return karpathy_rows(annotations, split)
    if structure == "vqa_v2":
        return vqa_v2_rows(annotations, answers, image_name)
    if structure == "vg_qa":
        return vg_qa_rows(annotations, image_name)
    return {"jsonl": jsonl_rows, "json": json_rows, "coco": coco_rows, "vqa": vqa_rows}[structure](annotations)
