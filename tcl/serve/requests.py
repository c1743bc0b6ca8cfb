"""What requests look like, field by field; what is out of range is answered 400 with one line."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LONGEST_TEXT = 20_000
"""Characters."""
LARGEST_ID = 2**63 - 1


def _is_whole(number: object) -> object:
    if isinstance(number, bool):
        raise ValueError("give a number")
    return number


String = Annotated[str, Field(max_length=LONGEST_TEXT)]
Number = Annotated[int, BeforeValidator(_is_whole)]
Id = Annotated[Number, Field(ge=0, le=LARGEST_ID, description="of an image of the index")]
Base64 = Annotated[str, Field(min_length=1, description="of a file; data:image/...;base64, may stand before it")]
Date = Annotated[str, Field(max_length=40, description="2021-05-30, or 2021-05-30T12:00:00")]


class _Own(BaseModel):
    """A field that is misspelt would be left out without a word."""

    model_config = ConfigDict(extra="forbid")


class _Shared(BaseModel):
    """A form that others have too, with fields that mean nothing here."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class SearchRequest(_Own):
    """By a text, by an image, by an image of the index, or by all that are given."""

    query: String | None = None
    image: Base64 | None = None
    id: Id | None = None
    k: Annotated[Number, Field(ge=1, description="results")] = 10
    offset: Annotated[Number, Field(ge=0, description="results that are left out before them")] = 0
    rerank: Annotated[Number, Field(ge=0, description="nearest images that are matched with the text; 0: none")] = 64
    rescore: bool = False
    folder: String | None = None
    since: Date | None = None
    until: Date | None = None


class ImageURL(_Shared):
    """As chat messages have it."""

    url: String


class Document(_Shared):
    """One of these."""

    text: String | None = None
    id: Id | None = None
    image: Base64 | None = None
    url: Annotated[str, Field(max_length=2**26)] | None = None
    image_url: Annotated[str, Field(max_length=2**26)] | ImageURL | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Document":
        given = [name for name in ("text", "id", "image", "url", "image_url") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{', '.join(given) or 'nothing'}; give one of text, id, image, url")
        return self

    @property
    def location(self) -> str | None:
        """The URL, of whichever field; an image that is one, as Jina's form has it."""
        if self.image_url is not None:
            return self.image_url.url if isinstance(self.image_url, ImageURL) else self.image_url
        if self.image is not None and self.image[:8].lower().startswith(("http://", "https://")):
            return self.image
        return self.url


def _as_document(given: object) -> object:
    return {"text": given} if isinstance(given, str) else given


def _as_list(given: object) -> object:
    return given if isinstance(given, list) else [given]


Named = Annotated[Document, BeforeValidator(_as_document, json_schema_input_type=String | Document)]
"""A text alone is a Document with that text."""
Listed = Annotated[
    list[Named], Field(min_length=1), BeforeValidator(_as_list, json_schema_input_type=String | Document | list[Named])
]


class RerankRequest(_Shared):
    """The form of Cohere, Jina and vLLM."""

    query: Named
    documents: Annotated[list[Named], Field(min_length=1)]
    top_n: Annotated[Number, Field(ge=1)] | None = None
    return_documents: bool = False
    model: String | None = None


class EmbeddingsRequest(_Shared):
    """The form of OpenAI; an input may be an image."""

    input: Listed
    encoding_format: Literal["float", "base64"] = "float"
    model: String | None = None


class ExplainRequest(_Own):
    """Where in an image of the index a text is."""

    id: Id
    query: String


class LoginRequest(_Own):
    """Of a browser, which gets a cookie for it."""

    token: String
