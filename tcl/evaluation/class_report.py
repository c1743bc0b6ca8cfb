"""What a classification found: accuracies in percent, a table of the classes, and a line for each image."""

import csv
import json
from pathlib import Path

import torch
from torch import Tensor

from tcl.data.shards.bad_sample import counted
from tcl.evaluation.classify_images import Classified


def accuracies(found: Classified, classes: int) -> dict[str, float]:
    """In percent: top1, top5, and mean_per_class, the mean of the top-1 accuracies of those classes of the list (of so
    many) that some image belongs to."""
    hits = found.best == found.labels[:, None]
    images = torch.bincount(found.labels, minlength=classes)
    right = torch.bincount(found.labels[hits[:, 0]], minlength=classes)
    there = images > 0
    return {
        "top1": 100 * hits[:, 0].double().mean().item(),
        "top5": 100 * hits.any(dim=1).double().mean().item(),
        "mean_per_class": 100 * (right[there].double() / images[there]).mean().item(),
    }


def report_line(found: Classified, metrics: dict[str, float], classes: int, what: str = "images") -> str:
    """For the person watching, to whom samples are `what`."""
    skipped = f"; skipped {counted(found.bad)}" if found.bad else ""
    return (
        f"accuracy on {len(found.keys):,} {what} of {classes:,} classes: top-1 {metrics['top1']:.2f}, "
        f"top-5 {metrics['top5']:.2f}, mean per class {metrics['mean_per_class']:.2f}{skipped}"
    )


def write_report(folder: Path, found: Classified, classes: list[str], what: str = "images") -> None:
    """classes.csv, a row for each class, and predictions.jsonl, a line for each sample; samples are `what`. OSError."""
    with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["class", what, "top1", "top5", "mostly_taken_for"])
        for place, name in enumerate(classes):
            table.writerow([name, *_row(found, found.labels == place, place, classes)])
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for i, (key, label, best) in enumerate(
            zip(found.keys, found.labels.tolist(), found.best.tolist(), strict=True)
        ):
            line = {"key": key, "label": classes[label], "predictions": [classes[place] for place in best]}
            if found.probabilities is not None:
                line["probabilities"] = found.probabilities[i].tolist()
            file.write(json.dumps(line) + "\n")


def _row(found: Classified, of_class: Tensor, place: int, classes: list[str]) -> list[object]:
    """Its images, accuracies in percent, and the class that most of its images that are not right are taken for."""
    best = found.best[of_class]
    if not len(best):
        return [0, "", "", ""]
    first = best[:, 0]
    wrong = torch.bincount(first[first != place])
    accuracy = [100 * hits.double().mean().item() for hits in (first == place, (best == place).any(dim=1))]
    return [len(best), *(f"{value:.2f}" for value in accuracy), classes[int(wrong.argmax())] if len(wrong) else ""]
