"""Codes of many candidates, searched by faiss (`pip install 'tcl-vlp[search]'`): an `IndexPQ` with our codebooks in it,
or lists by the coarse level for sets that are too large to be looked through whole.

An index needs codes and codebooks alone, no embeddings. Scores are those of `tcl.search.codes`: inner products.
"""

from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from tcl.config.checks import require
from tcl.errors import InputError
from tcl.optional_package import import_optional
from tcl.search.codes import Codes, codebooks_hash

BITS = 8
AT_A_TIME = 1 << 18
"""Candidates whose codewords are laid side by side at once."""
SAMPLES_A_LIST = 64
"""Candidates, for each list, to which their centres are fitted."""


def _faiss() -> ModuleType:
    return import_optional("faiss", "search")


def flat_index(codes: Codes):
    """A `faiss.IndexPQ` that compares a query with all of them. InputError: faiss is not installed."""
    faiss = _faiss()
    index = faiss.IndexPQ(*_sizes(codes), BITS, faiss.METRIC_INNER_PRODUCT)
    _put_codebooks(faiss, index, codes)
    index.add_sa_codes(np.ascontiguousarray(codes.codes.numpy()))
    return index


def list_index(codes: Codes, levels: int, lists: int):
    """A `faiss.IndexIVFPQ`: `lists` (>= 1) of them by the coarse level, the first of `levels` equal shares of their
    codes. A search looks through those whose centres are nearest to the query's coarse level.

    Centres are fitted by spherical k-means to what the codes stand for. InputError: faiss is not installed, fewer
    candidates than lists.
    """
    faiss = _faiss()
    require(1 <= lists <= len(codes), "lists", lists, f"1 to the number of candidates, {len(codes):,}")
    dim, parts = _sizes(codes)
    coarse = Codes(codes.codes[:, : parts // levels], codes.codebooks[: parts // levels])
    clusters = faiss.Kmeans(dim // levels, lists, spherical=True, seed=0, niter=10, min_points_per_centroid=1)
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))[: SAMPLES_A_LIST * lists]
    clusters.train(Codes(coarse.codes[order], coarse.codebooks).decoded().numpy())
    centres = np.zeros((lists, dim), np.float32)  # nothing of the fine levels
    centres[:, : dim // levels] = clusters.centroids
    quantiser = faiss.IndexFlatIP(dim)
    quantiser.add(centres)
    index = faiss.IndexIVFPQ(quantiser, dim, lists, parts, BITS, faiss.METRIC_INNER_PRODUCT)
    quantiser.this.disown()
    index.own_fields = True
    index.by_residual = False
    _put_codebooks(faiss, index, codes)
    own_list = np.concatenate([_nearest(clusters, some, coarse) for some in coarse.codes.split(AT_A_TIME)])
    members = np.argsort(own_list, kind="stable")
    ends = np.cumsum(np.bincount(own_list, minlength=lists))
    for number, ids in enumerate(np.split(members, ends[:-1])):
        ids, own = np.ascontiguousarray(ids, np.int64), np.ascontiguousarray(codes.codes.numpy()[ids])
        index.invlists.add_entries(number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(own))
    index.ntotal = len(codes)
    return index


def _nearest(clusters, some: Tensor, coarse: Codes) -> np.ndarray:
    return clusters.assign(Codes(some, coarse.codebooks).decoded().numpy())[1]


def search_index(index, queries: np.ndarray, k: int, lists: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Queries float32 [Q, D], rows of length 1, that are not quantised -> scores float32 and places int64 [Q, k] of the
    k (>= 1) best, best first; -1 where there are fewer.

    lists: of `list_index`, how many are looked through; None: all. InputError: queries of another width.
    """
    require(k >= 1, "k", k, "1 or more")
    if queries.ndim != 2 or queries.shape[1] != index.d:
        raise InputError(
            f"queries: {list(queries.shape)}; accepted: [n, {index.d}], embeddings of the model of the codes"
        )
    if hasattr(index, "nprobe"):
        index.nprobe = index.nlist if lists is None else lists
    return index.search(np.ascontiguousarray(queries, np.float32), k)


def check_index(index, codebooks: Tensor, place: str) -> None:
    """InputError, which begins with `place`: not an index of ours, or one with other codebooks than the model's
    [V, M, K, d]."""
    faiss = _faiss()
    books = _padded(codebooks.detach().cpu().float().flatten(0, -3))
    quantiser = getattr(index, "pq", None)
    theirs = None if quantiser is None else faiss.vector_to_array(quantiser.centroids)
    if theirs is None or theirs.size != books.size or not np.array_equal(theirs, books.ravel()):
        own = codebooks_hash(codebooks)[:12]
        raise InputError(
            f"{place}: an index with other codebooks than the model's ({own}); build it from codes of this model"
        )


def write_index(index, path: Path) -> None:
    """InputError: it cannot be written."""
    try:
        _faiss().write_index(index, str(path))
    except RuntimeError as error:
        raise InputError(f"index: {path} cannot be written; name another file") from error


def read_index(path: Path, codebooks: Tensor):
    """An index for the codebooks of a model. InputError: no such file, or one of something else or other codebooks."""
    try:
        index = _faiss().read_index(str(path))
    except RuntimeError as error:
        raise InputError(f"index: {path} cannot be read; give an index of codes") from error
    check_index(index, codebooks, f"index: {path}")
    return index


def _sizes(codes: Codes) -> tuple[int, int]:
    """Width of a candidate's codewords side by side, and how many they are."""
    parts, _, width = codes.codebooks.shape
    return parts * width, parts


def _put_codebooks(faiss: ModuleType, index, codes: Codes) -> None:
    faiss.copy_array_to_vector(_padded(codes.codebooks).ravel(), index.pq.centroids)
    index.is_trained = True


def _padded(codebooks: Tensor) -> np.ndarray:
    """[P, K, d] -> [P, 256, d], whose rows side by side have length 1: a code is a byte, whatever K."""
    parts, words, width = codebooks.shape
    books = np.zeros((parts, 1 << BITS, width), np.float32)
    books[:, :words] = (codebooks / parts**0.5).cpu().numpy()
    return books
