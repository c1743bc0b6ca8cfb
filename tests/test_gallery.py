"""Gallery and results of a retrieval evaluation, read back with the parsers of the standard library."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
from data_files import encode, noise
from PIL import Image

from tcl.errors import InputError
from tcl.evaluation.gallery import RankedQuery, write_gallery, write_results

CAPTIONS = ["a dog", "two dogs", "<script>alert('x')</script> & more", "a cat", "a mat", "green", "no"]
RELEVANT = {(0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)}
IMAGES = [encode(noise(i, (320, 200)) if i == 0 else noise(i, (40, 80))) for i in range(6)]
IMAGE_QUERIES = [
    RankedQuery(query=0, candidates=[1, 0, 2, 3, 4, 5], scores=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], rank=1),
    RankedQuery(query=1, candidates=[3, 4, 5, 6, 0, 2], scores=[0.95, 0.85, 0.75, 0.65, 0.55, 0.1], rank=6),
]
TEXT_QUERIES = [
    RankedQuery(query=2, candidates=[2, 1, 0, 4, 5], scores=[2.5, 1.25, 0.5, -1.0, -100.0], rank=2),
    RankedQuery(query=4, candidates=[0, 1, 2, 4, 5, 3], scores=[6, 5, 4, 3, 2, 1], rank=6),
    RankedQuery(query=5, candidates=[4, 1, 2, 0, 5], scores=[6, 5, 4, 3, 2], rank=1),
]
RECALLS = {"i2t_r1": 50.0, "i2t_r5": 62.5, "t2i_r1": 33.3333, "rerank_i2t_r1": 75.0, "r_mean": 41.25}


class Page(HTMLParser):
    """Every tag with its attributes, and per <article> its heading and list items (class, words, pictures)."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.articles: dict[str, list[dict]] = {}
        self.section = ""
        self.open: list[str] = []
        self.style = ""
        self.cells: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag != "meta":
            self.open.append(tag)
        if tag == "section":
            self.section = found["id"]
            self.articles[self.section] = []
        elif tag == "article":
            self.articles[self.section].append({"title": "", "items": [], "pictures": []})
        elif tag == "li":
            self.articles[self.section][-1]["items"].append({"kind": found["class"], "words": "", "pictures": []})
        elif tag == "tr":
            self.cells.append([])
        elif tag in ("th", "td"):
            self.cells[-1].append("")
        elif found.get("role") == "img":
            article = self.articles[self.section][-1]
            holder = article["items"][-1] if "li" in self.open else article
            holder["pictures"].append(found["class"].split()[1])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            self.style += data
        elif "h3" in self.open:
            self.articles[self.section][-1]["title"] += data
        elif "li" in self.open:
            self.articles[self.section][-1]["items"][-1]["words"] += data
        elif self.open and self.open[-1] in ("th", "td"):
            self.cells[-1][-1] += data


def gallery(tmp_path, **changes) -> Page:
    given = {
        "images": IMAGES,
        "captions": CAPTIONS,
        "relevant": RELEVANT,
        "image_queries": IMAGE_QUERIES,
        "text_queries": TEXT_QUERIES,
        "recalls": RECALLS,
    }
    path = tmp_path / "new" / "gallery.html"
    write_gallery(path, **{**given, **changes})
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def thumbnails(page: Page) -> dict[str, Image.Image]:
    found = re.findall(r"\.(i\d+)\{[^}]*url\(data:image/jpeg;base64,([^)]+)\)", page.style)
    assert len(found) == len(dict(found)), "an image is embedded twice"
    return {name: Image.open(io.BytesIO(base64.b64decode(data))) for name, data in found}


def test_queries_are_worst_first_with_their_five_best_answers_marked(tmp_path):
    page = gallery(tmp_path)
    first, second = page.articles["i2t"]
    assert [first["title"], second["title"]] == ["Image 1 rank 6", "Image 0 rank 1"]
    assert (first["pictures"], second["pictures"]) == (["i1"], ["i0"])
    assert [item["kind"] for item in first["items"]] == ["miss"] * 5 + ["right"]
    assert [item["kind"] for item in second["items"]] == ["hit", "hit", "miss", "miss", "miss"]
    assert second["items"][0]["words"] == "✓ 0.900 two dogs"
    assert first["items"][0]["words"] == "✗ 0.950 a cat"
    assert [article["title"] for article in page.articles["t2i"]] == [
        "a mat rank 6",
        f"{CAPTIONS[2]} rank 2",
        "green rank 1",
    ]
    missed, found, best = page.articles["t2i"]
    assert [item["pictures"] for item in missed["items"]] == [["i0"], ["i1"], ["i2"], ["i4"], ["i5"], ["i3"]]
    assert [item["kind"] for item in missed["items"]] == ["miss"] * 5 + ["right"]
    assert [item["words"].split() for item in found["items"]] == [
        ["✗", "2.500"],
        ["✓", "1.250"],
        ["✗", "0.500"],
        ["✗", "-1.000"],
        ["✗", "-100.000"],
    ]
    assert [item["kind"] for item in best["items"]] == ["hit"] + ["miss"] * 4


def test_captions_are_text_and_never_markup(tmp_path):
    page = gallery(tmp_path)
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert page.articles["i2t"][0]["items"][-1]["words"] == f"right answer: {CAPTIONS[2]}"
    template = ["{{ captions }} {% if %}", *CAPTIONS[1:]]
    assert gallery(tmp_path, captions=template).articles["i2t"][1]["items"][1]["words"] == f"✓ 0.800 {template[0]}"
    half_a_pair = ["\ud800 dog", *CAPTIONS[1:]]
    assert gallery(tmp_path, captions=half_a_pair).articles["i2t"][1]["items"][1]["words"] == "✓ 0.800 ? dog"


def test_page_needs_nothing_else(tmp_path):
    page = gallery(tmp_path)
    anchors = {found["id"] for _, found in page.tags if "id" in found}
    links = [found["href"] for _, found in page.tags if "href" in found]
    assert {f"#{name}" for name in anchors} == set(links)
    assert not [found for _, found in page.tags if "src" in found]
    assert all(url.startswith("data:") for url in re.findall(r"url\(([^)]*)", page.style))


def test_thumbnails_are_embedded_once_at_most_160_pixels_long(tmp_path):
    page = gallery(tmp_path)
    found = thumbnails(page)
    used = {found["class"].split()[1] for _, found in page.tags if found.get("role") == "img"}
    assert set(found) == used == {f"i{i}" for i in range(6)}
    assert found["i0"].size == (160, 100)
    assert found["i1"].size == (40, 80)
    for index, content in enumerate(IMAGES):
        with Image.open(io.BytesIO(content)) as original:
            mean = original.convert("RGB").resize((1, 1)).getpixel((0, 0))
        shown = found[f"i{index}"].convert("RGB").resize((1, 1)).getpixel((0, 0))
        assert max(abs(a - b) for a, b in zip(mean, shown, strict=True)) <= 8


def test_at_most_max_queries_are_shown_and_only_their_images(tmp_path):
    page = gallery(tmp_path, max_queries=1, image_queries=IMAGE_QUERIES, text_queries=[])
    assert [article["title"] for article in page.articles["i2t"]] == ["Image 1 rank 6"]
    assert page.articles["t2i"] == []
    assert set(thumbnails(page)) == {"i1"}
    with pytest.raises(InputError, match=r"^max_queries: 0 is not possible; accepted: an integer >= 1$"):
        gallery(tmp_path, max_queries=0)


def test_recalls_are_a_table(tmp_path):
    head, *rows = gallery(tmp_path).cells
    table = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    nothing = dict.fromkeys(("R@1", "R@5", "value"), "")
    assert table == {
        "image to text": {**nothing, "R@1": "50.0", "R@5": "62.5"},
        "text to image": {**nothing, "R@1": "33.3"},
        "image to text, rerank": {**nothing, "R@1": "75.0"},
        "r_mean": {**nothing, "value": "41.2"},
    }


def test_fewer_candidates_than_five(tmp_path):
    only = [RankedQuery(query=0, candidates=[0], scores=[1.0], rank=1)]
    page = gallery(
        tmp_path, images=IMAGES[:1], captions=["a dog"], relevant={(0, 0)}, image_queries=only, text_queries=only
    )
    assert [item["kind"] for name in ("i2t", "t2i") for item in page.articles[name][0]["items"]] == ["hit", "hit"]


def test_results_are_lines_of_json(tmp_path):
    image_ids, caption_ids = [f"000000.tar/{i}" for i in range(6)], [f"c{i}" for i in range(7)]
    path = tmp_path / "new" / "results.jsonl"
    write_results(path, IMAGE_QUERIES, TEXT_QUERIES, image_ids, caption_ids)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["direction"], line["query"]) for line in lines] == [
        ("image_to_text", "000000.tar/0"),
        ("image_to_text", "000000.tar/1"),
        ("text_to_image", "c2"),
        ("text_to_image", "c4"),
        ("text_to_image", "c5"),
    ]
    assert lines[1] == {
        "direction": "image_to_text",
        "query": "000000.tar/1",
        "rank": 6,
        "candidates": ["c3", "c4", "c5", "c6", "c0", "c2"],
        "scores": [0.95, 0.85, 0.75, 0.65, 0.55, 0.1],
    }
    assert lines[2]["candidates"] == [f"000000.tar/{i}" for i in (2, 1, 0, 4, 5)]


def test_unwritable_path_is_one_line(tmp_path):
    (tmp_path / "new").touch()
    for write in (
        lambda: gallery(tmp_path),
        lambda: write_results(tmp_path / "new" / "results.jsonl", [], [], [], []),
        lambda: write_results(tmp_path, [], [], [], []),
    ):
        with pytest.raises(InputError) as caught:
            write()
        assert re.fullmatch(r"path: \S+ cannot be written \([^()]+\); name another file", str(caught.value))
