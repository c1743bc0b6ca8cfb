"""Masked-language-model head: token states to vocabulary logits, output weights tied to the word embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN


class MLMHead(nn.Module):
    """BERT's prediction head without its output matrix, which is the text encoder's word embedding."""

    def __init__(self, width: int, embedding_width: int, vocab_size: int, activation: str, eps: float):
        super().__init__()
        self.dense = nn.Linear(width, embedding_width)
        self.activation = ACT2FN[activation]
        self.norm = nn.LayerNorm(embedding_width, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, states: Tensor, word_embeddings: Tensor) -> Tensor:
        """states [M, width], word_embeddings [vocabulary, embedding width] -> logits [M, vocabulary]."""
        return F.linear(self.norm(self.activation(self.dense(states))), word_embeddings, self.bias)


_OWN_HEADS = (
    ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions"),
    ("lm_head.dense", "lm_head.layer_norm", "lm_head"),
    ("vocab_transform", "vocab_layer_norm", "vocab_projector"),
    ("head.dense", "head.norm", "decoder"),
)
"""Where BERT, RoBERTa, DistilBERT and ModernBERT keep dense layer, norm and the bias of the vocabulary."""


def mlm_head_on(config: PreTrainedConfig, model: PreTrainedModel) -> MLMHead:
    """An MLM head for the states of a fusion encoder, of `config`, tied to the word embeddings of `model`.

    It starts with the weights of `model`'s own where these are of the same width, else random.
    """
    embeddings = model.get_input_embeddings()
    head = MLMHead(
        config.hidden_size,
        embeddings.embedding_dim,
        embeddings.num_embeddings,
        config.hidden_act,
        config.layer_norm_eps,
    )
    nn.init.zeros_(head.dense.bias)
    state, own = model.state_dict(), head.state_dict()
    for dense, norm, vocabulary in _OWN_HEADS:
        sources = {f"{dense}.weight": "dense.weight", f"{dense}.bias": "dense.bias", f"{vocabulary}.bias": "bias"}
        sources |= {f"{norm}.weight": "norm.weight", f"{norm}.bias": "norm.bias"}
        found = {ours: state[theirs] for theirs, ours in sources.items() if theirs in state}
        fits = all(tensor.shape == own[name].shape for name, tensor in found.items())
        if fits and {"dense.weight", "norm.weight"} <= found.keys():
            head.load_state_dict(found, strict=False)  # ModernBERT's has no biases
            head.norm.eps = model.get_submodule(norm).eps
            return head
    nn.init.normal_(head.dense.weight, std=config.initializer_range)
    return head
