"""The answer decoder of VQA: it writes an answer token by token, looking at the fused question (ALBEF section 3.5).

Its layers are those of the fusion encoder, masked so that a token sees only those before it; their "image" is the
question as the fusion encoder left it. Keys and values of a question are computed once, whatever number of answers is
written or weighed for it.
"""

import copy
import inspect

import torch
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEmbeddings

from tcl.encoders.dropout import use_own_dropout
from tcl.encoders.text_encoder import TextEncoder, longest_text
from tcl.errors import InputError
from tcl.models.encoders import Encoders
from tcl.models.fusion_encoder import FusionLayer, KeysValues, start_random
from tcl.models.mlm_head import MLMHead

_POSITIONS = 512
"""Of answers, where those of the text encoder's tokens are computed for texts of any length."""


class AnswerDecoder(nn.Module):
    """Embeddings, layers and a vocabulary head whose output matrix is the word embedding."""

    def __init__(self, embeddings: nn.Module, layers: list[FusionLayer], head: MLMHead):
        super().__init__()
        self.embeddings = embeddings
        self.width: int = embeddings.word_embeddings.embedding_dim
        self.layers = nn.ModuleList(layers)
        self.head = head

    @property
    def _first_position(self) -> int:
        """RoBERTa and kin keep the positions up to that of padding free, and count from the one after it."""
        padding = self.embeddings.position_embeddings.padding_idx
        return 0 if padding is None else padding + 1

    def question_keys_values(self, states: Tensor, mask: Tensor) -> list[KeysValues]:
        """Fused questions [Q, L, width] with mask [Q, L] -> what each layer sees of them."""
        seen = mask.bool()[:, None, None, :]
        return [layer.cross_attention.keys_values(states, seen) for layer in self.layers]

    def forward(
        self,
        ids: Tensor,
        questions: list[KeysValues],
        question_index: Tensor,
        past: list[KeysValues] | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """ids [R, T] go on after `past`, what each layer kept of [R, P] tokens before them.

        question_index [R] in 0 .. Q - 1. Returns states [R, T, width] and what was kept of all P + T tokens. Padding
        may only follow what counts.
        """
        kept, seen = [], 0 if past is None else past[0].keys.shape[2]
        T = ids.shape[1]
        places = torch.arange(seen, seen + T, device=ids.device)[None] + self._first_position
        x = self.embeddings(input_ids=ids, position_ids=places)
        before = torch.ones(T, seen + T, dtype=torch.bool, device=ids.device).tril(seen)
        for i, (layer, question) in enumerate(zip(self.layers, questions, strict=True)):
            own = layer.self_attention.keys_values(x)
            if past is not None:
                own = KeysValues(
                    torch.cat([past[i].keys, own.keys], dim=2), torch.cat([past[i].values, own.values], dim=2)
                )
            kept.append(own)
            x = layer.look_at_image(layer.self_attention(x, own, before), question.rows(question_index))
        return x, kept

    def logits(self, states: Tensor) -> Tensor:
        """States [..., width] -> vocabulary logits [..., vocabulary] of the token that follows."""
        return self.head(states, self.embeddings.word_embeddings.weight)


def answer_decoder_from(encoders: Encoders, layers: int | None) -> AnswerDecoder:
    """A decoder that starts from the fusion encoder's layers (the upper half of BERT), the text encoder's embeddings
    and the MLM head.

    layers (>= 1): default as many as the fusion encoder has; further ones start as copies of its last, fewer are its
    first. Keys and values of the question start random where images are not as wide as texts, and embeddings and head
    where the text encoder's have another form or width than a fusion encoder of its own.
    InputError: embeddings of another width than the layers.
    """
    fusion, theirs = encoders.fusion_encoder, encoders.fusion_encoder.layers
    width, config = fusion.width, fusion.config
    embeddings = _embeddings(encoders.text_encoder, width, config.initializer_range)
    head = copy.deepcopy(encoders.mlm_head)
    if head.dense.out_features != width:
        head = MLMHead(width, width, len(head.bias), config.hidden_act, config.layer_norm_eps)
        start_random(head, config)
    made = []
    for i in range(len(theirs) if layers is None else layers):
        source = theirs[min(i, len(theirs) - 1)].state_dict()
        layer = FusionLayer(width, config)
        fits = {name: t for name, t in source.items() if t.shape == layer.state_dict()[name].shape}
        for name in source.keys() - fits.keys():
            fits[name] = torch.empty(width, width).normal_(std=config.initializer_range)
        layer.load_state_dict(fits)
        made.append(layer)
    return AnswerDecoder(embeddings, made, head)


def _embeddings(encoder: TextEncoder, width: int, std: float) -> nn.Module:
    """Of `width`, with a position for each token that is asked for by its number: a copy of the text encoder's, or new
    ones of its words."""
    theirs, words = getattr(encoder.bert, "embeddings", None), encoder.word_embeddings
    numbered = isinstance(getattr(theirs, "position_embeddings", None), nn.Embedding) and hasattr(
        theirs, "word_embeddings"
    )
    if numbered and "position_ids" in inspect.signature(theirs.forward).parameters:
        if words.embedding_dim == width:
            return copy.deepcopy(theirs).requires_grad_()
        if encoder.width == width:
            raise InputError(
                f"model.text.name: word embeddings of width {words.embedding_dim} under layers of {width} make no "
                f"answer decoder; use bert, roberta or another model with equal widths"
            )
    sizes = {"hidden_size": width, "num_attention_heads": 1, "pad_token_id": None, "type_vocab_size": 1}
    positions = longest_text(encoder.bert.config) or _POSITIONS
    made = BertEmbeddings(BertConfig(vocab_size=words.num_embeddings, max_position_embeddings=positions, **sizes))
    for module in made.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)
    if words.embedding_dim == width:
        made.word_embeddings.weight.data.copy_(words.weight)
    use_own_dropout(made)
    return made
