"""How a file of tcl.objectives declares an objective for image-text pairs, and how one is found by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tcl import objectives
from tcl.config.distillation import NO_TEACHER, Distillation
from tcl.config.model import ModelConfig
from tcl.config.train import TrainConfig
from tcl.declared import declared, names_declared
from tcl.errors import InputError
from tcl.models.no_teacher import NoTeacher
from tcl.objectives.kind import Kind


class PairSizes(NamedTuple):
    """What the memory of a forward pass depends on, beside the networks."""

    batch_size: int
    max_tokens: int
    lmi_regions: int
    processes: int
    checkpointing: bool
    """Are layers computed again in the backward pass?"""
    bf16: bool


@dataclass(frozen=True)
class PairObjective:
    """A way to learn from image-text pairs. `Any` is its Config."""

    kind: Kind
    """Of its students."""
    Config: type
    """The section `objective`: a dataclass of tcl.config with a field `name`, that of the file."""
    check: Callable[[Any, TrainConfig], None]
    """InputError: the first impossible value."""
    build_student: Callable[[ModelConfig, Any, PreTrainedTokenizerBase], nn.Module]
    """(model, objective, tokenizer) -> a Student. InputError: networks that cannot be built."""
    activation_bytes: Callable[[nn.Module, Any, PairSizes], float]
    """(student, objective, sizes) -> what a forward pass keeps, per device."""
    build_teacher: Callable[[nn.Module, ModelConfig, int, bool], nn.Module] = lambda *_: NoTeacher()
    """(student, model, seed, named_ids) -> its Teacher. named_ids: all pairs of an image are right for each other."""
    matches: bool = False
    """Can its students match pairs: is there a second stage of retrieval?"""
    two_views: bool = False
    """Does the teacher look at a view of its own?"""
    masked_share: Callable[[Any], float] = lambda _: 0.0
    """Share of tokens that the loader masks, 0 to 1."""
    distillation: Callable[[Any], Distillation] = lambda _: NO_TEACHER
    """How the teacher is followed."""
    weights_from: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda weights: weights
    """Weights of another kind of student, from which one may start -> by the names of its own."""
    starts_random: tuple[str, ...] = ()
    """Prefixes of its parameters that those may be without."""
    not_needed: tuple[str, ...] = ()
    """Prefixes of weights from which its students may start and have no place for."""
    notices: Callable[[Any], list[str]] = lambda _: []
    """Lines for the person watching."""


def objective_named(name: object) -> PairObjective:
    """The objective of the file tcl/objectives/NAME.py. InputError: there is none."""
    found = declared(objectives, "OBJECTIVE", name)
    if found is None:
        accepted = ", ".join(names_declared(objectives, "OBJECTIVE"))
        raise InputError(f"objective: {name!r} is not possible; accepted: {accepted}")
    return found
