"""The classes that an image may belong to, as loaded models tell them."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tcl.config.checks import require
from tcl.search.class_prompts import best_classes


@dataclass(frozen=True)
class ClassGuess:
    """One class."""

    name: str
    probability: float
    """0 to 1, among all classes."""


def check_k(k: int) -> None:
    """InputError: not a number of classes."""
    require(k >= 1, "k", k, "1 or more")


def guesses(logits: Tensor, names: Sequence[str], k: int) -> list[list[ClassGuess]]:
    """Logits [n, classes] -> the k best of `names` for each row, best first; all, where there are fewer."""
    places, probabilities = (tensor.tolist() for tensor in best_classes(logits, k))
    return [
        [ClassGuess(names[place], probability) for place, probability in zip(*row, strict=True)]
        for row in zip(places, probabilities, strict=True)
    ]
