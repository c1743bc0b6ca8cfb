"""A loaded model of two towers alone."""

from tcl.inference.own_towers import OwnTowers


class TwoTowers(OwnTowers):
    """A model trained by contrast alone (tcl.objectives.clip): embeddings, and retrieval by them."""
