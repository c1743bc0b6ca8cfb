"""Rows of tables with a caption a line: csv and tsv of `tcl shards`."""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from tcl.annotations.caption_rows import caption_row
from tcl.annotations.json_file import LONGEST_LINE, check_utf8, numbered_lines, open_annotations
from tcl.annotations.row import TOO_MUCH_TEXT, Row
from tcl.errors import InputError

NOT_UTF8 = "line is not UTF-8"
BAD_QUOTES = "quotes of the line do not match"
TOO_MANY_COLUMNS = "more columns than the first line; quote what holds the delimiter"
"""Causes of a skipped row."""

SUFFIXES = {".tsv": "\t", ".tab": "\t"}
"""Delimiters of files that are called so; others have commas."""

LINES_OF_FIELD = 100
"""How far the closing quote of a field may be away; a quote that is never closed costs its own line alone."""

_JSON = re.compile(rb'(\xef\xbb\xbf)?\s*(\{\s*"|\[\s*[\[{"])')
_START_BYTES = 1024

Record = tuple[str, list[str] | str]
"""'line 3' and its columns, or the cause for which it has none."""


def csv_rows(path: Path, image_column: str | None, caption_column: str | None, delimiter: str | None) -> Iterator[Row]:
    """A row per line, quoted as in CSV; lines that name the same image are not merged, as in json.

    image_column, caption_column: names in the first line (default "image" and "caption"), or numbers from 1 for a table
    without such a line. delimiter: one character or "tab"; default: by the suffix of `path`.
    InputError: unreadable, empty, not UTF-8, JSON, a delimiter that is none, columns that are not there.
    """
    mark = _checked_delimiter(SUFFIXES.get(path.suffix.lower(), ",") if delimiter is None else delimiter)
    csv.field_size_limit(2 * LONGEST_LINE)
    file = open_annotations(path, "csv")
    check_utf8(file, path)
    if _JSON.match(file.peek(_START_BYTES)):
        raise InputError(f"annotations: {path} is JSON, not a table; use --from jsonl or json")
    records = _records(file, mark)
    first = next(records, None)
    if first is None:
        raise InputError(f"annotations: {path} is empty; give a csv file with rows")
    where, header = first
    if isinstance(header, str):
        raise InputError(f"annotations: {path} cannot be read as a table: {where}: {header}")
    names = ("image" if image_column is None else image_column, "caption" if caption_column is None else caption_column)
    columns = [_column(path, header, *named) for named in zip(("image_column", "caption_column"), names, strict=True)]
    if all(name.isdecimal() and name not in header for name in names):
        records = chain([first], records)
    return (_table_row(record, columns, len(header)) for record in records)


def tsv_rows(path: Path, image_column: str | None, caption_column: str | None, delimiter: str | None) -> Iterator[Row]:
    """As csv_rows, of a table with tabs."""
    return csv_rows(path, image_column, caption_column, "\t" if delimiter is None else delimiter)


def _checked_delimiter(text: str) -> str:
    mark = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(mark) != 1 or mark in '"\r\n\0':
        raise InputError(f"delimiter: {text!r} is not possible; accepted: one character such as ';', or tab")
    return mark


def _column(path: Path, header: list[str], field: str, name: str) -> int:
    if header.count(name) > 1:
        raise InputError(f"{field}: {name!r} is there twice in {path}; rename one of the columns")
    if name in header:
        return header.index(name)
    if name.isdecimal() and 1 <= int(name[:9]) <= len(header):
        return int(name[:9]) - 1
    columns = ", ".join(header)
    if len(header) == 1:
        other = next((mark for mark in "\t;|," if mark in columns), None)
        if other is not None:
            named = "tab" if other == "\t" else other
            raise InputError(f"delimiter: the first line of {path} is one column; give --delimiter '{named}'")
    raise InputError(f"{field}: {name!r} is not in {path}; accepted: {columns}, or a number from 1 to {len(header)}")


def _records(file: BinaryIO, delimiter: str) -> Iterator[Record]:
    """What the lines hold, blank ones left out; a field in quotes may go on over lines."""
    lines, waiting = numbered_lines(file), deque()

    def ahead(count: int) -> bytes | None:
        """The line `count` (>= 0) lines further on, which stays to be read; None: there is none, or it is too long."""
        while len(waiting) <= count and (entry := next(lines, None)) is not None:
            waiting.append(entry)
        return waiting[count][1] if count < len(waiting) else None

    with file:
        while ahead(0) is not None or waiting:
            number, line = waiting.popleft()
            if line is None or line.strip():
                found, used = _record(line, ahead, delimiter)
                for _ in range(used):
                    waiting.popleft()
                yield f"line {number}", found


def _record(line: bytes | None, ahead: Callable, delimiter: str) -> tuple[list[str] | str, int]:
    """The columns that begin in `line`, or a cause, and how many lines after it they take."""
    if line is None:
        return TOO_MUCH_TEXT, 0
    gathered = [line]
    while len(gathered) <= LINES_OF_FIELD and sum(map(len, gathered)) <= LONGEST_LINE:
        try:
            if len(gathered) == 1 or b'"' in gathered[-1]:
                return _columns(gathered, delimiter), len(gathered) - 1
        except _OpenQuote:
            pass
        except UnicodeDecodeError:
            return NOT_UTF8, 0
        except csv.Error:
            return BAD_QUOTES, 0
        more = ahead(len(gathered) - 1)
        if more is None:
            break
        gathered.append(more)
    return BAD_QUOTES, 0


class _OpenQuote(Exception):
    pass


def _columns(lines: list[bytes], delimiter: str) -> list[str]:
    text = [line.decode() for line in lines]
    try:
        (columns,) = csv.reader(text, delimiter=delimiter, strict=True)
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise _OpenQuote from error
        raise
    except ValueError as error:  # a carriage return in the middle of a line begins another record
        raise csv.Error from error
    return [column.strip() for column in columns]


def _table_row(record: Record, columns: list[int], width: int) -> Row:
    where, found = record
    if isinstance(found, str):
        return Row(where, None, problem=found)
    image, caption = (found[column] if column < len(found) else None for column in columns)
    if len(found) > width:
        return Row(where, image, problem=TOO_MANY_COLUMNS)
    return caption_row(where, {"image": image, "caption": caption})
