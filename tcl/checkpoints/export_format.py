"""The files around the weights of an export, which anybody may have written: every value is checked before it is used.

config.json               what the networks are and how texts are cut; its `format_version` counts what it means
preprocessor_config.json  the same of images, as other software expects it
answers.txt               VQA: the closed list of answers, one a line, where there is one
"""

import json
import os
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import timm
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tcl.checkpoints.loading_code import AUTO_MAP, write_code
from tcl.checkpoints.transformers_config import MODEL_TYPE
from tcl.config.checks import check_at_least, require
from tcl.config.model import ModelConfig, TextEncoderConfig, check_model
from tcl.data.texts.answer_list import read_answer_list
from tcl.encoders.image_weights import fetches
from tcl.errors import InputError
from tcl.plain_values import read_json
from tcl.typed_section import decode, warn_of_older
from tcl.whole_file import write_whole

FORMAT_VERSION = 1
"""Raised whenever a reader of the version before would misunderstand what is written."""
CONFIG, PREPROCESSOR, ANSWERS = "config.json", "preprocessor_config.json", "answers.txt"
BERT_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "embedding_size",
    "task_type_vocab_size",
    "use_task_id",
)
"""What of a transformers config makes the networks where layers of BERT are shared out between text and fusion encoder,
and all that such an export may set."""
_NO_SIZES = re.compile(r"config|path|file|backbone|pretrained|implementation|name|auto|decoder|cross_attention")
"""In the name of a field that may lead elsewhere, or make another network than one that reads texts."""


@dataclass
class ExportConfig:
    """What config.json holds beside its version."""

    kind: str
    """The name of a `tcl.objectives.kind.Kind`."""
    model: ModelConfig
    """Names, sizes and normalisation, complete: nothing in it refers to a file or to the hub."""
    max_tokens: int | None = 25
    """Longest text in tokens, [CLS] included, >= 2; None: it reads no texts, and there is no tokenizer."""
    max_words: int | None = 30
    """Longest text in words after cleaning, >= 1; None as for max_tokens."""
    parts: dict[str, Any] = field(default_factory=dict)
    """Plain values of the kind's own Parts, which lie beside the others: nothing has checked them yet."""

    @property
    def reads_text(self) -> bool:
        """Is there a tokenizer beside it?"""
        return self.max_tokens is not None


def is_export(folder: Path) -> bool:
    """Is `folder` a model in our format?"""
    weights = ("model.safetensors", "model.safetensors.index.json")
    return os.path.isfile(folder / CONFIG) and any(os.path.isfile(folder / name) for name in weights)


def write_config(config: ExportConfig, folder: Path, *, with_code: bool = False) -> None:
    """config.json and preprocessor_config.json into `folder`. with_code: and `tcl.checkpoints.loading_code`."""
    of_transformers: dict[str, Any] = {"model_type": MODEL_TYPE}
    if with_code:
        of_transformers["auto_map"] = AUTO_MAP
        write_code(folder)
    _write_json(folder / PREPROCESSOR, preprocessor_config(config.model))
    _write_json(folder / CONFIG, of_transformers | _description(config))


def write_description(config: ExportConfig, path: Path) -> None:
    """`config` into the file `path`, which is whole at every moment."""
    write_whole(path, lambda out: _write_json(out, _description(config)))


def _description(config: ExportConfig) -> dict[str, Any]:
    said = {"format": "tcl", "format_version": FORMAT_VERSION} | asdict(config)
    said |= said.pop("parts")
    said["model"]["text"].pop("tokenizer")  # it lies beside
    return said


def read_config(folder: Path) -> ExportConfig:
    """config.json of `folder`; model.text.tokenizer is the folder itself.

    An older file loads, and a warning says what it lacks and what is taken instead. InputError: a newer version,
    unknown fields, impossible values, a model that wants further files, or images prepared otherwise than
    preprocessor_config.json says.
    """
    config = read_description(folder / CONFIG, folder)
    _check_preprocessor(config.model, folder / PREPROCESSOR)
    return config


def read_description(path: Path, tokenizer: Path) -> ExportConfig:
    """What `write_description` wrote; model.text.tokenizer is the folder `tokenizer`, where texts are read. InputError
    as `read_config`."""
    said = _read_json(path)
    version = said.pop("format_version", None)
    for of_transformers in ("model_type", "auto_map"):
        said.pop(of_transformers, None)
    if said.pop("format", None) != "tcl" or not isinstance(version, int):
        raise InputError(f"{path}: no `format: tcl` with a `format_version`; give a folder that save_pretrained wrote")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path}: format_version {version} is newer than this version of tcl, which reads up to {FORMAT_VERSION}; "
            f"upgrade tcl"
        )
    # Files of the first version name the part of one kind, as null, in those of all others.
    own = {field.name for field in fields(ExportConfig)} - {"parts"}
    parts = {name: said.pop(name) for name in list(said) if name not in own}
    absent: dict[str, Any] = {}
    config = decode(ExportConfig, said, str(path), absent)
    config.parts = {name: value for name, value in parts.items() if value is not None}
    for name in ("model.text.tokenizer", "parts"):
        absent.pop(name, None)
    warn_of_older(path, absent)
    if config.reads_text:
        config.model.text.tokenizer = str(tokenizer)
    check_self_contained(config.model, path)
    if config.model.image.mean is None or config.model.image.std is None:
        raise InputError(f"{path}: model.image.mean and std are not there; accepted: three numbers each")
    check_model(config.model)
    check_at_least(2, {f"{path}: max_tokens": config.max_tokens})
    check_at_least(1, {f"{path}: max_words": config.max_words})
    both = config.reads_text == (config.max_words is not None)
    require(both, f"{path}: max_words", config.max_words, "a number beside a number of max_tokens, null beside null")
    return config


def preprocessor_config(model: ModelConfig) -> dict[str, Any]:
    """What to do with an image: resize to the square (bicubic), to 0..1, subtract the mean, divide by the std."""
    side = model.image.image_size
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 3,  # bicubic
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model.image.mean),
        "image_std": list(model.image.std),
    }


def write_answers(answers: list[str] | None, folder: Path) -> None:
    """answers.txt; one of a former export goes where there are none."""
    if answers is None:
        (folder / ANSWERS).unlink(missing_ok=True)
    else:
        (folder / ANSWERS).write_text("".join(f"{answer}\n" for answer in answers), encoding="utf-8")


def read_answers(folder: Path) -> list[str] | None:
    """The closed list of answers of an export; None: it has none. InputError: not text, or empty."""
    path = folder / ANSWERS
    return read_answer_list(path, "source") if path.is_file() else None


def check_self_contained(model: ModelConfig, place: Path) -> None:
    """InputError: the networks cannot be built from the files of an export alone.

    What would fetch weights, configurations or code from elsewhere is refused.
    """
    _check_image_arguments(model.image.overrides, place)
    if model.image.pretrained or model.text.pretrained or model.fusion.pretrained:
        raise InputError(f"{place}: model.*.pretrained is set; accepted: false or null, the weights lie beside")
    if ":" in model.image.name or not timm.is_model(model.image.name.split(".")[0]):
        raise InputError(f"{place}: model.image.name {model.image.name!r} is none of timm's own architectures")
    if model.text.name not in CONFIG_MAPPING:
        raise InputError(
            f"{place}: model.text.name {model.text.name!r} is no model type of transformers, and hub ids and paths in "
            f"this file are not followed; set it to bert, roberta, ... with its sizes in model.text.overrides"
        )
    _check_text_arguments(model.text, place)


def text_sizes(config: PreTrainedConfig, *, whole: bool) -> dict[str, Any]:
    """What makes the text encoder of `config`, as an export says it in model.text.overrides.

    whole: all layers read text, whatever kind of model it is. What an export may not say is there only if the model
    would be another one without it: `check_self_contained` refuses it.
    """
    if not whole:
        return {name: getattr(config, name) for name in BERT_SIZES if hasattr(config, name)}
    said, default = config.to_dict(), type(config)().to_dict()
    return {
        name: said[name]
        for name in _own_fields(type(config))
        if name in said and (_is_size(name, said[name]) or said[name] != default.get(name))
    }


def _own_fields(kind: type[PreTrainedConfig]) -> list[str]:
    """The fields that a kind of model adds to those of all: none of these changes what the networks are."""
    own = [base for base in kind.__mro__ if base not in PreTrainedConfig.__mro__]
    return [name for base in own for name in vars(base).get("__annotations__", ())]


def _is_size(name: str, value: Any) -> bool:
    """Numbers, names of functions, lists and sections of them, but no paths."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_size(key, item) for key, item in value.items())
    if isinstance(value, list):
        return all(not isinstance(item, (list, dict)) and _is_size(name, item) for item in value)
    plain = value is None or isinstance(value, (bool, int, float)) or re.fullmatch(r"[\w.+-]*", str(value))
    return bool(plain) and not _NO_SIZES.search(name)


def _check_image_arguments(overrides: dict[str, Any], place: Path) -> None:
    for name, value in overrides.items():
        if fetches(name) or not _is_plain(value):
            raise InputError(f"{place}: model.image.overrides.{name} {value!r} is not accepted; sizes and rates are")


def _check_text_arguments(text: TextEncoderConfig, place: Path) -> None:
    own = [name for name in _own_fields(CONFIG_MAPPING[text.name]) if not _NO_SIZES.search(name)]
    accepted = [*BERT_SIZES, *(name for name in own if name not in BERT_SIZES)]
    for name, value in text.overrides.items():
        if name not in accepted or not _is_size(name, value):
            raise InputError(
                f"{place}: model.text.overrides.{name} {value!r} is not accepted; accepted: {', '.join(accepted)}"
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _check_preprocessor(model: ModelConfig, path: Path) -> None:
    if not path.is_file():
        return
    said, expected = _read_json(path), preprocessor_config(model)
    for name, value in expected.items():
        if name in said and said[name] != value:
            raise InputError(
                f"{path}: {name} is {said[name]!r}, but config.json's model.image makes it {value!r}; change both"
            )


def _read_json(path: Path) -> dict:
    said = read_json(path, "source")
    if not isinstance(said, dict):
        raise InputError(f"{path}: holds a {type(said).__name__}; accepted: a JSON object")
    return said


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
