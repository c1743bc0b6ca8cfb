"""Text models of transformers, random or pre-trained, by name: a model type, a hub id or a local folder."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)

from tcl.config.model import TextEncoderConfig
from tcl.encoders.bounded_memory import refuse_too_large
from tcl.errors import InputError
from tcl.hub_access import hub_or_cache


def load_text_model(
    config: TextEncoderConfig, vocab_size: int, pad_id: int, section: str, **options: Any
) -> PreTrainedModel:
    """The whole transformers model of `config`, all layers, with its MLM head where it has one.

    vocab_size, pad_id: of the tokenizer. section: the config section that messages name. options: for transformers.
    InputError: an unknown name, no encoder of texts, weights that cannot be had, or of fewer tokens.
    """
    source = config.pretrained if isinstance(config.pretrained, str) else config.name
    try:
        if config.pretrained:
            with hub_or_cache(source):
                architecture = AutoConfig.from_pretrained(source, trust_remote_code=False, **config.overrides)
                auto = _auto_class(architecture, source, section)
                model = auto.from_pretrained(source, config=architecture, trust_remote_code=False, **options)
        else:
            sizes = {"vocab_size": vocab_size, "pad_token_id": pad_id, **config.overrides}
            architecture = _architecture(config.name, sizes)
            auto = _auto_class(architecture, source, section)
            build = partial(auto.from_config, architecture, **options)
            refuse_too_large(build, section)
            model = build()
    except InputError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, ... with messages of many lines
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{section}: transformers cannot build {source!r} with {config.overrides} "
            f"(pretrained={config.pretrained!r}): {said}; name a BERT-like model type (bert, roberta), a hub id or a "
            f"local folder"
        ) from error
    embedded = getattr(model.config, "vocab_size", vocab_size)
    if vocab_size > embedded:
        raise InputError(
            f"{section}.tokenizer: it has {vocab_size} tokens but {source!r} embeds only {embedded}; use the tokenizer "
            f"that belongs to these weights"
        )
    return model


def _architecture(name: str, sizes: dict) -> PreTrainedConfig:
    if name in CONFIG_MAPPING and not Path(name).is_dir():
        return AutoConfig.for_model(name, **sizes)
    with hub_or_cache(name):
        return AutoConfig.from_pretrained(name, trust_remote_code=False, **sizes)


def _auto_class(architecture: PreTrainedConfig, source: str, section: str) -> type:
    """That of models with an MLM head where there is one of this kind; of models of two stacks, the encoder's alone."""
    kind = type(architecture)
    if kind in MODEL_FOR_MASKED_LM_MAPPING and not architecture.is_encoder_decoder:
        auto, made = AutoModelForMaskedLM, MODEL_FOR_MASKED_LM_MAPPING[kind]
    elif kind in MODEL_FOR_TEXT_ENCODING_MAPPING:
        auto, made = AutoModelForTextEncoding, MODEL_FOR_TEXT_ENCODING_MAPPING[kind]
    else:
        raise InputError(
            f"{section}.name: {source!r} ({architecture.model_type}) is no encoder of texts; use bert, roberta, "
            f"xlm-roberta, modernbert, distilbert, mpnet or another one that transformers has"
        )
    if hasattr(sys.modules[made.__module__], "load_cuda_kernels"):
        raise InputError(
            f"{section}.name: {source!r} ({architecture.model_type}) would fetch code from the hub, which is never "
            f"run; use another encoder"
        )
    return auto
