"""What tokens.json says beside shards in which stored tokens stand in place of images, and whether a run can read them.

`tcl shards --tokens` writes it (tcl.inference.token_shards).
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from tcl.config.checks import require
from tcl.config.data import AugmentConfig
from tcl.data.shards.list_shards import list_shards, read_object
from tcl.data.shards.read_shard import beside
from tcl.data.tokens.stored_tokens import Storage
from tcl.errors import InputError
from tcl.typed_section import decode

DESCRIPTION = "tokens.json"
DTYPES = {"fp16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True)
class Tower:
    """A frozen image encoder's network, so far as its tokens depend on it."""

    name: str
    """Of timm, without the tag of its weights."""
    overrides: dict[str, Any]
    """As model.image.overrides."""
    image_size: int
    """Pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str
    """32 hexadecimal digits, the hash of its parameters and buffers."""


@dataclass(frozen=True)
class TokenShards:
    """The stored tokens of a set of shards."""

    tower: Tower
    tokens: int
    """N of an image, as the network gives them."""
    width: int
    """W, their numbers."""
    storage: Storage
    augment: AugmentConfig
    """How the views were drawn, `views` of each image."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(V, N, W) of the values of an image."""
        return self.augment.views, self.tokens, self.width

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return DTYPES[self.storage]


def write_description(described: TokenShards, folder: Path) -> None:
    """tokens.json."""
    (folder / DESCRIPTION).write_text(json.dumps(asdict(described), indent=1) + "\n")


def read_description(place: str) -> TokenShards | None:
    """tokens.json at a path or URL; None: there is none. InputError: not as it is written."""
    said = read_object(place)
    if said is None:
        return None
    found = decode(TokenShards, said, place, {})
    for name in ("tokens", "width"):
        require(getattr(found, name) >= 1, f"{place}: {name}", getattr(found, name), "a number >= 1")
    views = found.augment.views
    require(views is not None and views >= 1, f"{place}: augment.views", views, "a number >= 1")
    return found


def stored_tokens_of(patterns: list[str]) -> tuple[str, TokenShards] | None:
    """(where they are described, the stored tokens) of all shards of data.train that `patterns` name; None: images.

    InputError: some hold tokens and others images, or other tokens; a description that is not one; as list_shards.
    """
    places = dict.fromkeys(beside(url, DESCRIPTION) for pattern in patterns for url in list_shards(pattern))
    found = {place: read_description(place) for place in places}
    stored = [(place, described) for place, described in found.items() if described is not None]
    if not stored:
        return None
    first, described = stored[0]
    pixels = next((place for place, other in found.items() if other is None), None)
    if pixels is not None:
        raise InputError(
            f"data.train: {beside(first, '*.tar')} hold stored tokens, and {beside(pixels, '*.tar')} images; train "
            f"from the one or the other (`tcl shards --tokens` makes tokens of images)"
        )
    for place, other in stored[1:]:
        if other != described:
            differ = (field.name for field in fields(other))
            names = [name for name in differ if getattr(other, name) != getattr(described, name)]
            raise InputError(f"data.train: {place} and {first} differ in {', '.join(names)}; make them alike")
    return first, described


def require_tower(stored: Tower, here: Tower, place: str) -> None:
    """InputError: the tokens that `place` describes are those of another tower than `here`."""
    for name in ("image_size", "mean", "std", "name", "overrides", "weights"):
        theirs, ours = getattr(stored, name), getattr(here, name)
        if theirs != ours:
            what = "the weights of the image tower" if name == "weights" else f"model.image.{name}"
            raise InputError(
                f"data.train: {place} is of tokens for which {what} were {theirs}, but here they are {ours}; train "
                f"with that tower, or make tokens of this one (`tcl shards --tokens`)"
            )


def require_augment(stored: AugmentConfig, here: AugmentConfig, place: str) -> None:
    """InputError: data.augment says otherwise than the views were drawn. views: None leaves that to the tokens."""
    for field in fields(AugmentConfig):
        theirs, ours = getattr(stored, field.name), getattr(here, field.name)
        if field.name != "on_device" and theirs != ours and (field.name, ours) != ("views", None):
            raise InputError(
                f"data.augment.{field.name}: {ours}, but the views of {place} were drawn with {theirs}; give that, or "
                f"make tokens with this (`tcl shards --tokens MODEL --config FILE`)"
            )
