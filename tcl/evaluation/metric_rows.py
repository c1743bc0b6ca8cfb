"""Recalls and median ranks as a table that people read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tcl.evaluation.recall import CUTS

DIRECTIONS = {"i2t": "Image to text", "t2i": "Text to image"}
STAGES = {
    "": "by embedding",
    "quantised": "by codes",
    "rescored": "re-scored",
    "transductive": "re-scored by each other",
    "rerank": "re-ranked",
}
"""What the prefix of a metric says, in the order of the stages."""


@dataclass(frozen=True)
class MetricRow:
    """One direction in one stage."""

    direction: str
    stage: str
    recalls: Sequence[float]
    """In percent, at each of `tcl.evaluation.recall.CUTS`."""
    median: float
    """Of the ranks of first right answers."""


def metric_rows(metrics: dict[str, float]) -> list[MetricRow]:
    """Of metrics named as `rank_metrics` names them, with the prefixes of STAGES."""
    prefixes = {found[1] or "" for found in (re.fullmatch(r"(?:(.+)_)?i2t_r1", name) for name in metrics) if found}
    order = [*STAGES, *sorted(prefixes - STAGES.keys())]
    rows = []
    for short, direction in DIRECTIONS.items():
        for prefix in sorted(prefixes, key=order.index):
            name = f"{prefix}_{short}" if prefix else short
            recalls = [metrics[f"{name}_r{cut}"] for cut in CUTS]
            rows.append(MetricRow(direction, STAGES.get(prefix, prefix), recalls, metrics[f"{name}_median_rank"]))
    return rows
