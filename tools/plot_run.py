"""Draw the curves of a run from its metrics.jsonl.

python tools/plot_run.py --run runs/pretrain [--out runs/pretrain/curves.png]
"""

import sys
from pathlib import Path

import jsonargparse
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from tcl.errors import InputError
from tcl.runs.metrics_file import read_metrics as read_metrics_file

LOSSES = ("i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text", "itm", "mlm")


def read_metrics(run: Path) -> list[dict]:
    """Rows of RUN/metrics.jsonl. InputError: there is none, or it is empty."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"run: {path} does not exist; name the output_dir of a run")
    rows = read_metrics_file(path).rows
    if not rows:
        raise InputError(f"run: {path} is empty; let the run take a few steps first")
    return rows


def plot_run(run: Path, out: Path | None = None) -> Path:
    """Losses, ITM accuracy beside its prior, and recalls against the step; returns the picture's path."""
    rows = read_metrics(run)
    figure, (losses, itm, recall) = plt.subplots(1, 3, figsize=(15, 4.5))
    steps = [row for row in rows if "loss" in row]
    for name in LOSSES:
        if steps and name in steps[0]:
            losses.plot([row["step"] for row in steps], [row[name] for row in steps], label=name)
    losses.set(title="losses", xlabel="step", yscale="log")
    if steps and "itm_accuracy" in steps[0]:
        itm.plot([row["step"] for row in steps], [row["itm_accuracy"] for row in steps], label="ITM accuracy")
        itm.axhline(steps[0]["itm_prior"], color="gray", linestyle="--", label='always "no match"')
    itm.set(title="image-text matching", xlabel="step")
    evaluations = [row for row in rows if "eval_i2t_r1" in row]
    for name in ("i2t_r1", "t2i_r1", "i2t_r10", "t2i_r10"):
        for prefix, style in (("eval_", "--"), ("eval_rerank_", "-")):
            if evaluations and prefix + name in evaluations[0]:
                points = [row[prefix + name] for row in evaluations]
                label = name if prefix == "eval_" else f"{name} re-ranked"
                recall.plot([row["step"] for row in evaluations], points, style, marker=".", label=label)
    recall.set(title="zero-shot retrieval, recall in %", xlabel="step")
    for axes in (losses, itm, recall):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    figure.tight_layout()
    out = out or run / "curves.png"
    figure.savefig(out, dpi=110)
    plt.close(figure)
    return out


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description="Draw the curves of a run.")
    parser.add_function_arguments(plot_run)
    try:
        print(plot_run(**vars(parser.parse_args())))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
