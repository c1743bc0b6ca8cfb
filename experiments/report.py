"""The tables and pictures of docs/results.md, from experiments/results and from nothing else.

    python -m experiments.report [--write]

Prints them; --write puts each between its two comments in docs/results.md, and its picture beside. A test compares.
"""

import argparse
import hashlib
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import experiments
from experiments.experiment import Experiment
from experiments.pictures import draw
from experiments.results import Outcome, read_outcomes, result_path
from experiments.statistics import paired_difference, spread
from tcl.commands.one_line import end_with_one_line
from tcl.declared import declared, names_declared
from tcl.errors import InputError

PAGE = Path("docs/results.md")
FEW = 3
Outcomes = dict[str, dict[int, Outcome]]
"""By arm and seed."""


def outcomes_of(name: str) -> tuple[Experiment, Outcomes]:
    """The experiment, and what was found by the commands that it has now."""
    experiment = declared(experiments, "EXPERIMENT", name)
    return experiment, read_outcomes(result_path(name), experiment)


def render(name: str, experiment: Experiment, outcomes: Outcomes) -> str:
    """Markdown: the table of the arms, that of their differences where any are told, and the picture."""
    parts = [_figures(experiment, outcomes), _differences(experiment, outcomes), f"![{experiment.title}]({name}.png)"]
    return "\n\n".join([f"    python -m experiments {name}", *filter(None, parts)])


def _figures(experiment: Experiment, outcomes: Outcomes) -> str:
    headings = ["", "seeds", *experiment.columns.values(), "pairs", "processor minutes"]
    rows = []
    for arm, seeds in outcomes.items():
        if not seeds:
            continue
        ran = list(seeds.values())
        cells = [_mean_and_spread([one.figures[c] for one in ran if c in one.figures]) for c in experiment.columns]
        minutes = statistics.mean(one.cpu_minutes for one in ran)
        rows.append([experiment.arms[arm].title, str(len(ran)), *cells, f"{ran[0].pairs:,}", f"{minutes:.0f}"])
    return _table(headings, rows)


def _differences(experiment: Experiment, outcomes: Outcomes) -> str:
    rows = []
    for arm, other in experiment.against.items():
        both = sorted(outcomes[arm].keys() & outcomes[other].keys())
        if not both:
            continue
        cells = [
            _difference(*([outcomes[one][seed].figures.get(column) for seed in both] for one in (arm, other)))
            for column in experiment.compared
        ]
        titles = [experiment.arms[one].title for one in (arm, other)]
        rows.append([f"{titles[0]} against {titles[1]}", str(len(both)), *cells])
    headings = ["difference", "seeds", *(experiment.columns[column] for column in experiment.compared)]
    return _table(headings, rows) if rows else ""


def _mean_and_spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    deviation = spread(values)
    return f"{statistics.mean(values):.1f}" + ("" if math.isnan(deviation) else f" ± {deviation:.1f}")


def _difference(values: Sequence[float | None], others: Sequence[float | None]) -> str:
    """Bold where the interval leaves out 0. Of less than FEW seeds an interval says nothing."""
    if None in values or None in others:
        return ""
    found = paired_difference(values, others)
    if found.pairs < FEW:
        return f"{found.mean:+.1f}"
    said = f"{found.mean:+.1f} ({found.mean - found.half_width:+.1f} to {found.mean + found.half_width:+.1f})"
    return f"**{said}**" if found.is_sure else said


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def comments(name: str) -> tuple[str, str]:
    """Between which the page has the experiment `name`."""
    return f"<!-- python -m experiments.report: {name} -->", f"<!-- end of {name} -->"


def digest(name: str) -> str:
    """Of the results of `name`, kept within its picture."""
    return hashlib.sha256(result_path(name).read_bytes()).hexdigest()


def with_results(page: str) -> str:
    """`page` with every experiment that has results between its comments. InputError: one of them has none."""
    for name in names_declared(experiments, "EXPERIMENT"):
        if not result_path(name).exists():
            continue
        begin, end = comments(name)
        between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not between.search(page):
            raise InputError(f"{PAGE}: has no place for {name}; add the lines {begin} and {end}")
        page = between.sub(lambda _, n=name, b=begin, e=end: f"{b}\n{render(n, *outcomes_of(n))}\n{e}", page)
    return page


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"change {PAGE} and its pictures")
    page = with_results(PAGE.read_text())
    if not parser.parse_args(arguments).write:
        print(page)
        return
    PAGE.write_text(page)
    for name in names_declared(experiments, "EXPERIMENT"):
        if result_path(name).exists():
            draw(*outcomes_of(name), PAGE.with_name(f"{name}.png"), digest(name))


if __name__ == "__main__":
    end_with_one_line(main)
