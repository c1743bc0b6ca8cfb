"""The file behind an item of an index, as it is now."""

import io
import os
from pathlib import Path
from typing import BinaryIO

from tcl.annotations.inside import open_inside, read_inside
from tcl.data.images.decode_image import image_bytes
from tcl.data.images.read_images import MAX_FILE_BYTES
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.read_shard import is_remote, read_samples
from tcl.data.shards.sample_keys import media_of
from tcl.index.catalogue import Item
from tcl.index.description import Description

ELSEWHERE = "in a shard that lies elsewhere"
GONE = "no longer in its shard"


def read_original(description: Description, item: Item) -> bytes:
    """An image file. Nothing outside the index's folder or shards is opened, whatever way leads there. BadSample: it is
    gone, or in a shard behind a URL, which would be read from its beginning."""
    if description.shards is None:
        return read_inside(Path(description.images or "/"), os.fsdecode(item.file), MAX_FILE_BYTES)
    return image_bytes(_sample(item))


def open_original(description: Description, item: Item) -> BinaryIO:
    """A file that is played, as read_original. It is to be closed."""
    if description.shards is None:
        return open_inside(Path(description.images or "/"), os.fsdecode(item.file))
    content = media_of(_sample(item))
    if content is None:
        raise BadSample(GONE)
    return io.BytesIO(content)


def _sample(item: Item) -> dict[str, bytes]:
    name = os.fsdecode(item.file)
    if is_remote(name):
        raise BadSample(ELSEWHERE)
    for sample in read_samples(name):
        if sample.key.partition("/")[2] == item.key:
            return sample.usable()
    raise BadSample(GONE)
