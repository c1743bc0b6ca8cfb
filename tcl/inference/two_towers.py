"""A loaded model of two towers alone."""

from tcl.inference.embedding_model import EmbeddingModel


class TwoTowers(EmbeddingModel):
    """A model trained by contrast alone (tcl.objectives.clip): embeddings, and retrieval by them."""
