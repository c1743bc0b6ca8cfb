"""An index of images: opened, searched, changed."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tcl.config.checks import require
from tcl.errors import InputError
from tcl.index.build import encode_batch, tell_engine
from tcl.index.catalogue import Item, name_of
from tcl.index.description import Description, read_description
from tcl.index.engine import Engine, open_engine
from tcl.index.read_photos import FileRead, chunks_of, read_files
from tcl.index.scan import Work
from tcl.index.stages import Stages, open_stages
from tcl.index.store import Store, TokensAt, only_writer, told
from tcl.index.within import Within, seconds
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.images import ImageLike
from tcl.inference.matcher import Matcher
from tcl.search.rescorings import by_stored
from tcl.search.two_stage import Search, search

ROOM_FOR_HUBS = 16
"""Times as many candidates as are ranked, where they are re-scored: hubs take places that others get."""


@dataclass(frozen=True)
class Hit:
    """An image that a search found."""

    id: int
    path: str
    similarity: float
    """Cosine with the query, -1 to 1; less its hubness, where that is asked for."""
    match: float | None
    """Probability that the text belongs to it, 0 to 1; None: nothing was matched."""
    taken: int | None
    """Seconds from 1970 by the camera's clock, as if it were UTC."""
    caption: str | None
    width: int
    height: int


class Index:
    """What `tcl index` wrote. `docs/search.md` shows it.

    `with Index.open("my.index") as index: index.search("a dog on a mat")`. An update that another process writes
    meanwhile is seen by what is opened after it; images that it drops are no longer found.
    """

    def __init__(self, path: str | Path, stages: Stages):
        """As `open`, with models that are loaded."""
        folder = Path(path)
        self.folder, self.stages = folder, stages
        self.description = read_description(folder)
        check_model(self.description, stages, folder)
        self._store = Store(folder, self.description, writable=False)
        self._engine = open_engine(folder, self.description, self._store)

    @classmethod
    def open(
        cls,
        path: str | Path,
        model: EmbeddingModel | str | Path | None = None,
        matcher: Matcher | str | Path | None = None,
        *,
        device: str | None = None,
        precision: str = "auto",
        batch_size: int = 32,
    ) -> "Index":
        """The index in the folder `path`.

        model: one that is loaded already, or where it is now; None: from where it was loaded before. matcher: the same
        of what reads the tokens, where that is another model. device, precision, batch_size: of models that are to be
        loaded, as in TCL.from_pretrained. InputError: no index, one of another version, of another model, a damaged
        one; no model.
        """
        description = read_description(Path(path))
        model = description.model if model is None else model
        matcher = description.matcher if matcher is None else matcher
        options = {"device": device, "precision": precision, "batch_size": batch_size}
        return cls(path, open_stages(model, matcher, **options))

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._store.catalogue.count()

    @property
    def pending(self) -> int:
        """Images that cannot be found yet, since `tcl index` was stopped before its end."""
        return self._store.catalogue.pending()

    def close(self) -> None:
        """It is searched no more."""
        self._engine.close()
        self._store.close()

    def search(
        self,
        text: str | None = None,
        image: ImageLike | None = None,
        k: int | None = None,
        *,
        rerank: int = 64,
        rescore: bool = False,
        folder: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Hit]:
        """The k images that are nearest to a text, to an image, or to both, best first; None: 10, or all of fewer.

        With a text, the `rerank` nearest (>= k; 0: none) are put in the order of their matching probability, where the
        index keeps tokens. rescore: cosines less each image's hubness, which `tcl index --bank` keeps. folder, since,
        until (2021-05-30): only images below that folder, or taken then; fewer than k where fewer are.
        InputError: nothing asked for, a text without words that are known, no image, k beyond the index, no bank.
        """
        count = len(self)
        if not count:
            raise InputError(f"index: {self.folder} holds no images yet; `tcl index` adds them")
        require(k is None or 1 <= k <= count, "k", k, f"1 to {count}, the images of {self.folder}")
        k = min(10, count) if k is None else k
        require(rerank >= 0, "rerank", rerank, "0 or more")
        self._check_rescore(rescore, text)
        bounds = [(folder, "folder"), (since, "since"), (until, "until")]
        within = None
        if any(bound is not None for bound, _ in bounds):
            first = None if since is None else seconds(since, "since")
            last = None if until is None else seconds(until, "until", end=True)
            within = Within(folder, first, last)
        query = self._query(text, image)
        matched = text is not None and self.description.tokens != "none" and rerank > 0
        wanted = max(k, rerank) if matched else k
        return self._ranked(query, text if matched else None, wanted, rescore, within)[:k]

    def add(self, images: Iterable[str | Path]) -> list[int]:
        """Image files, of an index that has no folder or shards to follow; their ids. One that is there already is
        encoded again. All of them, or none. InputError: such an index, a file that cannot be used, another writer."""
        followed = self.description.images or self.description.shards
        if followed is not None:
            raise InputError(f"index: {self.folder} follows {followed}; put the files there, and run `tcl index`")
        work = [_work_of(path) for path in dict.fromkeys(os.path.abspath(path) for path in images)]
        with self._writing() as store:
            former = [item.id for one in work for item in store.catalogue.items_of(one.file)]
            for chunk in chunks_of(work, self.stages.model.batch_size):
                (batch,) = read_files(Path("/"), chunk, self.stages.model.batch_size, self.stages.prepare)
                for read in batch.files:
                    _refuse_bad(read)
                encoded = encode_batch(batch, self.stages, self.description.tokens != "none")
                store.keep(encoded.files, encoded.embeddings, encoded.tokens)
            store.catalogue.drop_items(former)
            return [item.id for one in work for item in store.catalogue.items_of(one.file)]

    def remove(self, ids: Iterable[int]) -> int:
        """Images, by their ids; how many of them were there. `tcl index` leaves them out until their file changes.
        InputError: another process writes."""
        with self._writing() as store:
            there = [item.id for item in store.catalogue.items(ids)]
            store.catalogue.drop_items(there)
            return len(there)

    def picture(self, id: int) -> bytes | None:
        """A small JPEG of an image; None: it is not there."""
        return self._store.catalogue.picture(id)

    def info(self) -> dict[str, object]:
        """What `tcl index --info` says."""
        return info_of(self._store, self._engine)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Store]:
        """What is done within counts as a whole, or not at all."""
        with only_writer(self.folder), contextlib.closing(Store(self.folder, self.description, writable=True)) as store:
            yield store
            store.commit()
            tell_engine(store, self._engine)
        self._engine.close()  # it is opened again as it is now

    def _check_rescore(self, rescore: bool, text: str | None) -> None:
        if rescore and not self.description.bank:
            raise InputError(f"rescore: {self.folder} has no bank of queries; write it with `tcl index --bank FILE`")
        if rescore and text is None:
            raise InputError("rescore: hubness is that of texts; give a text")

    def _query(self, text: str | None, image: ImageLike | None) -> np.ndarray:
        """Of both, the mean of their unit vectors."""
        parts = [] if text is None else [self.stages.embed_text(text)]
        if image is not None:
            parts.append(self.stages.embed_image(image))
        if not parts:
            raise InputError("text: there is none, and no image; give one of them, or both")
        mean = np.mean(parts, axis=0)
        return mean / max(np.linalg.norm(mean), np.finfo(np.float32).tiny)

    def _ranked(
        self, query: np.ndarray, text: str | None, wanted: int, rescore: bool, within: Within | None
    ) -> list[Hit]:
        """text: to match with, or None."""
        count = len(self)
        room = min(count, wanted * ROOM_FOR_HUBS if rescore else wanted)
        with told(self.folder):
            # By id: of equal ones the later comes first, as everywhere.
            items = list(self._store.catalogue.items(np.sort(self._engine.search(query, room, within))))
            rows = np.array([item.row for item in items], np.int64)
            if not items:
                return []
            embeddings, hubness = self._store.read_embeddings(rows)

            def match(candidates: Tensor) -> tuple[Tensor]:
                return (self.stages.match(TokensAt(self._store, rows), candidates[0], text)[None],)

            queries, corpus = torch.from_numpy(query.astype(np.float32))[None], torch.from_numpy(embeddings)
            by_hubness = by_stored(torch.from_numpy(hubness)) if rescore else None
            asked = Search(queries, corpus, rescore=by_hubness)
            (found,) = search([asked], wanted, None if text is None else match)
            best = found.best
            probabilities = [None] * len(items) if text is None else best.scores[0].sigmoid().tolist()
            # What another process has dropped meanwhile is left out: its row may be another image's by now.
            there = {item.id for item in self._store.catalogue.items([item.id for item in items])}
        ranked = zip(best.candidates[0].tolist(), best.similarities[0].tolist(), probabilities, strict=False)
        return [
            _hit(self.description, items[place], similarity, probability)
            for place, similarity, probability in ranked
            if items[place].id in there
        ]


def check_model(description: Description, stages: Stages, folder: Path) -> None:
    """InputError: not the models that the index is of."""
    pairs = [("model", description.model, description.embedding_maker, stages.source, stages.embedding_maker)]
    if description.tokens != "none":
        before, now = description.matcher or description.model, stages.matcher_source or stages.source
        pairs.append(("matcher", before, description.token_maker, now, stages.token_maker))
    for name, before, made_by, now, maker in pairs:
        if maker != made_by:
            raise InputError(
                f"{name}: {folder} is of another one ({before}, weights {made_by[:12]}) than {now} "
                f"({'none' if maker is None else maker[:12]}); give that one, or write another index"
            )


def info_of(store: Store, engine: Engine) -> dict[str, object]:
    """Of an opened index. InputError: it is damaged, its engine cannot be reached."""
    description, catalogue = store.description, store.catalogue
    with told(store.folder):
        images, pending = catalogue.count(), catalogue.pending()
        return {
            "images": images,
            "not_searchable_yet": pending,
            "skipped": dict(Counter(one.cause for one in catalogue.skipped()).most_common()),
            "of": description.images or description.shards,
            "model": description.model,
            "weights": description.embedding_maker,
            "embeddings": f"{description.embeddings} [{description.embed_dim}]",
            "tokens": f"{description.tokens} {list(description.token_shape or ())}",
            "matcher": description.matcher,
            "bank": description.bank,
            "engine": engine.describe() if images > pending else description.engine,
            "bytes_of_an_image": store.bytes_of_image(),
            "bytes": sum(path.stat().st_size for path in store.folder.iterdir() if path.is_file()),
        }


def _work_of(path: str) -> Work:
    try:
        stat = os.stat(path)
    except (OSError, ValueError) as error:
        raise InputError(f"images: {path} cannot be read; give image files") from error
    return Work(os.fsencode(path).lstrip(b"/"), stat.st_size, stat.st_mtime_ns, 0)


def _refuse_bad(read: FileRead) -> None:
    problem = read.photos[0].problem
    if problem is not None:
        raise InputError(f"images: /{os.fsdecode(read.work.file)} cannot be used: {problem}; give images")


def _hit(description: Description, item: Item, similarity: float, match: float | None) -> Hit:
    path = _path_of(description, item.file, item.key)
    return Hit(item.id, path, similarity, match, item.taken, item.caption, item.width, item.height)


def _path_of(description: Description, file: bytes, key: str) -> str:
    """Of a folder, with the folder; of shards, of a shard and a key."""
    name = name_of(file, key)
    return name if description.shards is not None else os.path.join(description.images or "/", name)
