"""What an experiment's picture shows: every seed of every arm as a dot, or of few arms the way to there."""

import statistics
from pathlib import Path

from matplotlib.figure import Figure

from experiments.experiment import Experiment
from experiments.results import Outcome

DIGEST = "Description"
"""The field of a PNG that says from which results it was drawn."""
FEW = 3


def draw(experiment: Experiment, outcomes: dict[str, dict[int, Outcome]], out: Path, digest: str) -> None:
    """One panel for each column that is compared."""
    there = {arm: list(seeds.values()) for arm, seeds in outcomes.items() if seeds}
    figure = (_curves if len(there) <= FEW else _dots)(experiment, there)
    figure.savefig(out, dpi=100, metadata={DIGEST: digest})


def _dots(experiment: Experiment, there: dict[str, list[Outcome]]) -> Figure:
    figure = Figure(figsize=(4 + 2.4 * len(experiment.compared), 1 + 0.28 * len(there)), layout="constrained")
    panels = figure.subplots(1, len(experiment.compared), sharey=True, squeeze=False)[0]
    for panel, column in zip(panels, experiment.compared, strict=True):
        for row, ran in enumerate(there.values()):
            values = [one.figures[column] for one in ran if column in one.figures]
            if values:
                panel.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.4, markersize=5)
                panel.plot(statistics.mean(values), row, "|", color="black", markersize=12)
        panel.set_title(experiment.columns[column], fontsize=9)
        panel.grid(alpha=0.3)
    panels[0].set_yticks(range(len(there)), [experiment.arms[arm].title for arm in there], fontsize=8)
    panels[0].invert_yaxis()
    return figure


def _curves(experiment: Experiment, there: dict[str, list[Outcome]]) -> Figure:
    figure = Figure(figsize=(4 * len(experiment.compared), 3.4), layout="constrained")
    panels = figure.subplots(1, len(experiment.compared), squeeze=False)[0]
    for panel, column in zip(panels, experiment.compared, strict=True):
        for number, (arm, ran) in enumerate(there.items()):
            for i, one in enumerate(ran):
                points = [(row["pairs"], row[column]) for row in one.curve if column in row]
                title = experiment.arms[arm].title if i == 0 else None
                panel.plot(*zip(*points, strict=True), marker=".", color=f"C{number}", alpha=0.7, label=title)
        panel.set_title(experiment.columns[column], fontsize=9)
        panel.set_xlabel("pairs seen", fontsize=8)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    return figure
