"""A loaded model of NLVR2: is a text true of two images?"""

from collections.abc import Iterable
from typing import overload

from tcl.inference.images import ImageLike
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.statement_logits import statement_logits

Images = ImageLike | Iterable[ImageLike]


class TCLForNLVR(LoadedModel):
    """A model fine-tuned on NLVR2, ready to use; `docs/python.md` shows it.

    Images are what they are to tcl.TCL. What cannot be used is refused with tcl.errors.InputError, one line that names
    it, as by tcl.TCL; texts are cleaned and cut as there.
    """

    @overload
    def answer(self, left: ImageLike, right: ImageLike, text: str) -> bool: ...

    @overload
    def answer(self, left: Images, right: Images, text: list[str]) -> list[bool]: ...

    def answer(self, left, right, text):
        """Is a text true of two images? A list of answers to a list of texts.

        left, right: one each for all texts, or as many as there are. InputError: neither, and what cannot be used.
        """
        found = statement_logits(self, {"left": left, "right": right}, text)
        true = (found[:, 1] > found[:, 0]).tolist()
        return true[0] if isinstance(text, str) else true

    @overload
    def probability(self, left: ImageLike, right: ImageLike, text: str) -> float: ...

    @overload
    def probability(self, left: Images, right: Images, text: list[str]) -> list[float]: ...

    def probability(self, left, right, text):
        """As `answer`, how probable it is that the text is true, 0 to 1."""
        found = statement_logits(self, {"left": left, "right": right}, text).softmax(dim=1)[:, 1].tolist()
        return found[0] if isinstance(text, str) else found
