"""The answer decoder of VQA: it writes an answer token by token, looking at the fused question (ALBEF section 3.5).

Its layers are those of the fusion encoder, masked so that a token sees only those before it; their "image" is the
question as the fusion encoder left it. Keys and values of a question are computed once, whatever number of answers is
written or weighed for it.
"""

import copy

import torch
from torch import Tensor, nn

from tcl.errors import InputError
from tcl.models.encoders import Encoders
from tcl.models.fusion_encoder import FusionLayer, KeysValues
from tcl.models.mlm_head import MLMHead


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
    first. Keys and values of the question start random where images are not as wide as texts.
    InputError: embeddings of another width than the layers.
    """
    embeddings, width = encoders.text_encoder.bert.embeddings, encoders.text_encoder.width
    if embeddings.word_embeddings.embedding_dim != width:
        raise InputError(
            f"model.text.name: word embeddings of width {embeddings.word_embeddings.embedding_dim} under layers of "
            f"{width} make no answer decoder; use bert, roberta or another model with equal widths"
        )
    config = encoders.text_encoder.bert.config
    theirs = encoders.fusion_encoder.layers
    made = []
    for i in range(len(theirs) if layers is None else layers):
        source = theirs[min(i, len(theirs) - 1)].state_dict()
        layer = FusionLayer(width, config)
        fits = {name: t for name, t in source.items() if t.shape == layer.state_dict()[name].shape}
        for name in source.keys() - fits.keys():
            fits[name] = torch.empty(width, width).normal_(std=config.initializer_range)
        layer.load_state_dict(fits)
        made.append(layer)
    return AnswerDecoder(copy.deepcopy(embeddings), made, copy.deepcopy(encoders.mlm_head))
