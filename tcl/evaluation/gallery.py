"""What a retrieval evaluation found, for a person (`gallery.html`) and for programs (`retrieval.jsonl`)."""

import base64
import io
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from tcl.data.images.decode_image import decode_image
from tcl.errors import InputError
from tcl.search.candidates import Ranked

SHOWN = 5
"""Candidates of a query, and right answers where none of the candidates is one."""
THUMBNAIL_SIDE = 160
"""Pixels of the longer side; smaller images stay as they are."""
THUMBNAIL_QUALITY = 80
RIGHT_START = '<li class="right"><span class="sign">right answer:</span>'
DIRECTIONS = {"i2t": "image to text", "t2i": "text to image"}
STYLE = """
body { font: 15px/1.4 sans-serif; margin: 1.5em auto; max-width: 70em; padding: 0 1em; color: #222; background: #fff }
nav { position: sticky; top: 0; background: #fff; padding: .5em 0; border-bottom: 1px solid #ccc }
nav a { margin-right: 1.5em }
section { scroll-margin-top: 3em }
table { border-collapse: collapse }
th, td { border: 1px solid #ccc; padding: .25em .7em; text-align: right }
th:first-child { text-align: left }
article { border-top: 1px solid #ccc; padding: 1em 0 }
article h3 { margin: 0 0 .5em }
.row { display: flex; flex-wrap: wrap; gap: 1em }
.row > div { flex: 1; min-width: 16em }
ol { list-style: none; margin: 0; padding: 0 }
li { border-left: 4px solid; padding: .1em .6em; margin-bottom: .3em }
.hit { border-color: #0a7a3c; background: #e5f5ea }
.miss { border-color: #c0392b }
.right { border-color: #555; border-left-style: dashed }
.sign { font-weight: bold }
.number { color: #555; font-variant-numeric: tabular-nums }
.strip { display: flex; flex-wrap: wrap; gap: .7em }
.thumb { display: block; flex: none; background-size: 100% 100%; print-color-adjust: exact }
"""


@dataclass(frozen=True)
class RankedQuery:
    """What one image or caption was answered with."""

    query: int
    """Index of the image (image to text) or of the caption (text to image)."""
    candidates: list[int]
    """Indices of the best answers, best first; at least SHOWN where there are so many."""
    scores: list[float]
    """Of the candidates."""
    rank: int
    """Of the first right answer among all, >= 1."""


def ranked_queries(ranked: Ranked) -> list[RankedQuery]:
    """All queries of one direction, in their order."""
    rows = zip(ranked.candidates.tolist(), ranked.scores.tolist(), ranked.ranks.tolist(), strict=True)
    return [RankedQuery(query, *row) for query, row in enumerate(rows)]


def write_results(
    path: Path,
    image_queries: Sequence[RankedQuery],
    text_queries: Sequence[RankedQuery],
    image_ids: Sequence[str],
    caption_ids: Sequence[str],
) -> None:
    """One line of JSON for every query, first image to text, then text to image, in the order given.

    Keys: direction ('image_to_text' or 'text_to_image'), query (id), rank, candidates (ids, best first), scores.
    InputError: the file cannot be written.
    """
    lines = []
    for direction, queries, own_ids, answer_ids in (
        ("image_to_text", image_queries, image_ids, caption_ids),
        ("text_to_image", text_queries, caption_ids, image_ids),
    ):
        for ranked in queries:
            line = {
                "direction": direction,
                "query": own_ids[ranked.query],
                "rank": ranked.rank,
                "candidates": [answer_ids[candidate] for candidate in ranked.candidates],
                "scores": ranked.scores,
            }
            lines.append(json.dumps(line) + "\n")
    _write(path, "".join(lines))


def write_gallery(
    path: Path,
    *,
    images: Sequence[bytes],
    captions: Sequence[str],
    relevant: set[tuple[int, int]],
    image_queries: Sequence[RankedQuery],
    text_queries: Sequence[RankedQuery],
    recalls: dict[str, float],
    max_queries: int = 100,
) -> None:
    """One page that needs nothing else: recalls, then of both directions the worst queries with their best answers.

    images: encoded, known to decode. relevant: the right (image, caption) pairs. recalls: percent, named as
    rank_metrics names them, perhaps with a prefix; other names have a line of their own. max_queries: per
    direction, >= 1. InputError: an impossible max_queries, a file that cannot be written.
    """
    if max_queries < 1:
        raise InputError(f"max_queries: {max_queries} is not possible; accepted: an integer >= 1")
    captions_of, images_of = defaultdict(list), defaultdict(list)
    for image, caption in sorted(relevant):
        captions_of[image].append(caption)
        images_of[caption].append(image)
    worst_images, worst_texts = _worst(image_queries, max_queries), _worst(text_queries, max_queries)
    shown = {ranked.query for ranked in worst_images}
    for ranked in worst_texts:
        shown.update(ranked.candidates[:SHOWN], _unfound(ranked, images_of[ranked.query]))
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Retrieval gallery</title>\n<style>',
        STYLE,
        # An image is in the page once, however many queries show it: as the background of a class.
        *(_thumbnail_rule(index, images[index]) for index in sorted(shown)),
        '</style>\n</head>\n<body>\n<h1>Retrieval gallery</h1>\n<nav><a href="#recalls">Recalls</a>',
        *(f'<a href="#{name}">{direction.capitalize()}</a>' for name, direction in DIRECTIONS.items()),
        '</nav>\n<section id="recalls">\n<h2>Recalls in percent</h2>',
        _recall_table(recalls),
        "</section>",
        _section_start("i2t", len(worst_images), len(image_queries)),
        *(_image_query(ranked, captions, captions_of[ranked.query]) for ranked in worst_images),
        "</section>",
        _section_start("t2i", len(worst_texts), len(text_queries)),
        *(_text_query(ranked, captions, images_of[ranked.query]) for ranked in worst_texts),
        "</section>\n</body>\n</html>\n",
    ]
    _write(path, "\n".join(parts))


def _worst(queries: Sequence[RankedQuery], count: int) -> list[RankedQuery]:
    return sorted(queries, key=lambda ranked: (-ranked.rank, ranked.query))[:count]


def _unfound(ranked: RankedQuery, right: list[int]) -> list[int]:
    """Right answers to show because no shown candidate is one."""
    return [] if set(ranked.candidates[:SHOWN]) & set(right) else right[:SHOWN]


def _thumbnail_rule(index: int, content: bytes) -> str:
    # Whoever read the images has applied data.max_pixels already.
    image = Image.fromarray(decode_image(content, max_pixels=sys.maxsize, min_side=THUMBNAIL_SIDE))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=THUMBNAIL_QUALITY)
    data = base64.b64encode(stream.getvalue()).decode()
    size = f"width:{image.width}px;height:{image.height}px"
    return f".i{index}{{{size};background-image:url(data:image/jpeg;base64,{data})}}"


def _recall_table(recalls: dict[str, float]) -> str:
    rows: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in recalls.items():
        if found := re.fullmatch(r"(.*?)_?(i2t|t2i)_r(\d+)", name):
            prefix, direction, k = found.groups()
            rows[DIRECTIONS[direction] + (f", {prefix}" if prefix else "")][f"R@{k}"] = value
        else:
            rows[name]["value"] = value
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = ["<table>", "<tr><th></th>" + "".join(f"<th>{column}</th>" for column in columns) + "</tr>"]
    for label, row in rows.items():
        cells = "".join(f"<td>{row[column]:.1f}</td>" if column in row else "<td></td>" for column in columns)
        lines.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def _section_start(name: str, shown: int, total: int) -> str:
    title = f"{DIRECTIONS[name].capitalize()}: {shown:,} of {total:,} queries, worst first"
    return f'<section id="{name}">\n<h2>{title}</h2>'


def _image_query(ranked: RankedQuery, captions: Sequence[str], right: list[int]) -> str:
    answers = [
        f"{_item_start(candidate in right, score)} {escape(captions[candidate])}</li>"
        for candidate, score in _best(ranked)
    ]
    answers += [f"{RIGHT_START} {escape(captions[caption])}</li>" for caption in _unfound(ranked, right)]
    heading = f"<h3>Image {ranked.query} {_rank(ranked)}</h3>"
    columns = f"{_picture(ranked.query)}\n<div><ol>\n" + "\n".join(answers) + "\n</ol></div>"
    return f'<article>\n{heading}\n<div class="row">{columns}</div>\n</article>'


def _text_query(ranked: RankedQuery, captions: Sequence[str], right: list[int]) -> str:
    answers = [
        f"{_item_start(candidate in right, score)} {_picture(candidate)}</li>" for candidate, score in _best(ranked)
    ]
    answers += [f"{RIGHT_START} {_picture(image)}</li>" for image in _unfound(ranked, right)]
    heading = f"<h3>{escape(captions[ranked.query])} {_rank(ranked)}</h3>"
    return f'<article>\n{heading}\n<ol class="strip">\n' + "\n".join(answers) + "\n</ol>\n</article>"


def _best(ranked: RankedQuery) -> list[tuple[int, float]]:
    return list(zip(ranked.candidates, ranked.scores, strict=True))[:SHOWN]


def _rank(ranked: RankedQuery) -> str:
    return f'<span class="number">rank {ranked.rank:,}</span>'


def _item_start(is_right: bool, score: float) -> str:
    # The sign says what the colour says, to those who cannot tell red from green.
    kind, sign = ("hit", "✓") if is_right else ("miss", "✗")
    return f'<li class="{kind}"><span class="sign">{sign}</span> <span class="number">{score:.3f}</span>'


def _picture(image: int) -> str:
    return f'<span class="thumb i{image}" role="img" aria-label="image {image}" title="image {image}"></span>'


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Half of a surrogate pair in a caption is no reason to lose the page.
        path.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"path: {path} cannot be written ({error.strerror}); name another file") from error
