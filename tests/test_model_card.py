"""Whatever a run is called, its card shows it: no link, heading, image or HTML comes of it."""

import pytest
import yaml
from tiny import MODEL

from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.run_folder import RunFacts
from tcl.exports.conversion_report import Report
from tcl.exports.model_card import model_card

markdown_it = pytest.importorskip("markdown_it", reason="comes with transformers' command line")

HOSTILE = [
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "<script>alert(1)</script>",
    "<javascript:alert(1)>",
    "http://evil.example www.evil.example a@evil.example",
    "x\n# Heading\n\n| a | b |\n|---|---|",
    "x\n---\nlicense: mit\n---",
    "a | b \\| c",
    "`[click](javascript:alert(1))`",
    "`` ` ``` [a](b) | <b>",
    "\x1b[31mred\u202e",
    "&lt;b&gt; [a][b]\n\n[b]: javascript:alert(1)",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_values_from_outside_are_text_and_no_markdown(text):
    facts = RunFacts(text, [text, "x.tar"], 7, {text: text, "init": text}, {text: 1.0})
    card = model_card(ExportConfig("tcl", MODEL), facts)
    plain = model_card(ExportConfig("tcl", MODEL), RunFacts("x", ["x"], 7, {"a": "x", "init": "x"}, {"b": 1.0}))
    found, expected = (list(rendered(one)) for one in (card, plain))
    assert [kind for kind in found if kind != "code_inline"] == expected
    header = card.split("---\n")[1]
    assert yaml.safe_load(header)["license"] == "unknown"
    assert all(line.isprintable() for line in card.split("\n"))


def rendered(card: str):
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    body = card.split("---\n", 2)[2]
    for token in parser.parse(body):
        yield from (child.type for child in token.children if child.type != "text") if token.children else [token.type]


def test_lines_of_a_conversion_show_names_escaped():
    report = Report("x", notices=["source: \x1b[2J has\nno head"])
    assert report.lines()[-1] == r"source: \x1b[2J has\nno head"
