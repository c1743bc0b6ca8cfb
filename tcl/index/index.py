"""An index of images: opened, searched, changed."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tcl.errors import InputError
from tcl.index import faiss_engine
from tcl.index.build import encode_batch, tell_engine
from tcl.index.description import Description, read_description
from tcl.index.engine import open_engine
from tcl.index.info import info_of
from tcl.index.query import Hit, Query, check_query, within_of
from tcl.index.ranking import Asked, match_rows, rank
from tcl.index.read_item import Seen
from tcl.index.read_items import FileRead, chunks_of, read_files
from tcl.index.scan import Work
from tcl.index.stages import Stages, open_stages
from tcl.index.store import Store, only_writer, told
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.images import ImageLike
from tcl.inference.matcher import Matcher

if TYPE_CHECKING:
    from tcl.inference.clips_model import TCLForClips


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
        self._opened_file = self._engine_file()

    @classmethod
    def open(
        cls,
        path: str | Path,
        model: "EmbeddingModel | TCLForClips | str | Path | None" = None,
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

    @property
    def matches(self) -> bool:
        """Whether it keeps what its second stage matches."""
        return self.description.tokens != "none"

    def refresh(self) -> None:
        """What another process has written since is found from now on."""
        written = self._engine_file()
        if written != self._opened_file:
            self._engine.close()  # it is opened again as it is now
            self._opened_file = written

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
        like: int | None = None,
        rerank: int = 64,
        rescore: bool = False,
        folder: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Hit]:
        """The k images that are nearest to a text, to an image, or to both, best first; None: 10, or all of fewer.
        like: the id of an image of the index, in place of one from elsewhere, or beside it. In an index of clips and
        sounds, images are these too: a file of a video or a sound, or frames as TCLForClips takes them.

        With a text, the `rerank` nearest (>= k; 0: none) are put in the order of their matching probability, where the
        index keeps tokens. rescore: cosines less each image's hubness, which `tcl index --bank` keeps. folder, since,
        until (2021-05-30): only images below that folder, or taken then; fewer than k where fewer are.
        InputError: nothing asked for, a text without words that are known, no image, k beyond the index, no bank.
        """
        seen = None if image is None else self.stages.see(image)
        query = Query(text, seen, like, k, rerank, rescore, folder, since, until)
        (answer,) = self.search_many([query])
        if isinstance(answer, InputError):
            raise answer
        return answer

    def search_many(self, queries: Sequence[Query]) -> list[list[Hit] | InputError]:
        """As `search`, of queries that go through the models together; an InputError in the place of one that cannot be
        answered. InputError raised: the index itself cannot be used."""
        with told(self.folder):
            count = len(self)
            if not count:
                raise InputError(f"index: {self.folder} holds no images yet; `tcl index` adds them")
            answers: list = self._embedded(queries, count)
            good = [place for place, asked in enumerate(answers) if isinstance(asked, Asked)]
            found = rank(self._store, self._engine, self.stages, [answers[place] for place in good])
            for place, hits in zip(good, found, strict=True):
                answers[place] = hits[: answers[place].k]
            return answers

    def match(self, ids: Sequence[Sequence[int]], texts: Sequence[str]) -> list[np.ndarray]:
        """Images of each text, by ids [n] -> probabilities float32 [n] that it belongs to each, from stored tokens.

        InputError: the index keeps none, an id that is not there.
        """
        if not self.matches:
            raise InputError(f"tokens: {self.folder} keeps none to match with; write it with `tcl index --tokens int8`")
        with told(self.folder):
            rows = [self._rows(some) for some in ids]
            return [scores.sigmoid().numpy() for scores in match_rows(self._store, self.stages, rows, texts)]

    def embeddings(self, ids: Sequence[int]) -> np.ndarray:
        """Of images, by ids [n]: float32 [n, embed_dim], as they are kept. InputError: an id that is not there."""
        with told(self.folder):
            return self._store.read_embeddings(self._rows(ids))[0]

    def add(self, images: Iterable[str | Path]) -> list[int]:
        """Image files, of an index that has no folder or shards to follow; their ids. One that is there already is
        encoded again. All of them, or none. InputError: such an index, a file that cannot be used, another writer."""
        followed = self.description.images or self.description.shards
        if followed is not None:
            raise InputError(f"index: {self.folder} follows {followed}; put the files there, and run `tcl index`")
        work = [_work_of(path) for path in dict.fromkeys(os.path.abspath(path) for path in images)]
        with self._writing() as store:
            former = [item.id for one in work for item in store.catalogue.items_of(one.file)]
            for chunk in chunks_of(work, self.stages.batch_size):
                (batch,) = read_files(Path("/"), chunk, self.stages.batch_size, self.stages.reader)
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

    def _engine_file(self) -> tuple[int, int] | None:
        """Which there is now; None: none, or vectors that lie elsewhere."""
        try:
            stat = (self.folder / faiss_engine.FILE).stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def _rows(self, ids: Sequence[int]) -> np.ndarray:
        """InputError: an id that is not there."""
        rows = {item.id: item.row for item in self._store.catalogue.items(ids)}
        for one in ids:
            if one not in rows:
                raise InputError(f"id: {one} is no image of {self.folder}; give ids that a search found")
        return np.array([rows[one] for one in ids], np.int64)

    def _embedded(self, queries: Sequence[Query], count: int) -> list[Asked | InputError]:
        """Texts together, and images together. InputError in the place of a query that cannot be embedded."""
        answers: list[Asked | InputError | None] = [None] * len(queries)
        parts: list[list[np.ndarray]] = [[] for _ in queries]
        for place, query in enumerate(queries):
            try:
                check_query(query, count, str(self.folder), self.description.bank)
                within_of(query.folder, query.since, query.until)
                if query.text is not None:
                    self.stages.check_text(query.text)
                if query.like is not None:
                    parts[place] += list(self.stages.like(self.embeddings([query.like])))
            except InputError as error:
                answers[place] = error
        good = [(place, query) for place, query in enumerate(queries) if answers[place] is None]
        for kind, embed in (("text", self.stages.embed_texts), ("seen", self._ask_seen)):
            given = [(place, getattr(query, kind)) for place, query in good if getattr(query, kind) is not None]
            if given:
                for (place, _), vector in zip(given, embed([what for _, what in given]), strict=True):
                    parts[place].append(vector)
        for place, query in good:
            answers[place] = self._asked(query, self.stages.together(parts[place]), count)
        return answers

    def _ask_seen(self, seen: Sequence[Seen]) -> np.ndarray:
        """[n, embed_dim], what is asked with for items like these."""
        return self.stages.like(self.stages.embed_seen(seen))

    def _asked(self, query: Query, vector: np.ndarray, count: int) -> Asked:
        """vector: of all that the query has."""
        k = min(10, count) if query.k is None else query.k
        matched = query.text is not None and self.matches and query.rerank > 0
        within = within_of(query.folder, query.since, query.until)
        wanted = max(k, query.rerank) if matched else k
        return Asked(vector, query.text if matched else None, wanted, k, query.rescore, within)


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


def _work_of(path: str) -> Work:
    try:
        stat = os.stat(path)
    except (OSError, ValueError) as error:
        raise InputError(f"images: {path} cannot be read; give image files") from error
    return Work(os.fsencode(path).lstrip(b"/"), stat.st_size, stat.st_mtime_ns, 0)


def _refuse_bad(read: FileRead) -> None:
    problem = read.items[0].problem
    if problem is not None:
        raise InputError(f"images: /{os.fsdecode(read.work.file)} cannot be used: {problem}; give images")
