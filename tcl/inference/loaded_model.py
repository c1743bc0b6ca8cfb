"""A loaded model of any kind: on a device, in a precision, to be saved and pushed again."""

import importlib
from pathlib import Path
from typing import TypeVar

import torch
from huggingface_hub import ModelHubMixin

from tcl.config.checks import require
from tcl.data.images.augment import eval_transform
from tcl.errors import InputError
from tcl.exports.pretrained import Pretrained, load_pretrained, save_pretrained
from tcl.inference.hardware import Precision, find_hardware
from tcl.objectives.kind import Kind

Model = TypeVar("Model", bound="LoadedModel")


class LoadedModel(ModelHubMixin):
    """What `TCL`, `TCLForVQA` and the like have in common, and what a kind without a class of its own is opened by.

    `student` is in eval mode on `hardware.device`; `transform` makes an image what its image encoder takes.
    """

    _hub_mixin_config: dict = {}  # noqa: RUF012  else the mixin would copy the whole model into it

    def __init__(
        self,
        pretrained: Pretrained,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
    ):
        """Arguments as in `from_pretrained`."""
        opened_by = class_of(pretrained.kind)
        if not isinstance(self, opened_by):
            raise InputError(
                f"a {pretrained.kind.name} model is no {type(self).__name__}; load it with {opened_by.__name__}"
            )
        require(batch_size >= 1, "batch_size", batch_size, "1 or more")
        self.pretrained = pretrained
        self.precision = precision
        self.batch_size = batch_size
        self.student = pretrained.student.eval()
        image = self.student.averaged.image_encoder
        self.transform = eval_transform(pretrained.model.image.image_size, image.mean, image.std)
        self.to(device)

    @classmethod
    def from_pretrained(
        cls: type[Model],
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
    ) -> Model:
        """Load a run's output_dir, one of its checkpoints, an exported folder or a hub id, as the class for its kind.

        revision: branch, tag or commit on the hub. device: cpu, cuda, cuda:N; None: a GPU where there is one.
        precision: auto (bf16 autocast where the hardware multiplies bf16 fast), bf16 or fp32. batch_size: images or
        questions per forward pass, >= 1. InputError: nothing to load there, a model of another kind, or arguments out
        of range.
        """
        pretrained = load_pretrained(str(source), revision=revision)
        opened_by = class_of(pretrained.kind)
        chosen = opened_by if issubclass(opened_by, cls) else cls
        return chosen(pretrained, device=device, precision=precision, batch_size=batch_size)

    def _save_pretrained(self, save_directory: Path) -> None:
        """For the mixin's save_pretrained and push_to_hub."""
        save_pretrained(self.pretrained, save_directory)

    def to(self: Model, device: str | torch.device | None) -> Model:
        """Move to a device, as in `from_pretrained`; returns itself."""
        self.hardware = find_hardware(device, self.precision)
        self.student.to(self.hardware.device)
        return self


def class_of(kind: Kind) -> type[LoadedModel]:
    """By which models of `kind` are opened."""
    module, name = kind.opened_by.split(":")
    return getattr(importlib.import_module(module), name)
