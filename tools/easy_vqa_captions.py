"""Captions of easy-VQA's pictures from its questions and answers: "blue rectangle", "the rectangle is blue".

    python tools/easy_vqa_captions.py --questions easy_vqa/train.jsonl --out data/easy_vqa/captions.jsonl

The lines it writes are what `tcl shards --from jsonl` takes. A picture whose colour or shape no question tells
gets no line.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import jsonargparse

from tcl.errors import InputError
from tcl.shown import say, shown

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")


def easy_vqa_captions(questions: Path, out: Path) -> None:
    """InputError: questions that cannot be read or tell no shape and colour, or an OUT that cannot be written."""
    known: dict[str, dict[str, str]] = defaultdict(dict)
    try:
        rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines() if line.strip()]
        for row in rows:
            known[row["image"]] |= _told(row["question"], row["answers"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"questions: {questions} cannot be read ({error}); give easy-VQA's JSON lines") from error
    lines = [
        json.dumps(
            {
                "image": image,
                "captions": [f"{told['colour']} {told['shape']}", f"the {told['shape']} is {told['colour']}"],
            }
        )
        for image, told in known.items()
        if len(told) == 2
    ]
    if not lines:
        raise InputError(f"questions: {questions} tell no picture's shape and colour; give easy-VQA's JSON lines")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror}); name another file") from error
    say(f"{out}: captions of {len(lines):,} of {len(known):,} pictures")


def _told(question: str, answer: str) -> dict[str, str]:
    """What a question and its answer say of the picture: {"shape"}, {"colour"}, or nothing."""
    words = question.lower().rstrip("?").split()
    if answer in ("yes", "no"):
        present = (answer == "yes") != ("no" in words or "not" in words)
        named = [word for word in words if word in SHAPES + COLOURS]
        answer = named[0] if present and named else ""
    if answer in SHAPES:
        return {"shape": answer}
    return {"colour": answer} if answer in COLOURS else {}


def _captions(colour: str, shape: str) -> list[str]:
    return [f"{colour} {shape}", f"the {shape} is {colour}"]


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description="Captions of easy-VQA's pictures from its questions and answers.")
    parser.add_function_arguments(easy_vqa_captions)
    arguments = parser.parse_args()
    try:
        easy_vqa_captions(**vars(arguments))
    except InputError as error:
        print(f"error: {shown(str(error))}", file=sys.stderr)
        sys.exit(2)
