"""What the loader hands to the training step."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass
class Batch:
    """B image-text pairs on one device; texts are padded to L tokens, M tokens of them are masked for MLM."""

    image: Tensor
    """[B, 3, H, W] float, the first augmented view."""
    image_aug: Tensor
    """[B, 3, H, W] float, the second augmented view, for the teacher."""
    input_ids: Tensor
    """[B, L] int64, [CLS] in column 0."""
    attention_mask: Tensor
    """[B, L] int64, 1 token, 0 padding."""
    masked_ids: Tensor
    """[B, L] int64, input_ids with masked tokens replaced."""
    mask_positions: Tensor
    """[M] int64, flat index b * L + l of each masked token."""
    mask_labels: Tensor
    """[M] int64, the token that was there."""
    keys: list[str]
    """'<shard name>/<sample key>' of each pair, for tests and messages."""

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def images_to(self, dtype: torch.dtype) -> "Batch":
        return replace(self, image=self.image.to(dtype), image_aug=self.image_aug.to(dtype))

    def pin_memory(self) -> "Batch":
        return self._map(Tensor.pin_memory)

    def _map(self, function) -> "Batch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: function(v) if isinstance(v, Tensor) else v for name, v in values.items()})
