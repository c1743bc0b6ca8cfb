"""What is in an index, in one SQLite file: every item, every file that was read, and what could not be.

Changes count from `commit` on, all or none of them. Files are named by their bytes below the folder, so that any name
will do; an id is never given twice.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tcl.data.shards.bad_sample import Skipped
from tcl.index.read_item import ReadItem
from tcl.index.within import Within

_TABLES = """
CREATE TABLE IF NOT EXISTS files(name BLOB PRIMARY KEY, size INTEGER, changed INTEGER, samples INTEGER, whole INTEGER);
CREATE TABLE IF NOT EXISTS items(
    id INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER UNIQUE, file BLOB, key TEXT, width INTEGER, height INTEGER,
    taken INTEGER, caption TEXT, pending INTEGER, type TEXT);
CREATE TABLE IF NOT EXISTS pictures(id INTEGER PRIMARY KEY, jpeg BLOB);
CREATE TABLE IF NOT EXISTS skipped(file BLOB, key TEXT, cause TEXT);
CREATE TABLE IF NOT EXISTS removed(id INTEGER PRIMARY KEY);
CREATE INDEX IF NOT EXISTS items_of_file ON items(file);
CREATE INDEX IF NOT EXISTS skipped_of_file ON skipped(file);
CREATE INDEX IF NOT EXISTS pending_items ON items(id) WHERE pending;
"""
_OF_ITEM = "id, row, file, key, width, height, taken, caption"
_TYPE = "type"
"""A column of items that former indexes lack: theirs are images."""
_AT_A_TIME = 500
_PATIENCE = 60


class State(NamedTuple):
    """Of a file, when it was read."""

    size: int
    changed: int
    """Time of the last change, nanoseconds."""
    samples: int
    """How many were read, from the first on."""
    whole: bool
    """Whether these are all."""


class Item(NamedTuple):
    """An image, a clip or a sound."""

    id: int
    row: int
    file: bytes
    key: str
    """Of a shard's sample; empty for a file of its own."""
    width: int
    height: int
    taken: int | None
    """Seconds, as tcl.index.within counts them."""
    caption: str | None
    type: str | None
    """The media type by which it is played, such as video/mp4; None: an image."""


class Catalogue:
    """The file at `path`."""

    def __init__(self, path: Path, *, writable: bool):
        """writable: made where there is none. sqlite3.Error: it cannot be opened, or is damaged."""
        mode = "rwc" if writable else "ro"
        self._tables = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_PATIENCE)
        self._tables.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if writable:
            self._tables.executescript(_TABLES)
        columns = {name for _, name, *_ in self._tables.execute("PRAGMA table_info(items)")}
        if writable and _TYPE not in columns:
            self._tables.execute(f"ALTER TABLE items ADD COLUMN {_TYPE} TEXT")
        self._of_item = f"{_OF_ITEM}, {_TYPE if writable or _TYPE in columns else 'NULL'}"
        self._counted: tuple[tuple[int, int, bool], int] | None = None

    def commit(self) -> None:
        """All changes so far are on the disk."""
        self._tables.commit()

    def close(self) -> None:
        """Changes since the last `commit` are lost."""
        self._tables.close()

    # what is there

    def files(self) -> Iterator[tuple[bytes, State]]:
        """All that were read, or in part."""
        for name, *state in self._tables.execute("SELECT name, size, changed, samples, whole FROM files"):
            yield name, State(*state[:3], bool(state[3]))

    def count(self) -> int:
        """Images. Counted once until something is written, by whomever: each query asks, and ten million take 60 ms."""
        tables = self._tables
        state = (self._one("PRAGMA data_version"), tables.total_changes, tables.in_transaction)
        if self._counted is None or self._counted[0] != state:
            self._counted = state, self._one("SELECT count(*) FROM items")
        return self._counted[1]

    def rows(self) -> np.ndarray:
        """Of all images, ascending, int64."""
        return self._numbers("SELECT row FROM items ORDER BY row")

    def pending(self) -> int:
        """Images that the engine does not know yet."""
        return self._one("SELECT count(*) FROM items WHERE pending")

    def removed(self) -> np.ndarray:
        """Ids that the engine may still know."""
        return self._numbers("SELECT id FROM removed")

    def skipped(self) -> list[Skipped]:
        """What could not be read, by name."""
        found = self._tables.execute("SELECT file, key, cause FROM skipped ORDER BY file, key")
        return [Skipped(name_of(file, key), cause) for file, key, cause in found]

    def items(self, ids: Iterable[int] | None = None, *, pending: bool = False) -> Iterator[Item]:
        """Those of these ids that are there, in this order; without ids all, or those that are pending."""
        select = f"SELECT {self._of_item} FROM items"
        if ids is None:
            wanted = " WHERE pending" if pending else ""
            yield from (Item(*found) for found in self._tables.execute(f"{select}{wanted} ORDER BY id"))
            return
        for one in ids:
            yield from (Item(*found) for found in self._tables.execute(f"{select} WHERE id = ?", (int(one),)))

    def items_of(self, file: bytes) -> list[Item]:
        """Those of one file."""
        ids = self._tables.execute("SELECT id FROM items WHERE file = ? ORDER BY id", (file,)).fetchall()
        return list(self.items(one for (one,) in ids))

    def picture(self, id: int) -> bytes | None:
        """The small JPEG of an image."""
        found = self._tables.execute("SELECT jpeg FROM pictures WHERE id = ?", (id,)).fetchone()
        return None if found is None else found[0]

    def ids_within(self, within: Within) -> np.ndarray:
        """int64, ascending."""
        wanted, values = _wanted(within)
        return self._numbers(f"SELECT id FROM items WHERE {wanted} ORDER BY id", values)

    def page(self, within: Within, after: int, count: int) -> list[Item]:
        """The first `count` images within, whose ids are larger than `after`, by id."""
        wanted, values = _wanted(within)
        found = self._tables.execute(
            f"SELECT {self._of_item} FROM items WHERE id > ? AND {wanted} ORDER BY id LIMIT ?", (after, *values, count)
        )
        return [Item(*one) for one in found]

    def latest(self, count: int) -> list[Item]:
        """The images that came last, the last one first."""
        found = self._tables.execute(f"SELECT {self._of_item} FROM items ORDER BY id DESC LIMIT ?", (count,))
        return [Item(*one) for one in found]

    def folders(self, below: bytes, most: int) -> list[bytes]:
        """The first `most` folders that lie directly in `below` (b"": in all) and hold files, deeper ones too."""
        found, start, prefix = [], below and below + b"/", below and below + b"/"
        while len(found) < most:
            query = "SELECT min(file) FROM items WHERE file >= ?"
            name = self._one(query, (start,))
            if name is None or not name.startswith(prefix):
                break
            first, slash, _ = name[len(prefix) :].partition(b"/")
            if slash:
                found.append(prefix + first)
            start = prefix + first + (b"0" if slash else b"\0")  # 0 follows /
        return found

    def days(self) -> tuple[int, int] | None:
        """When the first and the last image was taken; None: no image has a date."""
        first, last = self._tables.execute("SELECT min(taken), max(taken) FROM items").fetchone()
        return None if first is None else (first, last)

    def files_read(self) -> int:
        """To their ends."""
        return self._one("SELECT count(*) FROM files WHERE whole")

    # changes

    def add(self, file: bytes, items: Sequence[ReadItem], rows: Sequence[int]) -> None:
        """What could be read of one file, at these rows."""
        for one, row in zip(items, rows, strict=True):
            added = self._tables.execute(
                "INSERT INTO items(row, file, key, width, height, taken, caption, type, pending) "
                "VALUES(?,?,?,?,?,?,?,?,1)",
                (int(row), file, one.key, one.width, one.height, one.taken, one.caption, one.type),
            )
            self._tables.execute("INSERT INTO pictures VALUES(?, ?)", (added.lastrowid, one.picture))

    def skip(self, file: bytes, items: Sequence[ReadItem]) -> None:
        """What could not be read of one file."""
        said = [(file, one.key, one.problem) for one in items]
        self._tables.executemany("INSERT INTO skipped VALUES(?, ?, ?)", said)

    def skip_places(self, places: Iterable[tuple[bytes, str]]) -> None:
        """Folders that cannot be looked into now, and why, in place of those that could not before."""
        self._tables.execute("DELETE FROM skipped WHERE file NOT IN (SELECT name FROM files)")
        self._tables.executemany("INSERT INTO skipped VALUES(?, '', ?)", places)

    def set_state(self, file: bytes, state: State) -> None:
        """How far a file has been read."""
        self._tables.execute("INSERT OR REPLACE INTO files VALUES(?, ?, ?, ?, ?)", (file, *state))

    def drop(self, files: Iterable[bytes]) -> int:
        """All that is known of these files; how many images that were."""
        dropped = 0
        for file in files:
            ids = [found for (found,) in self._tables.execute("SELECT id FROM items WHERE file = ?", (file,))]
            self.drop_items(ids)
            dropped += len(ids)
            self._tables.execute("DELETE FROM files WHERE name = ?", (file,))
            self._tables.execute("DELETE FROM skipped WHERE file = ?", (file,))
        return dropped

    def drop_items(self, ids: Sequence[int]) -> None:
        """Of these images all but that their files were read."""
        for start in range(0, len(ids), _AT_A_TIME):
            some = ids[start : start + _AT_A_TIME]
            places = ",".join("?" * len(some))
            self._tables.execute(f"DELETE FROM items WHERE id IN ({places})", some)
            self._tables.execute(f"DELETE FROM pictures WHERE id IN ({places})", some)
            self._tables.executemany("INSERT OR IGNORE INTO removed VALUES(?)", [(one,) for one in some])

    def set_known(self) -> None:
        """The engine knows all that is pending, and nothing that was removed."""
        self._tables.execute("UPDATE items SET pending = 0 WHERE pending")
        self._tables.execute("DELETE FROM removed")

    def _one(self, query: str, values: Sequence[object] = ()):
        return self._tables.execute(query, values).fetchone()[0]

    def _numbers(self, query: str, values: Sequence[object] = ()) -> np.ndarray:
        return np.fromiter((found for (found,) in self._tables.execute(query, values)), np.int64)


def name_of(file: bytes, key: str) -> str:
    """Of an image: its file's, and the key of a shard's sample."""
    name = os.fsdecode(file)
    return f"{name}/{key}" if key else name


def _wanted(within: Within) -> tuple[str, list[object]]:
    """A condition, and its values."""
    wanted, values = ["1"], []
    if within.folder is not None:
        folder = os.fsencode(within.folder.strip("/"))
        wanted.append("(file = ? OR (file >= ? AND file < ?))")
        values += [folder, folder + b"/", folder + b"0"]  # 0 follows /
    for bound, sign in ((within.since, ">="), (within.until, "<=")):
        if bound is not None:
            wanted.append(f"taken {sign} ?")
            values.append(bound)
    return " AND ".join(wanted), values
