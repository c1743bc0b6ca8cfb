"""How well expressions were grounded, and how well one does without looking at the text."""

from collections.abc import Sequence

from tcl.data.sets.grounding_set import Expression
from tcl.evaluation.box_overlap import HIT, holds, iou
from tcl.evaluation.ground_expressions import Grounded


def grounding_metrics(found: Sequence[Grounded]) -> dict[str, float]:
    """Of N >= 1 expressions, in percent: `accuracy` (share of boxes with an IoU of at least 0.5), `pointing` (of maps
    whose maximum lies in the right box), `mean_iou`; how many maps were `blank`, without a score above 0, and had
    their box chosen without them; and how many expressions had `no_proposals`.

    With the prefix blind_, what is right without reading the text: a random proposal (`random`, expected), the largest
    one (`largest`) and for the pointing the middle of the image (`middle`).
    """
    count = len(found)
    asked = [one.expression for one in found]
    return {
        "accuracy": 100 * sum(one.right for one in found) / count,
        "pointing": 100 * sum(one.pointed for one in found) / count,
        "mean_iou": 100 * sum(one.iou for one in found) / count,
        "blank": float(sum(one.located.blank for one in found)),
        "no_proposals": float(sum(not expression.proposals for expression in asked)),
        "blind_random": 100 * sum(map(_by_chance, asked)) / count,
        "blind_largest": 100 * sum(map(_by_size, asked)) / count,
        "blind_middle": 100 * sum(_in_the_middle(expression) for expression in asked) / count,
    }


def report_line(metrics: dict[str, float], count: int) -> str:
    """For the person watching."""
    blank = f"; {metrics['blank']:.0f} maps without a score above 0" if metrics["blank"] else ""
    return (
        f"{count:,} expressions: box {metrics['accuracy']:.2f} % (blind: random {metrics['blind_random']:.1f}, largest "
        f"{metrics['blind_largest']:.1f}), pointing {metrics['pointing']:.2f} % (middle "
        f"{metrics['blind_middle']:.1f}){blank}"
    )


def _by_chance(asked: Expression) -> float:
    if not asked.proposals:
        return 0.0
    return sum(iou(asked.box, box) >= HIT for box in asked.proposals) / len(asked.proposals)


def _by_size(asked: Expression) -> bool:
    """Without proposals, the whole image."""
    height, width = asked.size
    largest = max(asked.proposals, key=lambda box: box[2] * box[3], default=(0.0, 0.0, width, height))
    return iou(asked.box, largest) >= HIT


def _in_the_middle(asked: Expression) -> bool:
    height, width = asked.size
    return holds(asked.box, width / 2, height / 2)
