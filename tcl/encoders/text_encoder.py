"""Text encoder: the lower layers of a BERT-like model; the upper ones are handed to the fusion encoder.

The encoder is the stock transformers model with fewer layers, so that BERT, RoBERTa and kin (any post-norm stack of
BERT layers) keep their own embeddings and position numbering.
"""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForMaskedLM,
    BertConfig,
    BertLayer,
    PreTrainedConfig,
    PreTrainedModel,
)

from tcl.config.model import TextEncoderConfig
from tcl.encoders.bounded_memory import refuse_too_large
from tcl.encoders.dropout import Dropout
from tcl.errors import InputError
from tcl.hub_access import hub_or_cache

_FROM_PADDING = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "data2vec-text",
    "roberta-prelayernorm",
    "xmod",
)
"""Model types whose first position is the one after padding's."""


class TextEncoder(nn.Module):
    """A transformers encoder as a function from token ids to tokens. `width` is the token width."""

    def __init__(self, bert: PreTrainedModel):
        super().__init__()
        self.bert = bert
        self.width: int = bert.config.hidden_size

    frozen_parts: tuple[nn.Module, ...] = ()
    """What of it is never trained."""

    @property
    def layers(self) -> list[nn.Module]:
        """Its transformer layers."""
        return list(self.bert.encoder.layer)

    def configure_layers(self, *, activation_checkpointing: bool, fused_attention: bool) -> None:
        """Compute layers again in the backward pass? Attention stays as transformers has it."""
        if activation_checkpointing:
            self.bert.activation_checkpointing_enable({"use_reentrant": False})

    @property
    def word_embeddings(self) -> nn.Embedding:
        """[vocabulary, embedding width]; the MLM head's output weights are tied to it."""
        return self.bert.get_input_embeddings()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask (1 token, 0 padding), both [B, L] -> [B, L, width]; token 0 is [CLS]."""
        # A ready-made 4D mask: from a 2D one transformers would look for padding first, a device sync per call.
        mask = attention_mask.bool()[:, None, None, :]
        return self.bert(input_ids=input_ids, attention_mask=mask).last_hidden_state


def load_masked_lm(config: TextEncoderConfig, vocab_size: int, pad_id: int) -> PreTrainedModel:
    """The whole transformers masked language model of `config`, all layers, with its MLM head.

    InputError: an unknown name, weights that cannot be had, or layers that are not BERT's.
    """
    source = config.pretrained if isinstance(config.pretrained, str) else config.name
    try:
        if config.pretrained:
            options = {"attn_implementation": "sdpa", "trust_remote_code": False}
            with hub_or_cache(source):
                model = AutoModelForMaskedLM.from_pretrained(source, **options, **config.overrides)
        else:
            sizes = {"vocab_size": vocab_size, "pad_token_id": pad_id, **config.overrides}
            architecture = _architecture(config.name, sizes)
            build = partial(AutoModelForMaskedLM.from_config, architecture, attn_implementation="sdpa")
            refuse_too_large(build, "model.text")
            model = build()
    except InputError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, ... with messages of many lines
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"model.text: transformers cannot build {source!r} with {config.overrides} "
            f"(pretrained={config.pretrained!r}): {said}; name a BERT-like model type (bert, roberta), a hub id or a "
            f"local folder"
        ) from error
    if vocab_size > model.config.vocab_size:
        raise InputError(
            f"model.text.tokenizer: it has {vocab_size} tokens but {source!r} embeds only {model.config.vocab_size}; "
            f"use the tokenizer that belongs to these weights"
        )
    return _require_bert_layers(model, source)


def _architecture(name: str, sizes: dict) -> PreTrainedConfig:
    if name in CONFIG_MAPPING and not Path(name).is_dir():
        return AutoConfig.for_model(name, **sizes)
    with hub_or_cache(name):
        return AutoConfig.from_pretrained(name, trust_remote_code=False, **sizes)


def _require_bert_layers(model: PreTrainedModel, source: str) -> PreTrainedModel:
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if layers is not None and len(layers) == 0:
        raise InputError(f"model.text: {source!r} has no layers; accepted: at least 2, in num_hidden_layers")
    with torch.device("meta"):
        expected = BertLayer(BertConfig(hidden_size=8, num_attention_heads=1)).state_dict().keys()
    if layers is None or layers[0].state_dict().keys() != expected:
        raise InputError(
            f"model.text.name: {source!r} ({model.config.model_type}) is not a post-norm stack of BERT layers; "
            f"use bert, roberta, xlm-roberta, camembert, electra, ernie or another model built of them"
        )
    return model


def longest_text(config: PreTrainedConfig) -> int:
    """Tokens that the positions of `config` are enough for: RoBERTa and kin count theirs from the padding's on."""
    counts_from_padding = config.model_type in _FROM_PADDING
    return config.max_position_embeddings - (config.pad_token_id + 1 if counts_from_padding else 0)


def check_length(tokens: int, config: PreTrainedConfig, field: str) -> None:
    """InputError: texts of `tokens` tokens, as the config field `field` allows, have no positions in `config`."""
    most = longest_text(config)
    if tokens > most:
        raise InputError(
            f"{field}: {tokens} is not possible; accepted: at most {most}, for which model.text "
            f"({config.model_type}) has positions"
        )


def lower_layers(model: PreTrainedModel, count: int) -> TextEncoder:
    """The text encoder: `model`'s embeddings and its first `count` layers, without the MLM head or a pooler."""
    bert = model.base_model
    bert.encoder.layer = bert.encoder.layer[:count]
    bert.config.num_hidden_layers = count
    bert.pooler = None
    for parent in bert.modules():
        for name, module in parent.named_children():
            if type(module) is nn.Dropout:
                setattr(parent, name, Dropout(module.p))
    return TextEncoder(bert)
