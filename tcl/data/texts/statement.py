"""Texts about images with a class, as samples of visual entailment and NLVR2 have them."""

from dataclasses import dataclass

from tcl.data.images.image_format import IMAGE_EXTENSIONS, TOKENS_EXTENSION
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.captions import clean_caption, spelt_out
from tcl.data.texts.label import LabelReader
from tcl.data.texts.sample_texts import json_of

TEXT_NAMES = ("hypothesis", "sentence")
"""Of the text in the JSON, in all forms."""


@dataclass(frozen=True)
class Form:
    """What the samples of a task look like: images, and a JSON with the text and its "label"."""

    text: str
    """The name of the text in the JSON, one of TEXT_NAMES."""
    classes: tuple[str, ...]
    """Names of the labels, in the order of a model's scores."""
    images: tuple[str, ...]
    """Names of the images. The only one is KEY.jpg; of several, each is KEY.NAME.jpg."""


@dataclass(frozen=True)
class Statement:
    """What a sample says."""

    text: str
    """Cleaned as captions are."""
    label: int
    """Its place in the classes of the form."""
    images: tuple[dict[str, bytes], ...]
    """In the order of the form, each as a sample has its only one: bytes by extension."""
    identifier: str
    """"identifier" of the JSON, or else the sample's key."""
    group: str | None
    """"group" of the JSON: with which others it is right or wrong together; None: nothing is said."""


def statement_of(fields: dict[str, bytes], key: str, form: Form, max_words: int) -> Statement:
    """A sample's bytes by extension -> what it says, the text cut to max_words (>= 1).

    BadSample: an image, the text or the label is missing, or the label is none of the form's.
    """
    said = json_of(fields)
    text = said.get(form.text)
    if not isinstance(text, str | None):
        raise BadSample(f"{form.text} is no text")
    cleaned = clean_caption(text or "", max_words)
    if not cleaned:
        raise BadSample(f"missing {form.text}")
    label = LabelReader(form.classes)(fields)
    images = tuple(_image(fields, "" if len(form.images) == 1 else f"{name}.", name) for name in form.images)
    named = {name: said[name] for name in ("identifier", "group") if isinstance(said.get(name), str | int)}
    identifier, group = (spelt_out(str(named[name])) if name in named else None for name in ("identifier", "group"))
    return Statement(cleaned, label, images, key if identifier is None else identifier, group)


def statement_texts(fields: dict[str, bytes], max_words: int) -> list[str]:
    """The texts of a sample of any form, cleaned. BadSample: its JSON is none."""
    said = json_of(fields)
    found = (clean_caption(said[name], max_words) for name in TEXT_NAMES if isinstance(said.get(name), str))
    return [text for text in found if text]


def _image(fields: dict[str, bytes], prefix: str, name: str) -> dict[str, bytes]:
    ends = (*IMAGE_EXTENSIONS, TOKENS_EXTENSION)
    found = {end: fields[f"{prefix}{end}"] for end in ends if f"{prefix}{end}" in fields}
    if not found:
        raise BadSample("no image" if not prefix else f"no {name} image")
    return found
