"""index.json: what an index is of, how it keeps it, and which version wrote it."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from tcl.errors import InputError
from tcl.whole_file import write_whole

FILE, FORMAT, VERSION = "index.json", "tcl-index", 1
MAX_BYTES = 2**20

Embeddings = Literal["fp32", "fp16", "int8", "codes"]
Tokens = Literal["none", "fp16", "int8"]
EngineName = Literal["faiss", "milvus"]


@dataclass(frozen=True)
class Description:
    """Of one index; nothing of it changes while the index lives, but `model` and `matcher`, where they lie."""

    model: str
    """Where the model was loaded from."""
    embedding_maker: str
    """Hash of its weights."""
    embed_dim: int
    """Numbers of an embedding."""
    embeddings: Embeddings
    tokens: Tokens
    token_shape: tuple[int, int] | None
    """Tokens of an image, and the numbers of each; None where there are none."""
    matcher: str | None
    """Where the model was loaded from that reads the tokens; None: it is `model`, or there are none."""
    token_maker: str | None
    """Hash of what makes them; None where there are none."""
    images: str | None
    """The folder, absolute; None: shards, or images that were added one by one."""
    shards: str | None
    """The pattern."""
    bank: bool
    """Whether rows know their hubness, from bank.npy."""
    bank_temperature: float
    engine: EngineName
    uri: str | None
    """Of Milvus."""
    collection: str
    """In Milvus."""


def write_description(folder: Path, description: Description) -> None:
    """OSError: it cannot be written; what was there is as it was."""
    said = json.dumps({"format": FORMAT, "version": VERSION} | asdict(description), indent=1)
    write_whole(folder / FILE, lambda out: out.write_text(said, encoding="ascii"))


def read_description(folder: Path) -> Description:
    """InputError: no index, a damaged one, or one of another version."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(MAX_BYTES).decode("ascii"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"index: {folder} is none; give a folder that `tcl index --out` wrote") from error
    except OSError as error:
        raise InputError(f"index: {path} cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(said, dict) or said.pop("format", None) != FORMAT:
        raise _damaged(path)
    version = said.pop("version", None)
    if version != VERSION:
        raise InputError(
            f"index: {folder} is of version {version!s:.20}, this version of tcl reads {VERSION}; write it "
            f"again with `tcl index`"
        )
    if set(said) != {field.name for field in fields(Description)}:
        raise _damaged(path)
    shape = said["token_shape"]
    found = Description(**said | {"token_shape": None if shape is None else tuple(shape)})
    if not _is_possible(found):
        raise _damaged(path)
    return found


def _is_possible(found: Description) -> bool:
    chosen = ((Embeddings, found.embeddings), (Tokens, found.tokens), (EngineName, found.engine))
    texts = (found.model, found.embedding_maker, found.collection)
    options = (found.images, found.shards, found.uri, found.matcher, found.token_maker)
    sizes = (found.embed_dim, *(found.token_shape or ()))
    return (
        all(value in get_args(kind) for kind, value in chosen)
        and all(isinstance(text, str) for text in texts)
        and all(text is None or isinstance(text, str) for text in options)
        and all(type(size) is int and 0 < size < 2**30 for size in sizes)
        and len(sizes) == (1 if found.tokens == "none" else 3)
        and (found.token_maker is None) == (found.tokens == "none")
        and isinstance(found.bank, bool)
        and isinstance(found.bank_temperature, float)
    )


def _damaged(path: Path) -> InputError:
    return InputError(f"index: {path} is damaged; remove the folder and write it again with `tcl index`")
