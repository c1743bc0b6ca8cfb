"""Whatever a run is called, its card shows it: no link, heading, image or HTML comes of it."""

import pytest
import yaml
from tiny import MODEL

from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.run_folder import RunFacts
from tcl.exports.conversion_report import ConversionReport
from tcl.exports.model_card import CardText, model_card

markdown_it = pytest.importorskip("markdown_it", reason="comes with transformers' command line")

TEXT = CardText("What it does.", "from tcl import TCL")
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
    "{{ fill_in }} {% include 'x' %} {# x #}",
    "&lt;b&gt; [a][b]\n\n[b]: javascript:alert(1)",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_values_from_outside_are_text_and_no_markdown(text):
    facts = RunFacts(text, [text, "x.tar"], 7, {text: text, "init": text}, {text: 1.0})
    card = model_card(ExportConfig("tcl", MODEL), facts, TEXT)
    plain = model_card(ExportConfig("tcl", MODEL), RunFacts("x", ["x"], 7, {"a": "x", "init": "x"}, {"b": 1.0}), TEXT)
    found, expected = (list(rendered(one)) for one in (card, plain))
    assert [kind for kind in found if kind != "code_inline"] == expected
    header = card.split("---\n")[1]
    assert yaml.safe_load(header)["license"] == "unknown"
    assert all(line.isprintable() for line in card.split("\n"))


def test_a_card_says_what_the_task_says():
    text = CardText("Finds <b>.", "from tcl import TCL\n\nTCL(1 < 2)", "visual-question-answering")
    facts = RunFacts("a run of `x`", ["a.tar", "b.tar"], 7000, {"seed": 1, "init": None}, {"r_mean": 41.23456})
    assert model_card(ExportConfig("tcl", MODEL), facts, text) == CARD
    plain = model_card(ExportConfig("tcl", MODEL), RunFacts("x"), TEXT)
    assert "pipeline_tag" not in plain and "| data | to be filled in |" in plain
    assert "## Evaluation\n\nto be filled in\n\n## Licence" in plain


CARD = """---
library_name: tcl
license: unknown
tags:
- vision-language
- triple-contrastive-learning
pipeline_tag: visual-question-answering
---

# TCL: to be filled in

Finds <b>. Triple contrastive learning (TCL), Yang et al., CVPR 2022.

```python
from tcl import TCL

TCL(1 < 2)
```

## Model

| | |
|---|---|
| image encoder | vit_tiny_patch16_224, 32 px |
| text and fusion encoder | bert |
| embedding | 8 |
| longest text | 25 tokens, 30 words |

## Training

| | |
|---|---|
| weights from | `` a run of `x` `` |
| data | a.tar, b.tar |
| optimiser steps | 7,000 |
| seed | 1 |

## Evaluation

| | |
|---|---|
| r_mean | 41.23 |

## Licence

| | |
|---|---|
| of the weights | to be filled in |
| of the training data | to be filled in |

## Intended use and limits

to be filled in
"""


def rendered(card: str):
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    body = card.split("---\n", 2)[2]
    for token in parser.parse(body):
        yield from (child.type for child in token.children if child.type != "text") if token.children else [token.type]


def test_lines_of_a_conversion_show_names_escaped():
    report = ConversionReport("x", notices=["source: \x1b[2J has\nno head"])
    assert report.lines()[-1] == r"source: \x1b[2J has\nno head"
