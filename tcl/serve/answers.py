"""What is answered; every answer is JSON, and so is every error."""

import json
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from tcl.data.texts.captions import spelt_out
from tcl.index.query import Hit


class JSON(Response):
    """In ASCII: names of files need not be text."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """NaN is no JSON."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class FoundImage(BaseModel):
    """An image, a clip or a sound of the index."""

    id: int
    path: str
    similarity: float | None
    match: float | None
    caption: str | None
    taken: int | None
    width: int
    height: int
    type: str | None
    """The media type by which it is played; null: an image."""


class SearchAnswer(BaseModel):
    """Best first."""

    results: list[FoundImage]


class Relevance(BaseModel):
    """0 to 1."""

    index: int
    relevance_score: float


class RerankAnswer(BaseModel):
    """Best first."""

    model: str
    results: list[Relevance]


class Embedding(BaseModel):
    """In the order of the inputs; base64 is that of its float32, lowest byte first."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(BaseModel):
    """The form of OpenAI."""

    object: str
    model: str
    data: list[Embedding]


class Problem(BaseModel):
    """What went wrong, and what would be right."""

    message: str
    type: str


class ErrorAnswer(BaseModel):
    """Of every status from 400 on."""

    error: Problem


TYPES = {
    400: "invalid_request",
    401: "no_token",
    403: "wrong_host",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    416: "out_of_range",
    429: "busy",
    503: "not_ready",
    504: "too_slow",
}


def error_answer(status: int, message: str, headers: dict[str, str] | None = None) -> JSON:
    """A line, and a word for programs."""
    said = {"message": message, "type": TYPES.get(status, "error")}
    return JSON({"error": said}, status, headers)


def shown_hit(hit: Hit) -> dict[str, Any]:
    """A FoundImage."""
    return vars(hit) | {"path": spelt_out(hit.path), "similarity": _finite(hit.similarity), "match": hit.match}


def _finite(number: float) -> float | None:
    return number if number - number == 0 else None
