"""The file behind an image of an index, as it is now."""

import os
from pathlib import Path

from tcl.annotations.inside import read_inside
from tcl.data.images.decode_image import image_bytes
from tcl.data.images.read_images import MAX_FILE_BYTES
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.read_shard import is_remote, read_samples
from tcl.index.catalogue import Item
from tcl.index.description import Description

ELSEWHERE = "in a shard that lies elsewhere"
GONE = "no longer in its shard"


def read_original(description: Description, item: Item) -> bytes:
    """An image file. Nothing outside the index's folder or shards is opened, whatever way leads there. BadSample: it is
    gone, or in a shard behind a URL, which would be read from its beginning."""
    name = os.fsdecode(item.file)
    if description.shards is None:
        return read_inside(Path(description.images or "/"), name, MAX_FILE_BYTES)
    if is_remote(name):
        raise BadSample(ELSEWHERE)
    for sample in read_samples(name):
        if sample.key.partition("/")[2] == item.key:
            return image_bytes(sample.usable())
    raise BadSample(GONE)
