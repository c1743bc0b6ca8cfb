"""Do ITM scores order pairs as people do? Kendall's tau with the human judgements of Flickr8k (Hodosh et al. 2013).

    python -m experiments.judgements --run RUN --images Flicker8k_Dataset --captions Flickr8k.token.txt
                                     [--expert ExpertAnnotations.txt] [--crowd CrowdFlowerAnnotations.txt]

An expert's line is image, caption id and three grades from 1 to 4; a crowd's is image, caption id, the share of "yes",
and how many said yes and no. A caption id is IMAGE#N, a line of --captions its id and text; all are separated by tabs.
As is usual, each grade of an expert counts for itself, and pairs of an image with a caption of its own are left out.
Rows whose image is not in --images are left out and counted. Prints tau-b and tau-c of ITM and of the embeddings.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from tcl import TCL, load_model
from tcl.commands.one_line import end_with_one_line
from tcl.errors import InputError
from tcl.shown import shown


@dataclass(frozen=True)
class Judged:
    """A pair, and what people said of it: more is better."""

    image: str
    caption_id: str
    grades: tuple[float, ...]


def read_expert(path: Path) -> list[Judged]:
    """InputError: a line of another form."""

    def grades(columns: Sequence[str]) -> tuple[float, ...]:
        found = tuple(float(column) for column in columns)
        if len(found) != 3 or not all(1 <= grade <= 4 for grade in found):
            raise ValueError
        return found

    return list(_judgements(path, grades, "image, caption id and three grades from 1 to 4"))


def read_crowd(path: Path) -> list[Judged]:
    """InputError: a line of another form."""

    def grades(columns: Sequence[str]) -> tuple[float, ...]:
        share, yes, no = (float(column) for column in columns)
        if not (0 <= share <= 1 and yes >= 0 and no >= 0):
            raise ValueError
        return (share,)

    return list(_judgements(path, grades, "image, caption id, share of yes, number of yes and number of no"))


def read_captions(path: Path) -> dict[str, str]:
    """Text by caption id. InputError: a line of another form."""
    captions = {}
    for number, columns in _lines(path):
        if len(columns) != 2 or "#" not in columns[0]:
            raise InputError(f"{path}:{number}: {shown(columns[0])!r} is no line of a caption; accepted: IMAGE#N, text")
        captions[columns[0]] = columns[1]
    return captions


def _judgements(path: Path, grades: Callable[[Sequence[str]], tuple[float, ...]], form: str) -> Iterator[Judged]:
    for number, columns in _lines(path):
        try:
            image, caption_id, *rest = columns
            judged = Judged(image, caption_id, grades(rest))
        except ValueError as error:
            said = shown(" ".join(columns))
            raise InputError(f"{path}:{number}: {said!r} is no judgement; accepted: {form}") from error
        if caption_id.partition("#")[0] != image:
            yield judged


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip().split("\t")


def agreement(judged: Sequence[Judged], images: Path, captions: dict[str, str], model: TCL) -> dict[str, float | int]:
    """Kendall's tau-b and tau-c of both scores, pairs judged, and rows left out for want of the image.

    InputError: a caption that is not there, or no pair that is left.
    """
    by_image: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        if one.caption_id not in captions:
            raise InputError(
                f"--captions: has no {shown(one.caption_id)!r}; give the file that has all captions judged"
            )
        by_image[one.image].append(one)
    there = {image: rows for image, rows in by_image.items() if (images / image).is_file()}
    if not there:
        raise InputError(f"--images: {images} has none of the {len(by_image)} images that were judged")
    grades, itm, cosines = [], [], []
    for image, rows in there.items():
        texts = [captions[one.caption_id] for one in rows]
        matched = model.match([images / image], texts)
        similar = model.encode_text(texts) @ model.encode_image(images / image)[0]
        for one, score, cosine in zip(rows, matched, similar, strict=True):
            grades += one.grades
            itm += [score] * len(one.grades)
            cosines += [cosine] * len(one.grades)
    found: dict[str, float | int] = {
        f"{name}_tau_{variant}": float(kendalltau(scores, grades, variant=variant).statistic)
        for name, scores in (("itm", np.array(itm)), ("embeddings", np.array(cosines)))
        for variant in ("b", "c")
    }
    pairs = sum(len(rows) for rows in there.values())
    return found | {"pairs": pairs, "grades": len(grades), "left_out": len(judged) - pairs}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.judgements", description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="a run, one of its checkpoints, or an export")
    for name in ("images", "captions", "expert", "crowd"):
        parser.add_argument(f"--{name}", type=Path, required=name in ("images", "captions"))
    given = parser.parse_args(arguments)
    asked = [(name, read, getattr(given, name)) for name, read in (("expert", read_expert), ("crowd", read_crowd))]
    if not any(path for _, _, path in asked):
        raise InputError("--expert, --crowd: neither is given; give one of the two at least")
    captions = read_captions(given.captions)
    read = {name: reader(path) for name, reader, path in asked if path}
    model = load_model(given.run)
    for name, judged in read.items():
        print(json.dumps({"judged_by": name, **agreement(judged, given.images, captions, model)}))


if __name__ == "__main__":
    end_with_one_line(main)
