"""Boxes that a detector proposes, by image: --proposals of `tcl shards`."""

from pathlib import Path

from tcl.annotations.json_file import read_json
from tcl.annotations.row import is_whole_id
from tcl.data.boxes import NOT_A_BOX, box_problem
from tcl.errors import InputError


def read_proposals(path: Path) -> dict[str, list]:
    """Of {"image id": [[x, y, width, height, ...], ...]}, as ALBEF's dets.json, or of detections [{"image_id", "box" or
    "bbox"}, ...], as MAttNet and COCO have them: the boxes of each image, None for what is none.

    InputError: unreadable, or of another structure.
    """
    content = read_json(path, "JSON", "proposals")
    found: dict[str, list] = {}
    if isinstance(content, dict):
        found = {key: [_four(box) for box in boxes] for key, boxes in content.items() if isinstance(boxes, list)}
    elif isinstance(content, list):
        for one in content:
            if isinstance(one, dict) and is_whole_id(one.get("image_id")):
                box = one["box"] if one.get("box") is not None else one.get("bbox")
                found.setdefault(str(one["image_id"]), []).append(_four(box))
    if not any(box is not None for boxes in found.values() for box in boxes):
        raise InputError(
            f"proposals: {path} holds no boxes; give {{image id: [[x, y, width, height], ...]}}, or a list of "
            f'{{"image_id", "box"}}'
        )
    return found


def _four(box: object) -> list | None:
    """x, y, width, height, without what a detector says beside them; None: it is no box."""
    return box[:4] if isinstance(box, list) and box_problem(box[:4]) != NOT_A_BOX else None
