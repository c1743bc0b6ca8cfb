"""The answers of a batch of questions."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class AnswerTokens:
    """A answers in all to B questions, A >= B, padded to T tokens; the tensors have a row for each answer."""

    ids: Tensor
    """[A, T] int64, [CLS] tokens [SEP] padding; a token sees only those before it, so padding needs no mask."""
    weights: Tensor
    """[A] float, 0 to 1: the share of the annotators who gave this answer."""
    question_index: Tensor
    """[A] int64, ascending: which question each answer belongs to."""
    target_positions: Tensor
    """[M] int64, flat index a * T + t of every answer token that has a successor: where the decoder is asked."""
    target_ids: Tensor
    """[M] int64, those successors."""

    def describe(self) -> str:
        """How many there are."""
        return f"{len(self.ids)} in all"
