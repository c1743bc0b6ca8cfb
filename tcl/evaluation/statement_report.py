"""What a classification of statements found: accuracy in percent, tables of the classes, and a line for each text."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tcl.data.shards.bad_sample import counted
from tcl.evaluation.classify_statements import ClassifiedStatements


def statement_metrics(found: ClassifiedStatements, classes: Sequence[str]) -> dict[str, float]:
    """In percent: accuracy, and recall_<class> of each class that some statement has."""
    right, labels = found.predicted == found.labels, found.labels
    metrics = {"accuracy": _percent(right)}
    for place, name in enumerate(classes):
        if (labels == place).any():
            metrics[f"recall_{name.lower()}"] = _percent(right[labels == place])
    return metrics


def confusion(found: ClassifiedStatements, classes: int) -> Tensor:
    """[classes, classes] int64: of each right class (row), how many statements were taken for which (column)."""
    return torch.bincount(found.labels * classes + found.predicted, minlength=classes**2).view(classes, classes)


def statement_line(found: ClassifiedStatements, metrics: dict[str, float]) -> str:
    """For the person watching."""
    skipped = f"; skipped {counted(found.bad)}" if found.bad else ""
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in metrics.items())
    return f"{len(found.keys):,} texts: {shown}{skipped}"


def write_statement_report(folder: Path, found: ClassifiedStatements, classes: Sequence[str]) -> None:
    """classes.csv, a row for each class; confusion.csv, right classes by predicted ones; predictions.jsonl, a line for
    each text. OSError."""
    table = confusion(found, len(classes))
    with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["class", "texts", "predicted", "right", "recall", "precision", "f1"])
        for place, name in enumerate(classes):
            rows.writerow([name, *_class_row(table, place)])
    with (folder / "confusion.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["right class", *classes])
        rows.writerows([name, *counts] for name, counts in zip(classes, table.tolist(), strict=True))
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for key, told, place, each in zip(
            found.keys, found.told, found.predicted.tolist(), found.probabilities.tolist(), strict=True
        ):
            line = {"key": key, "identifier": told.identifier, "text": told.text, "label": classes[told.label]}
            line |= {"predicted": classes[place], "probabilities": dict(zip(classes, each, strict=True))}
            file.write(json.dumps(line) + "\n")


def _class_row(table: Tensor, place: int) -> list[object]:
    """Counts, and recall, precision and their harmonic mean in percent, empty where there is nothing to divide by."""
    texts, predicted, right = (int(n) for n in (table[place].sum(), table[:, place].sum(), table[place, place]))
    shares = ((right, texts), (right, predicted), (2 * right, texts + predicted))
    return [texts, predicted, right, *(f"{100 * part / whole:.2f}" if whole else "" for part, whole in shares)]


def _percent(right: Tensor) -> float:
    return 100 * right.double().mean().item()
