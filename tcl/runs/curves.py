"""The curves of runs, drawn from their metrics.jsonl: a panel for each quantity."""

from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from tcl.errors import InputError
from tcl.runs.metrics_file import read_metrics
from tcl.runs.panels import Panel, panels_of, with_number
from tcl.shown import shown

SUFFIXES = (".png", ".svg", ".pdf")
COLUMNS = 4
DASHES = ("-", "--", ":", "-.")
WIDEST, THINNEST = 3.6, 1.2
"""Points, of the first and the last of several lines (runs, or numbers of one run): where they are the same, all are
seen."""
SINGLE = 1.5


def read_rows(run: Path) -> tuple[list[dict], int]:
    """Rows of RUN/metrics.jsonl, and how many others of its lines are no rows of a run.

    InputError: there is none, or no row in it.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"run: {path} does not exist; name the output_dir of a run")
    try:
        found = read_metrics(path)
    except OSError as error:
        raise InputError(f"run: {path} cannot be read ({error.strerror})") from error
    if not found.rows:
        raise InputError(f"run: {path} holds no row of a run; let the run take a few steps first")
    return found.rows, len(found.damaged)


def check_picture(out: Path) -> None:
    """InputError: another suffix than SUFFIXES."""
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"out: {out} ends in {out.suffix or 'nothing'}; accepted: {', '.join(SUFFIXES)}")


def plot_runs(runs: dict[str, list[dict]], out: Path) -> Path:
    """The rows of one run or several, by their names, against the step; returns the picture's path.

    Of one run, the lines of a panel have colours; of several, each run has one, and the lines of a panel are dashed
    differently. InputError: as `check_picture`, an `out` that cannot be written.
    """
    check_picture(out)
    panels = _merged([panels_of(rows) for rows in runs.values()])
    columns = min(COLUMNS, max(1, len(panels)))
    lines = -(-max(1, len(panels)) // columns)
    figure = Figure(figsize=(4 * columns, 3 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, runs)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if len(runs) > 1:
        handles = [Line2D([], [], color=f"C{i % 10}", linewidth=3) for i in range(len(runs))]
        names = [shown(name) for name in runs]
        figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(runs)), frameon=False)
    try:
        figure.savefig(out, dpi=110)
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror}); name another file") from error
    return out


def _merged(of_runs: list[list[Panel]]) -> list[Panel]:
    """Panels of the same title are one."""
    found: dict[str, Panel] = {}
    for panel in (panel for of_run in of_runs for panel in of_run):
        one = found.setdefault(panel.title, panel)
        one.series |= panel.series
        one.priors |= panel.priors
    return list(found.values())


def _draw_panel(axes: Axes, panel: Panel, runs: dict[str, list[dict]]) -> None:
    one = len(runs) == 1
    for number, (name, rows) in enumerate(runs.items()):
        for place, ((label, series), dash) in enumerate(zip(panel.series.items(), cycle(DASHES), strict=False)):
            points = with_number(rows, series)
            width = _width(place, len(panel.series)) if one else _width(number, len(runs))
            x, y = ([row[field] for row in points] for field in ("step", series))
            style = {"color": f"C{place % 10}"} if one else {"color": f"C{number % 10}", "linestyle": dash}
            marker = "." if len(points) < 30 else None
            if points:
                axes.plot(x, y, linewidth=width, marker=marker, label=label if one else f"{name}: {label}", **style)
        for label, prior in panel.priors.items():
            for row in with_number(rows, prior)[:1]:
                axes.axhline(row[prior], color="gray", linestyle="--", linewidth=1, label=label)
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.logarithmic and all(value > 0 for line in axes.lines for value in line.get_ydata()):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _add_legend(axes, panel, one)


def _width(place: int, count: int) -> float:
    return SINGLE if count == 1 else WIDEST - (WIDEST - THINNEST) * place / (count - 1)


def _add_legend(axes: Axes, panel: Panel, one: bool) -> None:
    """Of one run, of its lines; of several, of how they are dashed."""
    if one and len(panel.series) + len(panel.priors) > 1:
        axes.legend(fontsize=7)
    elif len(panel.series) > 1:
        dashes = [Line2D([], [], color="black", linestyle=dash) for dash, _ in zip(cycle(DASHES), panel.series)]
        axes.legend(dashes, list(panel.series), fontsize=7)
