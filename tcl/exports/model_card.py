"""The README.md of an export: what the model is, where its weights come from, and what the owner has to fill in."""

import re

import yaml

from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.run_folder import RunFacts
from tcl.exports.kinds import kind_named
from tcl.shown import shown

FILL_IN = "to be filled in"
_PLAIN = re.compile(r"[\w ,;.%()/+-]*")


def model_card(config: ExportConfig, facts: RunFacts) -> str:
    """Markdown under a YAML header as the hub reads it; what only the owner knows is marked FILL_IN."""
    header = {
        "library_name": "tcl",
        "license": "unknown",
        "tags": ["vision-language", "triple-contrastive-learning"],
    }
    text = kind_named(config.kind, "source").card
    if text.pipeline_tag is not None:
        header["pipeline_tag"] = text.pipeline_tag
    image = config.model.image
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# TCL: {FILL_IN}",
        f"{text.what} Triple contrastive learning (TCL), Yang et al., CVPR 2022.",
        f"```python\n{text.use}\n```",
        "## Model",
        _table(
            {
                "image encoder": f"{image.name}, {image.image_size} px",
                "text and fusion encoder": config.model.text.name,
                "embedding": config.model.embed_dim,
                "longest text": f"{config.max_tokens} tokens, {config.max_words} words",
            }
        ),
        "## Training",
        _table(_training(facts)),
        "## Evaluation",
        _table({name: f"{value:.4g}" for name, value in facts.metrics.items()}) if facts.metrics else FILL_IN,
        "## Licence",
        _table({"of the weights": FILL_IN, "of the training data": FILL_IN}),
        "## Intended use and limits",
        FILL_IN,
    ]
    return "\n\n".join(parts) + "\n"


def _training(facts: RunFacts) -> dict[str, object]:
    rows: dict[str, object] = {"weights from": facts.origin, "data": ", ".join(facts.data) or FILL_IN}
    if facts.steps is not None:
        rows["optimiser steps"] = f"{facts.steps:,}"
    return rows | {name: value for name, value in facts.options.items() if value is not None}


def _table(rows: dict[str, object]) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(value: object) -> str:
    """Plain words as they are; anything else as code, in which no link, image, HTML or address acts."""
    text = shown(" ".join(str(value).split()))
    if _PLAIN.fullmatch(text) and "www." not in text.lower():
        return text
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")
