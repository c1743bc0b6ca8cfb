"""Which model stored tokens are of: a hash of all that makes them, and of nothing else."""

import hashlib
from collections.abc import Iterable

from torch import nn

from tcl.models.encoders import Encoders


def token_maker_hash(encoders: Encoders) -> str:
    """Of the image encoder, how it prepares pixels, and the compression.

    A fusion encoder that is trained on above a frozen image encoder goes on reading the same tokens.
    """
    image, compression = encoders.image_encoder, encoders.fusion_encoder.compression
    preparation = repr((tuple(image.grid), tuple(image.mean), tuple(image.std)))
    return hash_of_parts(preparation, (image,) if compression is None else (image, compression))


def hash_of_parts(preparation: str, parts: Iterable[nn.Module]) -> str:
    """Of how pixels are prepared, and of the networks that they go through: 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    found.update(preparation.encode())
    for part in parts:
        for name, tensor in sorted(part.state_dict().items()):
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            found.update(tensor.detach().cpu().contiguous().numpy())
    return found.hexdigest()
