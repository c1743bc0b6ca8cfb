"""A transformers encoder with all its layers as the text encoder: ModernBERT, XLM-R, DistilBERT, MPNet and others."""

import torch
from torch import nn
from transformers import PreTrainedModel

from tcl.config.model import TextEncoderConfig
from tcl.encoders.dropout import use_own_dropout
from tcl.encoders.text_encoder import TextEncoder
from tcl.encoders.text_model import load_text_model
from tcl.errors import InputError


def load_text_tower(config: TextEncoderConfig, vocab_size: int, pad_id: int) -> tuple[TextEncoder, PreTrainedModel]:
    """The text encoder, and the transformers model of which it is the base, whose MLM head it leaves out. fp32.

    vocab_size, pad_id: of the tokenizer. InputError: a model that cannot be built, or is no encoder.
    """
    model = load_text_model(config, vocab_size, pad_id, "model.text").float()
    base = model.base_model
    if getattr(base, "pooler", None) is not None:
        base.pooler = None  # no loss reads it
    use_own_dropout(base)
    if not config.pretrained:
        _number_padding(base, pad_id)
    encoder = TextEncoder(base, config.frozen)
    _require_encoder(encoder, config)
    return encoder, model


def _number_padding(base: nn.Module, pad_id: int) -> None:
    """Some models (MPNet) have the padding of their own vocabulary built in, from which they count positions."""
    for module in base.modules():
        if getattr(module, "padding_idx", None) is not None:
            module.padding_idx = pad_id


def _require_encoder(encoder: TextEncoder, config: TextEncoderConfig) -> None:
    """InputError: `encoder` does not give a token for each id, or the first token does not see those after it."""
    source = config.pretrained if isinstance(config.pretrained, str) else config.name
    name, training = f"{source!r} ({encoder.bert.config.model_type})", encoder.bert.training
    first, second, third = [number for number in range(4) if number != encoder.bert.config.pad_token_id][:3]
    encoder.bert.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            # One after the other, in the same shape: rounding may not make a difference either.
            seen = [encoder(torch.tensor([[first, last]]), torch.ones(1, 2).long()) for last in (second, third)]
        fits = all(tokens.shape == (1, 2, encoder.width) for tokens in seen)
        fits = fits and isinstance(encoder.word_embeddings, nn.Embedding)
    except Exception as error:  # of any model that wants other inputs than ids and a mask
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"model.text.name: {name} does not read texts ({said}); use an encoder of texts") from error
    finally:
        encoder.bert.train(training)
    if not fits:
        raise InputError(f"model.text.name: {name} does not give a token for each id; use an encoder of texts")
    if seen[0][0, 0].equal(seen[1][0, 0]):
        raise InputError(
            f"model.text.name: {name} reads from left to right: its first token, which stands for the sentence, does "
            f"not see the others; use an encoder (bert, modernbert, xlm-roberta, ...)"
        )
