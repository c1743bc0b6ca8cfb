"""Which class a sample belongs to: "label" in its JSON, or its .cls file."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.sample_texts import json_of, text_of

NO_LABEL = "missing label"
UNKNOWN_LABEL = "label is no class and no index of one"


@dataclass
class Labels:
    """The classes of a batch."""

    index: Tensor
    """[B] int64, places in the list of classes."""

    def describe(self) -> str:
        """How many different ones."""
        return f"of {self.index.unique().numel()} classes"


class LabelReader:
    """The class of a sample as its place in `classes`.

    What a sample says is the name of a class, or else a place, from 0: where classes are called 1, 2, 3, a 1 is a name.
    """

    def __init__(self, classes: Sequence[str]):
        self.count = len(classes)
        self.places = {name: place for place, name in enumerate(classes)}

    def __call__(self, fields: dict[str, bytes]) -> int:
        """A sample's bytes by extension -> 0 .. classes - 1. BadSample: no label, or one that is no class."""
        label = json_of(fields).get("label")
        if label is None and "cls" in fields:
            label = text_of(fields["cls"])
        if label is None:
            raise BadSample(NO_LABEL)
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise BadSample(UNKNOWN_LABEL)
        name = " ".join(str(label).split())
        if name in self.places:
            return self.places[name]
        # Some thousand digits would be a number that Python refuses to read.
        if not (name.isascii() and name.isdigit() and len(name) < 10 and int(name) < self.count):
            raise BadSample(UNKNOWN_LABEL)
        return int(name)
