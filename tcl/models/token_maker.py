"""Which model stored tokens are of: a hash of all that makes them, and of nothing else."""

import hashlib

from torch import nn

from tcl.models.encoders import Encoders


def token_maker_hash(encoders: Encoders) -> str:
    """Of the image encoder, how it prepares pixels, and the compression: 32 hexadecimal digits.

    A fusion encoder that is trained on above a frozen image encoder goes on reading the same tokens.
    """
    image, compression = encoders.image_encoder, encoders.fusion_encoder.compression
    found = hashlib.blake2b(digest_size=16)
    found.update(repr((tuple(image.grid), tuple(image.mean), tuple(image.std))).encode())
    for part in (image, nn.Identity() if compression is None else compression):
        for name, tensor in sorted(part.state_dict().items()):
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            found.update(tensor.detach().cpu().contiguous().numpy())
    return found.hexdigest()
