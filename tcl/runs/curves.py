"""The curves of a run, drawn from its metrics.jsonl."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tcl.errors import InputError
from tcl.runs.metrics_file import read_metrics

NO_LOSSES = (
    *("step", "epoch", "loss", "grad_norm", "temperature", "bias"),
    *("learning_rate", "samples_per_second", "data_wait", "eta_seconds"),
)
"""What else rows of steps hold, beside accuracies and what these are without learning."""
SUFFIXES = (".png", ".svg", ".pdf")


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


def plot_run(run: Path, out: Path | None = None) -> Path:
    """Losses, accuracies beside their priors, and evaluations against the step; returns the picture's path.

    out: RUN/curves.png where not given. InputError: as `read_rows`, another suffix than SUFFIXES, an `out` that
    cannot be written.
    """
    out = out or run / "curves.png"
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"out: {out} ends in {out.suffix or 'nothing'}; accepted: {', '.join(SUFFIXES)}")
    rows, _ = read_rows(run)
    figure = Figure(figsize=(15, 4.5))
    losses, told, score = figure.subplots(1, 3)
    for name in loss_names(rows):
        _draw(losses, rows, name)
    losses.set(title="losses", xlabel="step", yscale="log" if losses.lines else "linear")
    for name in _names_of_steps(rows):
        if name.endswith("accuracy"):
            _draw(told, rows, name, name.replace("itm_accuracy", "ITM accuracy"))
        elif name.endswith("_prior"):
            prior = _with(rows, name)[0][name]
            told.axhline(prior, color="gray", linestyle="--", label=f"{name.removesuffix('_prior')}, nothing learned")
    told.set(title="told right in training", xlabel="step")
    for name in ("i2t_r1", "t2i_r1", "i2t_r10", "t2i_r10"):
        _draw(score, rows, f"eval_{name}", name, "--", marker=".")
        _draw(score, rows, f"eval_rerank_{name}", f"{name} re-ranked", "-", marker=".")
    _draw(score, rows, "eval_accuracy", "accuracy", "-", marker=".")
    score.set(title="evaluation, %", xlabel="step")
    for axes in (losses, told, score):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    figure.tight_layout()
    try:
        figure.savefig(out, dpi=110)
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror}); name another file") from error
    return out


def loss_names(rows: list[dict]) -> list[str]:
    """Each loss of a run, less their total."""
    no_losses = ("accuracy", "_prior")
    return [name for name in _names_of_steps(rows) if name not in NO_LOSSES and not name.endswith(no_losses)]


def _names_of_steps(rows: list[dict]) -> list[str]:
    """The numbers that rows of steps hold, in their order."""
    steps = [row for row in rows if "loss" in row]
    names = dict.fromkeys(name for row in steps for name in row)
    return [name for name in names if _with(steps, name)]


def _is_number(value: object) -> bool:
    """One that can be drawn: neither infinite nor NaN, nor an integer beyond all floats."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _with(rows: Iterable[dict], name: str) -> list[dict]:
    """Those in which `name` is a number."""
    return [row for row in rows if _is_number(row.get(name))]


def _draw(axes: Axes, rows: list[dict], name: str, label: str | None = None, *style: str, **options: str) -> None:
    """The values of `name` against the step, where there are any."""
    points = _with(rows, name)
    if points:
        x, y = ([row[field] for row in points] for field in ("step", name))
        axes.plot(x, y, *style, label=label or name, **options)
