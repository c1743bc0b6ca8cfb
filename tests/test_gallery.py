"""Gallery and results of a retrieval evaluation, read back with parsers of the standard library and in a browser."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from data_files import encode, noise
from PIL import Image

import tcl.evaluation.page
from tcl.errors import InputError
from tcl.evaluation.gallery import write_gallery
from tcl.evaluation.gallery_queries import Direction, right_answers
from tcl.evaluation.page import run_facts
from tcl.evaluation.ranked_queries import RankedQuery, write_results

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> & more"
CAPTIONS = ["a dog", "two dogs", EVIL, "a cat", "a mat", "green", "no"]
PAIRS = [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
COSINES = [0.8, 0.9, 0.05, 0.7, 0.1, 0.6, 0.2]
IMAGES = [encode(noise(i, (320, 200)) if i == 0 else noise(i, (40, 80))) for i in range(6)]
IMAGE_IDS = [f"000000.tar/{i}" for i in range(6)]
CAPTIONS_OF, IMAGES_OF = right_answers(PAIRS, COSINES)
IMAGE_QUERIES = [
    RankedQuery(query=0, candidates=[1, 0, 2, 3, 4, 5], scores=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], rank=1),
    RankedQuery(query=1, candidates=[3, 4, 5, 6, 0, 1], scores=[0.95, 0.85, 0.75, 0.65, 0.55, 0.1], rank=7),
]
MATCHED_IMAGES = [
    RankedQuery(query=0, candidates=[2, 0, 1, 3, 4, 5], scores=[0.99, 0.5, 0.25, 0.125, 0.01, 0.001], rank=2),
    RankedQuery(query=1, candidates=[0, 4, 5, 6, 3, 1], scores=[0.6, 0.5, 0.4, 0.3, 0.2, 0.1], rank=7),
]
TEXT_QUERIES = [
    RankedQuery(query=2, candidates=[2, 1, 0, 4, 5, 3], scores=[0.5, 0.25, 0.125, -0.25, -0.5, -1.0], rank=2),
    RankedQuery(query=4, candidates=[0, 1, 2, 4, 5, 3], scores=[0.6, 0.5, 0.4, 0.3, 0.2, 0.1], rank=6),
    RankedQuery(query=5, candidates=[4, 1, 2, 0, 5, 3], scores=[0.6, 0.5, 0.4, 0.3, 0.2, 0.1], rank=1),
]
MATCHED_TEXTS = [
    RankedQuery(query=2, candidates=[1, 2, 0, 4, 5, 3], scores=[0.9, 0.8, 0.3, 0.2, 0.1, 0.0], rank=1),
    RankedQuery(query=4, candidates=[0, 1, 2, 4, 5, 3], scores=[0.9, 0.8, 0.3, 0.2, 0.1, 0.03], rank=6),
    RankedQuery(query=5, candidates=[4, 1, 2, 0, 5, 3], scores=[0.9, 0.8, 0.3, 0.2, 0.1, 0.0], rank=1),
]
STAGE = {"_r1": 50.0, "_r5": 62.5, "_r10": 100.0, "_mean": 70.8, "_median_rank": 1.5}
METRICS = {f"{way}{name}": value for way in ("i2t", "t2i") for name, value in STAGE.items()} | {"mean": 70.8}
METRICS |= {f"rerank_{name}": value + 0.25 for name, value in METRICS.items()}
FACTS = run_facts("runs/<b>mine", "exports/mine", "val/*.tar", datetime(2026, 3, 4, 5, 6))


class Page(HTMLParser):
    """Every tag with its attributes, the cells of tables, and per section its articles: their classes, heading, words
    about ranks and, for each stage, its answers (kind, words, pictures)."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.articles: dict[str, list[dict]] = {}
        self.section = ""
        self.open: list[tuple[str, str]] = []
        self.told: dict[str, str] = {}
        self.cells: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag not in ("meta", "input", "br"):
            self.open.append((tag, found.get("class") or ""))
        if tag == "section":
            self.section = found["id"]
            self.articles[self.section] = []
        elif tag == "article":
            self.articles[self.section].append({**found, "h3": "", "chip": "", "stages": [], "pictures": []})
        elif tag == "h4":
            self.article["stages"].append([])
        elif tag == "li":
            self.article["stages"][-1].append({"kind": found["class"], "words": "", "pictures": []})
        elif tag == "tr":
            self.cells.append([])
        elif tag in ("th", "td"):
            self.cells[-1].append("")
        elif found.get("role") == "img":
            stages = self.article["stages"]
            (stages[-1][-1] if self.inside("li") else self.article)["pictures"].append(found["class"].split()[1])

    @property
    def article(self) -> dict:
        return self.articles[self.section][-1]

    def inside(self, tag: str) -> bool:
        return tag in (name for name, _ in self.open)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        name, kind = self.open[-1] if self.open else ("", "")
        self.told[name] = self.told.get(name, "") + data
        if name == "h3":
            self.article["h3"] += data
        elif kind.startswith("chip"):
            self.article["chip"] += " ".join(data.split())
        elif self.inside("li"):
            self.article["stages"][-1][-1]["words"] += data
        elif self.inside("tr") and (self.inside("th") or self.inside("td")):
            self.cells[-1][-1] += data


def words(item: dict) -> str:
    return " ".join(item["words"].split())


def written(tmp_path, **changes) -> Path:
    given = {
        "images": IMAGES,
        "captions": CAPTIONS,
        "image_ids": IMAGE_IDS,
        "of_images": Direction(IMAGE_QUERIES, MATCHED_IMAGES, CAPTIONS_OF),
        "of_texts": Direction(TEXT_QUERIES, MATCHED_TEXTS, IMAGES_OF),
        "metrics": METRICS,
        "facts": FACTS,
    }
    path = tmp_path / "new" / "gallery.html"
    write_gallery(path, **{**given, **changes})
    return path


def gallery(tmp_path, **changes) -> Page:
    page = Page(written(tmp_path, **changes).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_the_worst_misses_come_first_then_hits(tmp_path):
    page = gallery(tmp_path)
    assert [article["h3"] for article in page.articles["i2t"]] == ["000000.tar/1", "000000.tar/0"]
    assert [article["h3"] for article in page.articles["t2i"]] == ["a mat", EVIL, "green"]
    assert [article["class"] for article in page.articles["t2i"]] == [
        "miss-query same",
        "hit-query better",
        "hit-query same",
    ]
    assert page.articles["i2t"][1]["class"] == "miss-query worse"
    assert [article["chip"] for article in page.articles["t2i"]] == [
        "right answer: rank 6 → 6",
        "right answer: rank 2 → 1",
        "right answer: rank 1 → 1",
    ]


def test_both_stages_of_an_image_stand_side_by_side(tmp_path):
    first, second = gallery(tmp_path).articles["i2t"]
    assert (first["pictures"], second["pictures"]) == (["i1"], ["i0"])
    by_embedding, matched = second["stages"]
    assert [item["kind"] for item in by_embedding] == ["hit", "hit", "miss", "miss", "miss"]
    assert [item["kind"] for item in matched] == ["miss", "hit", "hit", "miss", "miss"]
    assert words(by_embedding[0]) == "✓ two dogs 0.900" and words(matched[1]) == "✓ a dog 50.0 %"
    assert words(matched[0]) == f"✗ {EVIL} 99.0 %" and words(matched[4]) == "✗ a mat 1.0 %"


def test_the_right_answer_has_its_rank_and_score_where_none_of_the_best_is_one(tmp_path):
    page = gallery(tmp_path)
    by_embedding, matched = page.articles["i2t"][0]["stages"]
    for stage in (by_embedding, matched):
        assert [item["kind"] for item in stage] == ["miss"] * 5 + ["right"]
    assert words(by_embedding[5]) == f"→ {EVIL} right answer, rank 7, 0.050"
    assert words(matched[5]) == f"→ {EVIL} right answer, rank 7, not among the 6 that were matched"
    by_embedding, matched = page.articles["t2i"][0]["stages"]
    assert [item["pictures"] for item in matched] == [["i0"], ["i1"], ["i2"], ["i4"], ["i5"], ["i3"]]
    assert words(by_embedding[5]) == "→ right answer, rank 6, 0.100 000000.tar/3"
    assert words(matched[5]) == "→ right answer, rank 6, 3.0 % 000000.tar/3"
    assert words(matched[0]) == "✗ 90.0 % 000000.tar/0"


def test_embeddings_alone_have_one_stage(tmp_path):
    metrics = {name: value for name, value in METRICS.items() if not name.startswith("rerank")}
    plain = {"of_images": Direction(IMAGE_QUERIES, None, right_answers(PAIRS, None)[0])}
    plain["of_texts"] = Direction(TEXT_QUERIES, None, right_answers(PAIRS, None)[1])
    page = gallery(tmp_path, **plain, metrics=metrics)
    assert [len(article["stages"]) for article in page.articles["i2t"] + page.articles["t2i"]] == [1] * 5
    assert [row[0] for row in page.cells[1:]] == ["Image to text by embedding", "Text to image by embedding"]
    assert words(page.articles["i2t"][0]["stages"][0][5]) == f"→ {EVIL} right answer, rank 7"
    assert [found["id"] for tag, found in page.tags if tag == "input"] == [
        "only-all",
        "only-misses",
        "only-hits",
        "words",
    ]


def test_recalls_and_median_ranks_are_four_rows(tmp_path):
    assert gallery(tmp_path).cells == [
        ["Recall in percent", "R@1", "R@5", "R@10", "median rank"],
        ["Image to text by embedding", "50.0", "62.5", "100.0", "1.5"],
        ["Image to text re-ranked", "50.2", "62.8", "100.2", "1.75"],
        ["Text to image by embedding", "50.0", "62.5", "100.0", "1.5"],
        ["Text to image re-ranked", "50.2", "62.8", "100.2", "1.75"],
    ]


def test_other_stages_have_rows_of_their_own(tmp_path):
    more = METRICS | {f"quantised_{name}": 1.0 for name in METRICS} | {f"mine_{name}": 2.0 for name in METRICS}
    rows = [row[0].removeprefix("Image to text ") for row in gallery(tmp_path, metrics=more).cells[1:]]
    assert rows[:4] == ["by embedding", "by codes", "re-ranked", "mine"] and len(rows) == 12


def test_run_weights_data_and_date_are_said(tmp_path):
    text = written(tmp_path).read_text()
    for label, value in (
        ("Run", "runs/&lt;b&gt;mine"),
        ("Weights", "exports/mine"),
        ("Data", "val/*.tar"),
        ("Evaluated", "2026-03-04 05:06"),
    ):
        assert f"<div><dt>{label}</dt><dd>{value}</dd></div>" in text


def test_captions_are_text_and_the_only_script_is_ours(tmp_path):
    page = gallery(tmp_path)
    assert [tag for tag, _ in page.tags if tag in ("script", "img")] == ["script"]
    script = (Path(tcl.evaluation.page.__file__).parent / "filter.js").read_text()
    assert page.told["script"] == script
    (policy,) = (found["content"] for tag, found in page.tags if tag == "meta" and "http-equiv" in found)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:;") and f"script-src 'sha256-{allowed}';" in policy
    template = ["{{ captions }} {% if %}", *CAPTIONS[1:]]
    found = gallery(tmp_path, captions=template).articles["i2t"][1]["stages"][0]
    assert words(found[1]) == f"✓ {template[0]} 0.800"
    half_a_pair = ["\ud800 dog", *CAPTIONS[1:]]
    found = gallery(tmp_path, captions=half_a_pair).articles["i2t"][1]["stages"][0]
    assert words(found[1]) == "✓ ? dog 0.800"


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_in_a_browser_no_caption_runs_and_the_filter_is_there(tmp_path):
    """Without its script the page has no field for words; with it, all that is said without is left as it was."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    said = subprocess.run([CHROMIUM, *flags, written(tmp_path).as_uri()], capture_output=True, text=True, timeout=300)
    assert "<title>What retrieval found</title>" in said.stdout, said.stderr[-2000:]
    page = Page(said.stdout)
    assert not any("hidden" in found for tag, found in page.tags if found.get("id") == "words")
    assert [article["h3"] for article in page.articles["t2i"]] == ["a mat", EVIL, "green"]


def test_without_a_script_everything_is_shown_and_kinds_can_be_chosen(tmp_path):
    page = gallery(tmp_path)
    hidden = [found.get("class") or found.get("id") for _, found in page.tags if "hidden" in found]
    assert hidden == ["words", "none", "none"]
    for name in ("misses", "hits", "better", "worse"):
        assert f":has(#only-{name}:checked)" in page.told["style"]


def test_page_needs_nothing_else(tmp_path):
    page = gallery(tmp_path)
    links = [found["href"] for _, found in page.tags if "href" in found]
    assert links == ["#i2t", "#t2i"] and {"i2t", "t2i"} <= {found.get("id") for _, found in page.tags}
    assert not [found for _, found in page.tags if "src" in found]
    assert all(url.startswith("data:") for url in re.findall(r"url\(([^)]*)", page.told["style"]))
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def thumbnails(page: Page) -> dict[str, Image.Image]:
    found = re.findall(r"\.(i\d+)\{[^}]*url\(data:image/jpeg;base64,([^)]+)\)", page.told["style"])
    assert len(found) == len(dict(found)), "an image is embedded twice"
    return {name: Image.open(io.BytesIO(base64.b64decode(data))) for name, data in found}


def test_thumbnails_are_embedded_once_at_most_160_pixels_long_and_say_what_they_show(tmp_path):
    page = gallery(tmp_path)
    found = thumbnails(page)
    used = {found["class"].split()[1]: found["aria-label"] for _, found in page.tags if found.get("role") == "img"}
    assert set(found) == set(used) == {f"i{i}" for i in range(6)}
    assert used["i0"] == "000000.tar/0: a dog" and used["i1"] == f"000000.tar/1: {EVIL}"
    assert found["i0"].size == (160, 100)
    assert found["i1"].size == (40, 80)
    for index, content in enumerate(IMAGES):
        with Image.open(io.BytesIO(content)) as original:
            mean = original.convert("RGB").resize((1, 1)).getpixel((0, 0))
        shown = found[f"i{index}"].convert("RGB").resize((1, 1)).getpixel((0, 0))
        assert max(abs(a - b) for a, b in zip(mean, shown, strict=True)) <= 8


@pytest.mark.parametrize(
    ("ranks", "count", "shown"),
    [
        ([1, 9, 1, 3, 1, 2, 1, 1], 4, [1, 3, 0, 4]),
        ([1, 9, 1, 3, 1, 2, 1, 1], 5, [1, 3, 5, 0, 4]),
        ([9, 9, 8, 7, 1], 4, [0, 1, 2, 4]),
        ([1, 1, 1, 1, 1, 2], 4, [5, 0, 1, 3]),
        ([1, 2], 100, [1, 0]),
    ],
)
def test_half_of_the_queries_shown_are_hits_from_all_over_the_set(tmp_path, ranks, count, shown):
    queries = [RankedQuery(i, [0], [1.0], rank) for i, rank in enumerate(ranks)]
    direction = Direction(queries, None, {i: {0: None} for i in range(len(ranks))})
    ids = [f"{i}.jpg" for i in range(len(ranks))]
    page = gallery(
        tmp_path,
        images=[IMAGES[1]] * len(ranks),
        image_ids=ids,
        of_images=direction,
        of_texts=Direction([], None, {}),
        max_queries=count,
    )
    assert [article["h3"] for article in page.articles["i2t"]] == [ids[i] for i in shown]
    assert page.articles["t2i"] == [] and len(thumbnails(page)) == len(shown)


def test_an_impossible_number_of_queries(tmp_path):
    with pytest.raises(InputError, match=r"^max_queries: 0 is not possible; accepted: an integer >= 1$"):
        gallery(tmp_path, max_queries=0)


def test_results_are_lines_of_json(tmp_path):
    caption_ids = [f"c{i}" for i in range(7)]
    path = tmp_path / "new" / "results.jsonl"
    write_results(path, IMAGE_QUERIES, TEXT_QUERIES, IMAGE_IDS, caption_ids)
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
        "rank": 7,
        "candidates": ["c3", "c4", "c5", "c6", "c0", "c1"],
        "scores": [0.95, 0.85, 0.75, 0.65, 0.55, 0.1],
    }
    assert lines[2]["candidates"] == [f"000000.tar/{i}" for i in (2, 1, 0, 4, 5, 3)]


def test_unwritable_path_is_one_line(tmp_path):
    (tmp_path / "new").touch()
    for write in (
        lambda: written(tmp_path),
        lambda: write_results(tmp_path / "new" / "results.jsonl", [], [], [], []),
        lambda: write_results(tmp_path, [], [], [], []),
    ):
        with pytest.raises(InputError) as caught:
            write()
        assert re.fullmatch(r"path: \S+ cannot be written \([^()]+\); name another file", str(caught.value))
