"""MMV's spaces (arXiv 2006.16228, section 3.1): in which video, sound and text are compared, and by which heads.

Three graphs, as tables. A head with "mlp" is linear, norm, ReLU, linear without bias, norm; "norm", linear and norm.
Embeddings are as the heads give them, of any length.
"""

from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from tcl.config.spaces import SpacesConfig
from tcl.models.corrected_batch_norm import CorrectedBatchNorm


class Head(NamedTuple):
    """What it is made of, and the width of what it gives."""

    form: Literal["linear", "norm", "mlp"]
    width: Literal["fine_dim", "coarse_dim"]


class Route(NamedTuple):
    """How a modality comes into a space."""

    modality: str
    space: str
    head: str
    after: str | None = None
    """The space from which it comes there, through ReLU; None: from the encoder."""
    audio_text: bool = False
    """Taken in training only where sound is compared with text: it would shift the norms' averages."""


class Graph(NamedTuple):
    """One way to have spaces."""

    heads: dict[str, Head]
    routes: tuple[Route, ...]
    """Those of a modality in the order in which they are taken."""
    audio_text: str
    """The space of sound and text; that of video and sound is `va`, that of video and text `vat`."""


GRAPHS = {
    "fac": Graph(
        heads={
            "video_va": Head("mlp", "fine_dim"),
            "audio_va": Head("linear", "fine_dim"),
            "va_vat": Head("norm", "coarse_dim"),
            "text_vat": Head("linear", "coarse_dim"),
        },
        routes=(
            Route("video", "va", "video_va"),
            Route("video", "vat", "va_vat", after="va"),
            Route("audio", "va", "audio_va"),
            Route("audio", "vat", "va_vat", after="va", audio_text=True),
            Route("text", "vat", "text_vat"),
        ),
        audio_text="vat",
    ),
    "disjoint": Graph(
        heads={
            "video_va": Head("mlp", "fine_dim"),
            "audio_va": Head("linear", "fine_dim"),
            "video_vat": Head("norm", "coarse_dim"),
            "text_vat": Head("linear", "coarse_dim"),
            "audio_at": Head("linear", "fine_dim"),
            "text_at": Head("linear", "fine_dim"),
        },
        routes=(
            Route("video", "va", "video_va"),
            Route("video", "vat", "video_vat"),
            Route("audio", "va", "audio_va"),
            Route("audio", "at", "audio_at", audio_text=True),
            Route("text", "vat", "text_vat"),
            Route("text", "at", "text_at", audio_text=True),
        ),
        audio_text="at",
    ),
    "shared": Graph(
        heads={
            "video": Head("norm", "coarse_dim"),
            "audio": Head("norm", "coarse_dim"),
            "text": Head("norm", "coarse_dim"),
        },
        # Each twice, as published: the averages of the norms move twice a step.
        routes=(
            Route("video", "va", "video"),
            Route("video", "vat", "video"),
            Route("audio", "va", "audio"),
            Route("audio", "vat", "audio"),
            Route("text", "va", "text"),
            Route("text", "vat", "text"),
        ),
        audio_text="vat",
    ),
}


class Spaces(nn.Module):
    """The heads of a graph. audio_text: sound is compared with text in training; without, a graph whose heads of that
    pair serve nothing else (disjoint) has none of them. only: the one space that there is; None: all."""

    def __init__(self, config: SpacesConfig, widths: dict[str, int], audio_text: bool = False, only: str | None = None):
        """widths: of the features by modality that comes into a space: video, audio, text."""
        super().__init__()
        graph = GRAPHS[config.graph]
        self.audio_text = audio_text
        routes = [one for one in graph.routes if one.modality in widths and only in (None, one.space)]
        self.routes = [one for one in routes if audio_text or not _only_for_audio_text(one, graph)]
        self.pairs = {("video", "audio"): "va", ("video", "text"): "vat", ("audio", "text"): graph.audio_text}
        self.dims = {one.space: getattr(config, graph.heads[one.head].width) for one in self.routes}
        given = {one.head: widths[one.modality] for one in self.routes if one.after is None}
        heads = {one.head: graph.heads[one.head] for one in self.routes}
        self.heads = nn.ModuleDict(
            {
                name: _build(head.form, given.get(name, config.fine_dim), getattr(config, head.width))
                for name, head in heads.items()
            }
        )

    def forward(self, modality: str, features: Tensor, counts: Tensor | None = None) -> dict[str, Tensor]:
        """Features [N, width] of a modality -> embeddings [N, dim] by space; bool counts [N]: rows that are there, of
        which alone the norms make statistics."""
        found: dict[str, Tensor] = {}
        for route in self.routes:
            if route.modality == modality and not (self.training and route.audio_text and not self.audio_text):
                given = features if route.after is None else F.relu(found[route.after])
                found[route.space] = self.heads[route.head](given, counts)
        return found

    def space_of(self, one: str, other: str) -> str | None:
        """Where two modalities are compared, in either order; None: they cannot be."""
        space = self.pairs.get((one, other)) or self.pairs[other, one]
        reached = {route.modality for route in self.routes if route.space == space}
        return space if {one, other} <= reached else None

    def used_heads(self, pairs: list[tuple[str, str]]) -> set[str]:
        """Names of the heads on which the similarities of these pairs of modalities depend."""
        waiting = [(modality, self.space_of(*pair)) for pair in pairs for modality in pair]
        used = set()
        while waiting:
            modality, space = waiting.pop()
            (route,) = (one for one in self.routes if (one.modality, one.space) == (modality, space))
            used.add(route.head)
            waiting += [(modality, route.after)] if route.after else []
        return used


def _only_for_audio_text(route: Route, graph: Graph) -> bool:
    """Has the route a head of its own, which nothing else trains?"""
    return route.audio_text and all(one.audio_text for one in graph.routes if one.head == route.head)


class _Head(nn.Module):
    """Layers in a row, of which norms are told which rows count."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, rows: Tensor, counts: Tensor | None) -> Tensor:
        for layer in self.layers:
            rows = layer(rows, counts) if isinstance(layer, CorrectedBatchNorm) else layer(rows)
        return rows


def _build(form: str, width: int, dim: int) -> _Head:
    if form == "linear":
        return _Head(nn.Linear(width, dim))
    if form == "norm":
        return _Head(nn.Linear(width, dim), CorrectedBatchNorm(dim))
    inner, outer = nn.Linear(width, dim), nn.Linear(dim, dim, bias=False)
    return _Head(inner, CorrectedBatchNorm(dim), nn.ReLU(), outer, CorrectedBatchNorm(dim))
