"""An export's networks as a model of transformers: read and written as exports are, whatever then trains or asks it."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from tcl.checkpoints.transformers_config import TCLConfig
from tcl.errors import InputError
from tcl.exports.kinds import kind_named
from tcl.exports.pretrained import Pretrained, load_pretrained, save_pretrained
from tcl.inference.loaded_model import class_of

Model = TypeVar("Model", bound="ExportModel")
_NOT_POSSIBLE = ("dtype", "torch_dtype", "device_map", "quantization_config", "attn_implementation")


class ExportModel(PreTrainedModel):
    """What `TCLEmbeddings` and `TCLMatching` have in common. Weights are fp32."""

    config_class = TCLConfig
    opened_as: type
    """What in `tcl.inference` the same model has to be."""
    can: str
    """What such a model does, for messages."""

    def __init__(self, config: TCLConfig, pretrained: Pretrained):
        """InputError: a model of another kind."""
        opened_by = class_of(pretrained.kind)
        if not issubclass(opened_by, self.opened_as):
            raise InputError(
                f"source: a {pretrained.kind.name} model ({opened_by.__name__}), which does not {self.can}"
            )
        super().__init__(config)
        self.pretrained = pretrained
        self.student = pretrained.student

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: a kind's functions cannot be pickled, but it is known by its name."""
        return self.__dict__ | {"pretrained": replace(self.pretrained, kind=self.pretrained.kind.name)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.pretrained = replace(self.pretrained, kind=kind_named(self.pretrained.kind, "kind"))

    @classmethod
    def from_pretrained(
        cls: type[Model], source: str, *arguments: Any, config: TCLConfig, revision: str | None = None, **options: Any
    ) -> Model:
        """As transformers calls it, on the CPU. source: an export, or its hub id with the `revision`; where its files
        are kept and who asks is as huggingface_hub finds it in the environment (HF_HOME, HF_TOKEN).

        InputError: as `tcl.exports.pretrained.load_pretrained`, a model of another kind, options of transformers'
        loading that would change its weights or where they lie.
        """
        for name in _NOT_POSSIBLE:
            if options.get(name) not in (None, "auto", "float32", torch.float32):
                raise InputError(
                    f"model_kwargs: {name} {options[name]!r} is not possible; the weights are loaded in fp32"
                )
        return cls(config, load_pretrained(source, revision=revision)).eval()

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """An export of it. InputError: it cannot be written."""
        save_pretrained(self.pretrained, Path(save_directory))
