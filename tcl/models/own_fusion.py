"""A fusion encoder of its own depth and width, beside a text encoder that keeps all its layers (model.fusion)."""

from functools import partial

from transformers import BertConfig

from tcl.config.model import FusionConfig, TextEncoderConfig, check_heads
from tcl.encoders.bounded_memory import refuse_too_large
from tcl.encoders.text_encoder import load_masked_lm
from tcl.errors import InputError
from tcl.models.fusion_encoder import FusionEncoder, fusion_encoder_from_bert, random_fusion_encoder


def build_own_fusion(config: FusionConfig, text_width: int, image_width: int) -> FusionEncoder:
    """The fusion encoder of `config`, whose `layers` is given; text_width and image_width are those of the tokens.

    InputError: sizes that do not fit together or take more memory than there is, weights of other sizes.
    """
    if config.pretrained is not None:
        return _from_bert(config, text_width, image_width)
    width = text_width if config.width is None else config.width
    heads = max(1, width // 64) if config.heads is None else config.heads
    check_heads(width, heads)
    sizes = {"intermediate_size": 4 * width, **config.overrides}
    try:
        architecture = BertConfig(
            hidden_size=width, num_attention_heads=heads, num_hidden_layers=config.layers, **sizes
        )
        build = partial(random_fusion_encoder, config.layers, image_width, architecture, text_width)
        refuse_too_large(build, "model.fusion")
        return build()
    except InputError:
        raise
    except Exception as error:  # of transformers and torch, with messages of many lines
        said = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise InputError(
            f"model.fusion.overrides: {config.overrides} make no layers ({said}); give sizes and names as a BERT's "
            f"config has them"
        ) from error


def _from_bert(config: FusionConfig, text_width: int, image_width: int) -> FusionEncoder:
    source = TextEncoderConfig(name=config.pretrained, pretrained=True, overrides=config.overrides)
    bert = load_masked_lm(source, vocab_size=0, pad_id=0, section="model.fusion").float().base_model
    layers = bert.encoder.layer
    if config.layers > len(layers):
        raise InputError(
            f"model.fusion.layers: {config.layers} is not possible; accepted: 1 to {len(layers)}, which "
            f"{config.pretrained!r} has"
        )
    for name, theirs in (("width", bert.config.hidden_size), ("heads", bert.config.num_attention_heads)):
        given = getattr(config, name)
        if given not in (None, theirs):
            raise InputError(
                f"model.fusion.{name}: {given} is not possible; accepted: {theirs}, as the weights of "
                f"{config.pretrained!r} have it, or null"
            )
    return fusion_encoder_from_bert(layers[len(layers) - config.layers :], image_width, bert.config, text_width)
