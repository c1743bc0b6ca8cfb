"""What the loader hands to the training step."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from tcl.data.images.view_step import Step

AnyBatch = TypeVar("AnyBatch", "Batch", "QuestionBatch")


@dataclass
class Batch:
    """B image-text pairs on one device; texts are padded to L tokens, M tokens of them are masked for MLM."""

    image: Tensor
    """[B, 3, H, W], the first augmented view: uint8 from the loader, float as models take it (`normalise_images`)."""
    image_aug: Tensor
    """[B, 3, H, W], the second augmented view, for the teacher."""
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
    image_ids: Tensor | None = None
    """[B] int64 >= 0: pairs with equal ids show the same image, and each other's texts are right for them. None: every
    pair is taken for itself."""
    image_steps: list[list[Step]] = field(default_factory=list)
    """[B], what is left to do to each first view (`finish_views`), or none at all."""
    image_aug_steps: list[list[Step]] = field(default_factory=list)
    """The same of the second views."""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass
class QuestionBatch:
    """B questions about images with A answers in all, A >= B; questions are padded to L tokens, answers to T."""

    image: Tensor
    """[B, 3, H, W], augmented: uint8 from the loader, float as models take it (`normalise_images`)."""
    input_ids: Tensor
    """[B, L] int64, questions, [CLS] in column 0."""
    attention_mask: Tensor
    """[B, L] int64, 1 token, 0 padding."""
    answer_ids: Tensor
    """[A, T] int64, [CLS] tokens [SEP] padding; a token sees only those before it, so padding needs no mask."""
    answer_weights: Tensor
    """[A] float, 0 to 1: the share of the annotators who gave this answer."""
    question_index: Tensor
    """[A] int64, ascending: which question each answer belongs to."""
    target_positions: Tensor
    """[M] int64, flat index a * T + t of every answer token that has a successor: where the decoder is asked."""
    target_ids: Tensor
    """[M] int64, those successors."""
    keys: list[str]
    """'<shard name>/<sample key>' of each question."""
    image_steps: list[list[Step]] = field(default_factory=list)
    """[B], what is left to do to each view (`finish_views`), or none at all."""

    def __len__(self) -> int:
        return len(self.keys)


def map_tensors(batch: AnyBatch, function: Callable[[Tensor], Tensor]) -> AnyBatch:
    """`batch` with `function` applied to each of its tensors."""
    tensors = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: function(value) for name, value in tensors.items() if isinstance(value, Tensor)})


def to_device(batch: AnyBatch, device: torch.device | str) -> AnyBatch:
    """`batch` on `device`; from pinned memory the copy does not wait."""
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def images_to(batch: AnyBatch, dtype: torch.dtype) -> AnyBatch:
    """`batch` with its images, the tensors of four dimensions, in `dtype`."""
    return map_tensors(batch, lambda tensor: tensor.to(dtype) if tensor.ndim == 4 else tensor)
