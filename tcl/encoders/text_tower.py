"""A transformers encoder with all its layers as the text encoder: ModernBERT, XLM-R, DistilBERT, MPNet and others."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tcl.config.model import TextEncoderConfig
from tcl.encoders.dropout import use_own_dropout
from tcl.encoders.text_encoder import TextEncoder
from tcl.encoders.text_model import load_text_model
from tcl.errors import InputError


def load_text_tower(config: TextEncoderConfig, vocab_size: int, pad_id: int) -> tuple[TextEncoder, PreTrainedModel]:
    """The text encoder, and the transformers model of which it is the base, whose MLM head it leaves out. fp32.

    vocab_size, pad_id: of the tokenizer. Parameters that no token depends on (poolers) are not trained. InputError: a
    model that cannot be built, or is no encoder.
    """
    model = load_text_model(config, vocab_size, pad_id, "model.text").float()
    base = model.base_model
    use_own_dropout(base)
    if not config.pretrained:
        _number_padding(base, pad_id)
    encoder = TextEncoder(base, config)
    source = config.pretrained if isinstance(config.pretrained, str) else config.name
    tokens = _require_encoder(encoder, f"model.text.name: {source!r} ({base.config.model_type})", pad_id)
    if not config.frozen:
        _freeze_what_is_not_read(base, tokens)  # DDP waits for the gradient of every trainable parameter
    return encoder, model


def _number_padding(base: nn.Module, pad_id: int) -> None:
    """Some models (MPNet) have the padding of their own vocabulary built in, from which they count positions."""
    for module in base.modules():
        if getattr(module, "padding_idx", None) is not None:
            module.padding_idx = pad_id


def _require_encoder(encoder: TextEncoder, name: str, pad_id: int) -> Tensor:
    """Tokens [1, 2, width] of some text. InputError, which begins with `name`: `encoder` does not give a token for each
    id, its first token does not see those after it, or padding is seen."""
    first, second, third = [number for number in range(4) if number != pad_id][:3]
    training = encoder.bert.training
    encoder.bert.eval()
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            # One after the other: in one batch, rounding may make a difference where nothing else does.
            tokens, others, padded = (
                encoder(torch.tensor([ids]), torch.tensor([mask]), comes_again=False)
                for ids, mask in (
                    ([first, second], [1, 1]),
                    ([first, third], [1, 1]),
                    ([first, second, pad_id], [1, 1, 0]),
                )
            )
        fits = tokens.shape == (1, 2, encoder.width) and isinstance(encoder.word_embeddings, nn.Embedding)
        seen = fits and (padded[:, :2] - tokens).norm() > 1e-4 * tokens.norm()
    except Exception as error:  # of any model that wants other inputs than ids and a mask
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} does not read texts ({said}); use an encoder of texts") from error
    finally:
        encoder.bert.train(training)
    if not fits:
        raise InputError(f"{name} does not give a token for each id; use an encoder of texts")
    if tokens[0, 0].equal(others[0, 0]):
        raise InputError(
            f"{name} reads from left to right: its first token, which stands for the sentence, does not see the "
            f"others; use an encoder (bert, modernbert, xlm-roberta, ...)"
        )
    if seen:
        raise InputError(
            f"{name} looks at padding: tokens of a text would depend on the others of its batch; use another encoder"
        )
    return tokens


def _freeze_what_is_not_read(base: nn.Module, tokens: Tensor) -> None:
    """Parameters of which `tokens`, made by `base`, are no function."""
    met, waiting = set(), [tokens.grad_fn]
    while waiting:
        step = waiting.pop()
        if step is not None and step not in met:
            met.add(step)
            waiting += [before for before, _ in step.next_functions]
    read = {id(step.variable) for step in met if hasattr(step, "variable")}
    for parameter in base.parameters():
        if id(parameter) not in read:
            parameter.requires_grad_(False)
