"""Which model stored tokens are of: a hash of all that makes them, and of nothing else."""

import hashlib
from collections.abc import Iterable

from torch import nn

from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.tower import hash_of
from tcl.models.encoders import Encoders


def token_maker_hash(encoders: Encoders) -> str:
    """Of the image encoder, how it prepares pixels, and the compression.

    A fusion encoder that is trained on above a frozen image encoder goes on reading the same tokens.
    """
    image, compression = encoders.image_encoder, encoders.fusion_encoder.compression
    return hash_of_parts(preparation(image), (image,) if compression is None else (image, compression))


def preparation(image: ImageEncoder) -> str:
    """How pixels come to it."""
    return repr((tuple(image.grid), tuple(image.mean), tuple(image.std)))


def hash_of_parts(preparation: str, parts: Iterable[nn.Module]) -> str:
    """Of how pixels are prepared, and of the networks that they go through: 32 hexadecimal digits."""
    weights = [hash_of(part) for part in parts]
    return hashlib.blake2b(repr((preparation, weights)).encode(), digest_size=16).hexdigest()
