"""The README.md of an export: what the model is, where its weights come from, and what the owner has to fill in."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.run_folder import RunFacts
from tcl.objectives.kind import CardText
from tcl.shown import shown

FILL_IN = "to be filled in"
_PLAIN = re.compile(r"[\w ,;.%()/+-]*")


def model_card(config: ExportConfig, facts: RunFacts, text: CardText) -> str:
    """Markdown under a YAML header as the hub reads it; what only the owner knows is marked FILL_IN."""
    return _TEMPLATES.get_template("model_card.md.jinja").render(
        text=text,
        networks=_networks(config),
        training=_training(facts),
        metrics={name: f"{value:.4g}" for name, value in facts.metrics.items()},
        fill_in=FILL_IN,
    )


def _networks(config: ExportConfig) -> dict[str, object]:
    model = config.model
    rows: dict[str, object] = {"image encoder": f"{model.image.name}, {model.image.image_size} px"}
    if not config.reads_text:
        return rows
    few = model.fusion.image_tokens
    compressed = {} if few is None else {"tokens of an image for the fusion encoder": few}
    return rows | {
        "text and fusion encoder": model.text.name,
        **compressed,
        "embedding": model.embed_dim,
        "longest text": f"{config.max_tokens} tokens, {config.max_words} words",
    }


def _training(facts: RunFacts) -> dict[str, object]:
    rows: dict[str, object] = {"weights from": facts.origin, "data": ", ".join(facts.data) or FILL_IN}
    if facts.steps is not None:
        rows["optimiser steps"] = f"{facts.steps:,}"
    return rows | {name: value for name, value in facts.options.items() if value is not None}


def _cell(value: object) -> str:
    """Plain words as they are; anything else as code, in which no link, image, HTML or address acts."""
    text = shown(" ".join(str(value).split()))
    if _PLAIN.fullmatch(text) and "www." not in text.lower():
        return text
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


# Of a value that a template names and is not given, rendering makes an error; nothing is escaped but by `cell`.
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["cell"] = _cell
