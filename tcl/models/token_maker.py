"""Which model stored tokens are of: a hash of all that makes them, and of nothing else."""

import hashlib

from tcl.encoders.tower import hash_of
from tcl.models.encoders import Encoders


def token_maker_hash(encoders: Encoders) -> str:
    """Of the image encoder, how it prepares pixels, and the compression: 32 hexadecimal digits.

    A fusion encoder that is trained on above a frozen image encoder goes on reading the same tokens.
    """
    image, compression = encoders.image_encoder, encoders.fusion_encoder.compression
    weights = [hash_of(part) for part in (image, compression) if part is not None]
    prepared = tuple(image.grid), tuple(image.mean), tuple(image.std)
    return hashlib.blake2b(repr((prepared, weights)).encode(), digest_size=16).hexdigest()
