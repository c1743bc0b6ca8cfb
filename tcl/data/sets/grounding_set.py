"""Evaluation data for grounding: images, expressions, the box of what each means, and boxes to choose from."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tcl.config.data import DataConfig
from tcl.data.boxes import Box, as_box, box_problem
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.sets.add_samples import add_samples, commonest
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.read_shard import RawSample
from tcl.data.texts.captions import clean_caption, spelt_out
from tcl.data.texts.sample_texts import EMPTY_CAPTION, NOT_TEXT, json_of
from tcl.errors import InputError

NO_BOXES = "no boxes"
BOXES_DO_NOT_FIT = "not as many boxes as captions"
IDS_DO_NOT_FIT = "not as many caption_ids as captions"
NO_BOX = "expression without a box"
UNKNOWN_WORDS = "expression of no known word"
OTHER_SHAPE = "image of another shape than its height and width say"
PROPOSALS_NOT_A_LIST = "proposals are not a list of boxes"
PROPOSAL = "proposal: "
"""Causes; the last begins those of a proposal that is left out."""

MAX_EXPRESSIONS = 10_000
"""Of one sample, and as many proposals; people give dozens."""
TOO_MANY = "more than 10,000 expressions or proposals"


@dataclass(frozen=True)
class Expression:
    """What is looked for in an image, and where it is."""

    id: str
    """From "caption_ids" of the sample's JSON, or '<shard name>/<sample key>#<number>'."""
    text: str
    """Cleaned."""
    box: Box
    """In pixels of `size`."""
    image: int
    """Index."""
    size: tuple[int, int]
    """Height and width of the image in whose pixels boxes are given; it may be stored smaller."""
    proposals: tuple[Box, ...]
    """Boxes to choose from; there may be none."""


@dataclass
class GroundingSet:
    """Images, each once, and expressions about them, in the order of the shards."""

    images: list[bytes] = field(default_factory=list)
    """[I], encoded; each is known to decode with tcl.data.images.decode_image.decode_image."""
    expressions: list[Expression] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    """Samples, expressions and proposals (and stray tar entries) that could not be used, by cause."""


def load_grounding_set(
    pattern: str,
    known: Callable[[str], bool],
    *,
    max_expressions: int | None = None,
    max_words: int,
    max_pixels: int,
    max_sample_bytes: int = DataConfig.max_sample_bytes,
) -> GroundingSet:
    """The first max_expressions (>= 1; default: all) usable expressions of the shards that `pattern` names.

    known: whether the model knows a word of a text. Texts are cleaned and cut to max_words (>= 1); images of more than
    max_pixels and samples of more than max_sample_bytes are skipped. InputError: no such shards, or no usable
    expression in them.
    """
    found, index = GroundingSet(), {}
    add_samples(
        pattern,
        lambda sample, _: _add(found, index, sample, known, max_words, max_pixels),
        found.bad,
        is_full=lambda: max_expressions is not None and len(found.expressions) >= max_expressions,
        max_sample_bytes=max_sample_bytes,
    )
    if not found.expressions:
        raise InputError(f"data.val: {pattern!r} holds no usable expression with a box: {commonest(found.bad)}")
    found.expressions = found.expressions[:max_expressions]
    return found


def _add(
    found: GroundingSet,
    index: dict[bytes, tuple[int, tuple[int, int]]],
    sample: RawSample,
    known: Callable[[str], bool],
    max_words: int,
    max_pixels: int,
) -> None:
    """BadSample: nothing of it was added. Expressions and proposals that cannot be used are counted alone."""
    content, said = image_bytes(sample.usable()), json_of(sample.fields)
    texts, names, boxes = _columns(said, sample.key)
    proposals = said.get("proposals") or []
    if not isinstance(proposals, list):
        raise BadSample(PROPOSALS_NOT_A_LIST)
    if max(len(texts), len(proposals)) > MAX_EXPRESSIONS:
        raise BadSample(TOO_MANY)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    stored = index[digest][1] if digest in index else decode_image(content, max_pixels=max_pixels).shape[:2]
    size = _size(said, stored)
    usable, bad = [], Counter()
    for text, name, box in zip(texts, names, boxes, strict=True):
        cleaned = clean_caption(text or "", max_words)
        problem = _problem(cleaned, box, size, known)
        if problem is None:
            usable.append((name, cleaned, as_box(box)))
        else:
            bad[problem] += 1
    problems = [box_problem(box, *size) for box in proposals]
    bad.update(PROPOSAL + problem for problem in problems if problem)
    found.bad.update(bad)
    if not usable:
        return
    if digest not in index:
        index[digest] = len(found.images), stored
        found.images.append(content)
    choices = tuple(as_box(box) for box, problem in zip(proposals, problems, strict=True) if not problem)
    image = index[digest][0]
    found.expressions += [Expression(name, text, box, image, size, choices) for name, text, box in usable]


def _columns(said: dict, key: str) -> tuple[list[str | None], list[str], list]:
    """Captions, their ids and their boxes, as many of each. BadSample: they are no such lists."""
    texts = said["captions"] if said.get("captions") is not None else said.get("caption")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str | None) for text in texts):
        raise BadSample(NOT_TEXT)
    boxes, names = said.get("boxes"), said.get("caption_ids")
    if boxes is None:
        raise BadSample(NO_BOXES)
    if not isinstance(boxes, list) or len(boxes) != len(texts):
        raise BadSample(BOXES_DO_NOT_FIT)
    if names is None:
        names = [f"{key}#{i}" for i in range(len(texts))]
    if not isinstance(names, list) or len(names) != len(texts):
        raise BadSample(IDS_DO_NOT_FIT)
    return texts, [spelt_out(str(name)) for name in names], boxes


def _size(said: dict, stored: tuple[int, int]) -> tuple[int, int]:
    """Height and width that boxes are given in: those of the JSON, or of the image. BadSample: they are of no image
    that could have become this one by shrinking."""
    height, width = said.get("height"), said.get("width")
    if height is None and width is None:
        return tuple(stored)
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 2**20 for side in (height, width))
    # Shrinking rounds each side to a whole number of pixels.
    if not whole or abs(height * stored[1] - width * stored[0]) > height + width:
        raise BadSample(OTHER_SHAPE)
    return height, width


def _problem(text: str, box: object, size: tuple[int, int], known: Callable[[str], bool]) -> str | None:
    if not text:
        return EMPTY_CAPTION
    if not known(text):
        return UNKNOWN_WORDS
    return NO_BOX if box is None else box_problem(box, *size)
