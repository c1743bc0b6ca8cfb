"""Images of an evaluation as tokens and as embeddings, shared among the processes."""

from collections.abc import Callable, Iterator, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from tcl.models.encoders import Encoders

Decode = Callable[[Sequence[Sequence[int]]], Iterator[Tensor]]
"""Batches of indices of images -> pixels of each batch, as an image encoder takes them."""


class EncodedImages:
    """Tokens of `count` images, encoded when they are asked for, batch_size at a time; some are kept, up to
    room_gib."""

    def __init__(
        self,
        accelerator: Accelerator,
        encoders: Encoders,
        count: int,
        decode: Decode,
        batch_size: int,
        room_gib: float,
    ):
        self.accelerator = accelerator
        self.encoders = encoders
        self.count = count
        self.decode = decode
        self.batch_size = batch_size
        self.room = room_gib * 2**30
        self.kept: dict[int, Tensor] = {}

    def embed(self) -> Tensor:
        """Embeddings of all images [I, embed_dim]; each process encodes its share."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        own = range(self.count * rank // processes, self.count * (rank + 1) // processes)
        features = []
        for _, tokens in self.encode(own):
            with self.accelerator.autocast():
                features.append(self.encoders.embed_images(tokens[None]).cpu())
        gathered = [part for part in gather_object([torch.cat(features) if features else None]) if part is not None]
        return torch.cat(gathered).to(self.accelerator.device)

    def encode(self, indices: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """(index, tokens [N, width]) of images, in the order of `indices`."""
        missing = [index for index in indices if index not in self.kept]
        fresh = self._encode_in_batches(missing)
        for index in indices:
            yield (index, self.kept[index]) if index in self.kept else next(fresh)

    def _encode_in_batches(self, indices: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        batches = [indices[start : start + self.batch_size] for start in range(0, len(indices), self.batch_size)]
        for batch, pixels in zip(batches, self.decode(batches), strict=True):
            with self.accelerator.autocast():
                encoded = self.encoders.image_encoder(pixels.to(self.accelerator.device))
            for index, tokens in zip(batch, encoded, strict=True):
                size = tokens.numel() * tokens.element_size()
                if size <= self.room:
                    self.room -= size
                    self.kept[index] = tokens.clone()
                yield index, tokens
