"""Which network an image encoder runs: what stored tokens depend on."""

import hashlib

import torch

from tcl.config.model import ImageEncoderConfig
from tcl.data.tokens.description import Tower
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.image_weights import fetches


def tower_of(encoder: ImageEncoder, config: ImageEncoderConfig) -> Tower:
    """That of `encoder`, which was built from `config`. Of weights in pieces (ZeRO 3) it knows nothing: ask before."""
    return Tower(
        name=encoder.backbone.pretrained_cfg["architecture"],
        overrides={name: value for name, value in config.overrides.items() if not fetches(name)},
        image_size=config.image_size,
        mean=tuple(map(float, encoder.mean)),
        std=tuple(map(float, encoder.std)),
        weights=hash_of(encoder.backbone),
    )


def hash_of(module: torch.nn.Module) -> str:
    """32 hexadecimal digits: equal where names, shapes and values of all parameters and buffers are."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
