"""Evaluation data: images, with every caption of each."""

from collections import Counter
from dataclasses import dataclass, field

from tcl.data.decode import BadSample, clean_captions, decode_image, image_bytes
from tcl.data.read_shard import read_samples
from tcl.data.shards import list_shards
from tcl.errors import InputError


@dataclass
class RetrievalSet:
    """I images and C captions (C >= I), in the order of the shards."""

    images: list[bytes] = field(default_factory=list)
    """[I], encoded; each is known to decode with tcl.data.decode.decode_image."""
    captions: list[str] = field(default_factory=list)
    """[C], cleaned."""
    image_of_caption: list[int] = field(default_factory=list)
    """[C], index of the image that the caption describes."""
    keys: list[str] = field(default_factory=list)
    """[I], '<shard name>/<sample key>'."""
    bad: Counter[str] = field(default_factory=Counter)
    """Samples (and stray tar entries) that could not be used, by cause."""


def load_retrieval_set(pattern: str, *, max_images: int | None = None, max_words: int, max_pixels: int) -> RetrievalSet:
    """The first max_images (>= 1; default: all) usable images of the shards that `pattern` names, in their order.

    Captions are cleaned and cut to max_words (>= 1); images of more than max_pixels are skipped.
    InputError: no such shards, or no usable image in them.
    """
    found = RetrievalSet()
    for url in list_shards(pattern):
        for sample in read_samples(url):
            if len(found.images) == max_images:
                return found
            found.bad.update(cause for cause, _ in sample.notices)
            try:
                if sample.problem is not None:
                    raise BadSample(sample.problem)
                content = image_bytes(sample.fields)
                captions = clean_captions(sample.fields, max_words)
                decode_image(content, max_pixels=max_pixels)
            except BadSample as problem:
                found.bad[str(problem)] += 1
                continue
            found.image_of_caption += [len(found.images)] * len(captions)
            found.images.append(content)
            found.captions += captions
            found.keys.append(sample.key)
    if not found.images:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in found.bad.most_common(5)) or "the shards are empty"
        raise InputError(f"data.val: {pattern!r} holds no usable image-text pair: {causes}")
    return found
