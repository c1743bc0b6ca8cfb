"""Embeddings as an index keeps them: a row of fixed width for each, in fp32, fp16, int8 or codes."""

from dataclasses import dataclass

import numpy as np

from tcl.index.description import Embeddings

LARGEST_INT8 = 127


@dataclass(frozen=True)
class EmbeddingRows:
    """How rows are made of embeddings [n, D] of length 1, and embeddings of rows.

    int8 has a scale for each row. A code is a byte, the nearest of the words of its codebook (HCQ, section 3.6); the
    words of all parts side by side are the embedding.
    """

    storage: Embeddings
    embed_dim: int
    codebooks: np.ndarray | None = None
    """float32 [P, K, d], words of length 1, P d = D, of "codes"."""

    @property
    def dtype(self) -> np.dtype:
        """Of a row; hubness is 0 where there is no bank."""
        values = {"fp32": ("<f4", self.embed_dim), "fp16": ("<f2", self.embed_dim), "int8": ("i1", self.embed_dim)}
        kind, count = ("u1", len(self.codebooks)) if self.storage == "codes" else values[self.storage]
        scale = [("scale", "<f4")] if self.storage == "int8" else []
        return np.dtype([("hubness", "<f4"), *scale, ("values", kind, (count,))])

    def pack(self, embeddings: np.ndarray, hubness: np.ndarray | None) -> np.ndarray:
        """float32 [n, D] and [n] -> rows [n]."""
        rows = np.zeros(len(embeddings), self.dtype)
        if hubness is not None:
            rows["hubness"] = hubness
        if self.storage == "codes":
            rows["values"] = self._codes(embeddings)
        elif self.storage == "int8":
            scales = np.maximum(np.abs(embeddings).max(axis=1), np.finfo(np.float32).tiny) / LARGEST_INT8
            rows["scale"], rows["values"] = scales, np.rint(embeddings / scales[:, None])
        else:
            rows["values"] = embeddings
        return rows

    def unpack(self, rows: np.ndarray) -> np.ndarray:
        """Rows [n] -> float32 [n, D]."""
        if self.storage == "codes":
            parts = np.arange(len(self.codebooks))
            return self.codebooks[parts, rows["values"]].reshape(len(rows), -1) / np.float32(len(parts) ** 0.5)
        values = rows["values"].astype(np.float32)
        return values * rows["scale"][:, None] if self.storage == "int8" else values

    def _codes(self, embeddings: np.ndarray) -> np.ndarray:
        parts = embeddings.reshape(len(embeddings), len(self.codebooks), -1).transpose(1, 0, 2)
        return (parts @ self.codebooks.transpose(0, 2, 1)).argmax(axis=2).T
