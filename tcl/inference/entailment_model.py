"""A loaded model of visual entailment: what an image says of a text."""

from collections.abc import Iterable
from typing import overload

from tcl.inference.class_guess import ClassGuess, guesses
from tcl.inference.images import ImageLike
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.statement_logits import statement_logits
from tcl.tasks.entailment import FORM


class TCLForEntailment(LoadedModel):
    """A model fine-tuned on visual entailment, ready to use; `docs/python.md` shows it.

    Images are what they are to tcl.TCL. What cannot be used is refused with tcl.errors.InputError, one line that names
    it, as by tcl.TCL; texts are cleaned and cut as there.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """What a text may be to an image: contradiction, neutral, entailment."""
        return FORM.classes

    @overload
    def classify(self, image: ImageLike, text: str) -> list[ClassGuess]: ...

    @overload
    def classify(self, image: ImageLike | Iterable[ImageLike], text: list[str]) -> list[list[ClassGuess]]: ...

    def classify(self, image, text):
        """The classes of a text, the most probable first, or a list of such lists for a list of texts.

        image: one for all texts, or as many as there are. InputError: neither, and what cannot be used.
        """
        found = guesses(statement_logits(self, {"image": image}, text), self.classes, len(self.classes))
        return found[0] if isinstance(text, str) else found
