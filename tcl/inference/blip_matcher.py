"""A BLIP of transformers for image-text matching, loaded to be the second stage of a search."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tcl.config.checks import require
from tcl.foreign.blip import Blip, load_blip
from tcl.foreign.pictures import preparation
from tcl.inference.hardware import Precision, find_hardware
from tcl.inference.match import JointEncoder
from tcl.inference.matcher import Matcher
from tcl.models.token_maker import hash_of_parts


class BlipMatcher(Matcher):
    """A BlipForImageTextRetrieval: `match`, `match_grid`, and `matcher=` of `retrieve`; `docs/python.md` shows it.

    Its own embeddings are left out: the first stage is another model's.
    """

    def __init__(
        self,
        blip: Blip,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
    ):
        """Arguments as in `from_pretrained`."""
        require(batch_size >= 1, "batch_size", batch_size, "1 or more")
        self.blip = blip
        self.precision = precision
        self.batch_size = batch_size
        self.transform = blip.transform
        self.to(device)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
    ) -> "BlipMatcher":
        """Load a folder or hub id as transformers saves them; no code beside it is run. The arguments are those of
        tcl.TCL. InputError: a BLIP for something else, weights or processors that are not there."""
        return cls(load_blip(str(source), revision), device=device, precision=precision, batch_size=batch_size)

    def to(self, device: str | torch.device | None) -> "BlipMatcher":
        """Move to a device, as in `from_pretrained`; returns itself."""
        self.hardware = find_hardware(device, self.precision)
        self.blip.networks.to(self.hardware.device)
        return self

    @property
    def _joint(self) -> JointEncoder:
        """On the device."""
        networks = self.blip.networks
        return JointEncoder(networks.text_tokens, networks.fusion_encoder, networks.itm_head)

    @cached_property
    def token_maker(self) -> str:
        """As `Matcher.token_maker`: of the image encoder and how images are prepared for it."""
        return hash_of_parts(preparation(self.transform), [self.blip.networks.vision_model])

    @property
    def token_shape(self) -> tuple[int, int]:
        """As `Matcher.token_shape`: all tokens."""
        embeddings = self.blip.networks.vision_model.embeddings
        return embeddings.num_positions, embeddings.embed_dim

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """As `Matcher.image_tokens`."""
        return self.blip.networks.image_tokens(pixels)

    def _tokenize(self, texts: Sequence[str], name: str = "texts") -> tuple[Tensor, Tensor]:
        """As `Matcher._tokenize`."""
        return self.blip.reader.read(texts, name)
