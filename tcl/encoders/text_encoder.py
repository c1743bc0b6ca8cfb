"""Text encoder: any transformers encoder as a function from token ids to tokens.

Either the lower layers of a BERT-like model, whose upper ones are handed to the fusion encoder (`lower_layers`), or a
model with all its layers (tcl.encoders.text_tower). It is the stock transformers model, so that each kind keeps its own
embeddings, position numbering and attention.
"""

import math
import sys
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertLayer, PreTrainedConfig, PreTrainedModel

from tcl.config.model import TextEncoderConfig
from tcl.encoders.dropout import use_own_dropout
from tcl.encoders.remembered import Remembered, stack_padded, unpadded
from tcl.encoders.text_model import load_text_model
from tcl.errors import InputError

_FROM_PADDING = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "data2vec-text",
    "roberta-prelayernorm",
    "xmod",
    "mpnet",
    "longformer",
    "ibert",
    "luke",
    "esm",
)
"""Model types whose first position is the one after padding's."""


class TextEncoder(nn.Module):
    """A transformers encoder as a function from token ids to tokens. `width` is the token width.

    config says how it is pooled, and whether it is frozen: never trained, and always in eval mode, whatever `train` is
    called with.
    """

    def __init__(self, bert: PreTrainedModel, config: TextEncoderConfig):
        super().__init__()
        self.bert = bert
        self.width: int = bert.config.hidden_size
        self.frozen = frozen = config.frozen
        self.pooling = config.pooling
        self.remembered = Remembered(config.remember) if config.remember else None
        self._ready_masks_up_to = _ready_masks_up_to(bert)
        if frozen:
            bert.requires_grad_(False).eval()

    @property
    def word_embeddings(self) -> nn.Embedding:
        """[vocabulary, embedding width]; the MLM head's output weights are tied to it."""
        return self.bert.get_input_embeddings()

    @property
    def embedding_matrix(self) -> Tensor:
        """[vocabulary, embedding width], the weight of `word_embeddings`."""
        words = self.word_embeddings
        if words.weight.ndim == 2:
            return words.weight
        # The teacher asks for those of a frozen encoder, which ZeRO 3 puts together only while the module runs.
        return words(torch.arange(words.num_embeddings, device=words.weight.device))

    @property
    def layers(self) -> list[nn.Module]:
        """The modules of the repeated stack, lowest first."""
        stacks = [module for module in self.bert.modules() if isinstance(module, nn.ModuleList)]
        return list(max(stacks, key=len, default=()))

    @property
    def frozen_parts(self) -> list[nn.Module]:
        """What is never trained, which a teacher can share instead of copying it."""
        return [self.bert] if self.frozen else []

    def train(self, mode: bool = True) -> "TextEncoder":
        """As torch's, but a frozen model stays in eval mode: without dropout."""
        super().train(mode)
        if self.frozen:
            self.bert.eval()
        return self

    def configure_layers(self, *, activation_checkpointing: bool, fused_attention: bool) -> None:
        """How the layers are run. activation_checkpointing: computed again in the backward pass, if there is one.

        fused_attention: no difference here, texts are too short for it. InputError: transformers has no checkpointing
        of this kind of model.
        """
        if not activation_checkpointing or self.frozen:
            return
        if not self.bert.supports_gradient_checkpointing:
            raise InputError(
                f"train.activation_checkpointing: transformers cannot compute the layers of model.text "
                f"({self.bert.config.model_type}) again; set it to false, or freeze them by model.text.frozen"
            )
        self.bert.activation_checkpointing_enable({"use_reentrant": False})

    def forward(self, input_ids: Tensor, attention_mask: Tensor, comes_again: bool = True) -> Tensor:
        """Ids and mask (1 token, 0 padding), both [B, L] -> [B, L, width]; token 0 stands for the text: [CLS], or the
        mean of all. comes_again: worth remembering, where the encoder does."""
        with torch.no_grad() if self.frozen else nullcontext():
            if self.remembered is None or not self.training or not comes_again:
                tokens = self._tokens(input_ids, attention_mask)
            else:
                texts = unpadded(input_ids, attention_mask)
                tokens = self.remembered(lambda ids: self._tokens(ids, torch.ones_like(ids)), texts)
                tokens = stack_padded(tokens, input_ids.shape[1])
        return tokens if self.pooling == "cls" else _with_mean_first(tokens, attention_mask)

    def _tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        up_to, any_length = self._ready_masks_up_to, torch.compiler.is_exporting()
        if up_to == math.inf or (not any_length and input_ids.shape[1] <= up_to):
            # From a 2D one transformers would look for padding first, a device sync per call.
            attention_mask = attention_mask.bool()[:, None, None, :]
        return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _with_mean_first(tokens: Tensor, mask: Tensor) -> Tensor:
    """Tokens [B, L, width], the first replaced by the mean of those in mask [B, L]."""
    weights = mask.to(tokens.dtype) / mask.sum(dim=1, keepdim=True)
    return torch.cat([weights[:, None] @ tokens, tokens[:, 1:]], dim=1)


def _ready_masks_up_to(bert: PreTrainedModel) -> float:
    """How many tokens a text may have for which a ready-made 4D mask of the padding is all that `bert` needs.

    transformers' own mask functions hand one on as it is, which leaves out the windows that some layers look through.
    Models without these functions, or without torch's attention, want masks of other forms: 0.
    """
    hands_on = hasattr(sys.modules[type(bert).__module__], "create_bidirectional_mask")
    if not hands_on or bert.config._attn_implementation != "sdpa":
        return 0
    try:
        return getattr(bert.config, "sliding_window", None) or math.inf
    except Exception:  # of windows that differ from layer to layer, an error of transformers' own
        return 0


def load_masked_lm(
    config: TextEncoderConfig, vocab_size: int, pad_id: int, section: str = "model.text"
) -> PreTrainedModel:
    """The whole transformers masked language model of `config`, all layers, with its MLM head.

    section: the config section that messages name. InputError: an unknown name, weights that cannot be had, or layers
    that are not BERT's.
    """
    model = load_text_model(config, vocab_size, pad_id, section, attn_implementation="sdpa")
    return _require_bert_layers(model, config, section)


def _require_bert_layers(model: PreTrainedModel, config: TextEncoderConfig, section: str) -> PreTrainedModel:
    source = config.pretrained if isinstance(config.pretrained, str) else config.name
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if layers is not None and len(layers) == 0:
        raise InputError(f"{section}: {source!r} has no layers; accepted: at least 2, in num_hidden_layers")
    with torch.device("meta"):
        expected = BertLayer(BertConfig(hidden_size=8, num_attention_heads=1)).state_dict().keys()
    if layers is None or layers[0].state_dict().keys() != expected:
        raise InputError(
            f"{section}.name: {source!r} ({model.config.model_type}) is not a post-norm stack of BERT layers; use "
            f"bert, roberta, xlm-roberta, camembert, electra, ernie or another model built of them, or give it a "
            f"fusion encoder of its own by model.fusion.layers"
        )
    return model


def longest_text(config: PreTrainedConfig) -> int | None:
    """Tokens that the positions of `config` are enough for: RoBERTa and kin count theirs from the padding's on.

    None: positions are computed, for texts of any length.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or getattr(config, "rope_parameters", None):
        return None
    return positions - (config.pad_token_id + 1 if config.model_type in _FROM_PADDING else 0)


def check_length(tokens: int, config: PreTrainedConfig, field: str) -> None:
    """InputError: texts of `tokens` tokens, as the config field `field` allows, have no positions in `config`."""
    most = longest_text(config)
    if most is not None and tokens > most:
        raise InputError(
            f"{field}: {tokens} is not possible; accepted: at most {most}, for which model.text "
            f"({config.model_type}) has positions"
        )


def lower_layers(model: PreTrainedModel, count: int, config: TextEncoderConfig) -> TextEncoder:
    """The text encoder: `model`'s embeddings and its first `count` layers, without the MLM head or a pooler."""
    bert = model.base_model
    bert.encoder.layer = bert.encoder.layer[:count]
    bert.config.num_hidden_layers = count
    bert.pooler = None
    use_own_dropout(bert)
    return TextEncoder(bert, config)
