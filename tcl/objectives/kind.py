"""What a trained student is to everything that does not train it: exports, loading, cards.

A file of tcl.objectives or tcl.tasks declares its own as KIND; nothing else needs to know that it exists.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.config.model import ModelConfig


@dataclass
class NoParts:
    """Of a kind that `model` describes whole."""

    def check(self, place: str) -> None:
        """There is nothing to check."""


@dataclass(frozen=True)
class CardText:
    """What a model card says of all models of a kind."""

    what: str
    """A sentence."""
    use: str
    """Python that loads one, where `folder_or_hub_id` is."""
    pipeline_tag: str | None = None
    """The hub's name of the task."""


@dataclass(frozen=True)
class Kind:
    """How students of one kind are described, built again, and opened."""

    name: str
    """That of the file which declares it; in config.json, `kind`."""
    build: Callable[[ModelConfig, Any, PreTrainedTokenizerBase | None], nn.Module]
    """(model, parts, tokenizer) -> a Student of that description with random weights. InputError: it cannot be."""
    card: CardText
    opened_by: str = "tcl.inference.loaded_model:LoadedModel"
    """'module:Class', a `tcl.inference.loaded_model.LoadedModel`."""
    Parts: type = NoParts
    """A dataclass of plain values: what describes the student beside `model`, fields of config.json. Its check(place)
    raises InputError, beginning with `place`, for impossible ones."""
    parts_of: Callable[[nn.Module], Any] = lambda _: NoParts()
    """Those of a student."""
    parts_in_run: dict[str, str] = field(default_factory=dict)
    """Fields of Parts -> options of a run's config.yaml, for runs that left no other description."""
    reads_text: bool = True
    """False: its students see images alone, and there is no tokenizer."""
    graph: Callable[[nn.Module], nn.Module] | None = None
    """A student that is a classifier as one computation for ONNX: a module whose forward takes those of pixel_values,
    left_pixel_values, right_pixel_values [B, 3, H, W], input_ids and attention_mask [B, L] that it needs, by these
    names, and gives logits [B, classes]. None: of other students."""
    may_lack: tuple[str, ...] = ()
    """Prefixes of parameters that weights of this kind may be without: they stay random."""
