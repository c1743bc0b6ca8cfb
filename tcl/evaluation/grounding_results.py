"""What was found for each expression, for programs."""

import json
from collections.abc import Sequence
from pathlib import Path

from tcl.evaluation.ground_expressions import Grounded
from tcl.evaluation.page import write_text


def write_grounding_results(path: Path, found: Sequence[Grounded]) -> None:
    """One line of JSON for each expression, in the order given. InputError: the file cannot be written.

    Keys: id, text, box (the right one), found (the box that was found), proposal (its place among the proposals, null:
    made from the map), score, iou, right, point ([x, y] or null), pointed, blank.
    """
    lines = []
    for one in found:
        asked, located = one.expression, one.located
        line = {
            "id": asked.id,
            "text": asked.text,
            "box": asked.box,
            "found": located.box,
            "proposal": located.proposal,
            "score": located.score,
            "iou": one.iou,
            "right": one.right,
            "point": located.point,
            "pointed": one.pointed,
            "blank": located.blank,
        }
        lines.append(json.dumps(line) + "\n")
    write_text(path, "".join(lines))
