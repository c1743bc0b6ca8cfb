"""Rows of a folder in which texts lie beside their images: a.jpg and a.txt, folder of `tcl shards`."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tcl.annotations.inside import LINK_OUTSIDE, TOO_MANY_BYTES, read_inside, resolve_inside
from tcl.annotations.row import LARGEST_SAMPLE, TOO_MUCH_TEXT, Row
from tcl.data.images.image_format import IMAGE_EXTENSIONS
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.sample_texts import EMPTY_CAPTION, NOT_UTF8

NO_TEXT_BESIDE = "no .txt beside the image"
NO_IMAGE_BESIDE = "no image beside the .txt"
TEXT_UNREADABLE = "the .txt cannot be read"
LINKED_FOLDER = "linked folder, which is not followed"
FOLDER_UNREADABLE = "folder cannot be read"
"""Causes of a skipped row."""

_TEXT_CAUSES = {TOO_MANY_BYTES: TOO_MUCH_TEXT, LINK_OUTSIDE: LINK_OUTSIDE}


def folder_rows(images: Path) -> Iterator[Row]:
    """A row per image, in the order of names, folder by folder; each line of its text is a caption.

    Texts without an image, images without a text and linked folders are rows that cannot be used. Files that are
    neither image nor text and names that begin with a dot are no rows.
    """
    failed: list[OSError] = []
    for place, folders, names in os.walk(images, onerror=failed.append):
        while failed:
            unread = os.path.relpath(failed.pop().filename, images)
            yield Row(unread, None, problem=FOLDER_UNREADABLE)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            path = os.path.join(place, name)
            if os.path.islink(path):
                yield _linked(images, os.path.relpath(path, images))
        inside = os.path.relpath(place, images)
        yield from _rows_of(images, "" if inside == os.curdir else inside, sorted(names))
    for error in failed:
        yield Row(os.path.relpath(error.filename, images), None, problem=FOLDER_UNREADABLE)


def _linked(images: Path, name: str) -> Row:
    try:
        resolve_inside(images, name)
    except BadSample:
        return Row(name, name, problem=LINK_OUTSIDE)
    return Row(name, name, problem=LINKED_FOLDER)


def _rows_of(images: Path, inside: str, names: list[str]) -> Iterator[Row]:
    split = [(*os.path.splitext(name), name) for name in names if not name.startswith(".")]
    texts = {stem: name for stem, extension, name in split if extension.lower() == ".txt"}
    others = {stem for stem, extension, _ in split if extension.lower() != ".txt"}
    with_image = {stem for stem, extension, _ in split if extension[1:].lower() in IMAGE_EXTENSIONS}
    for stem, extension, name in split:
        path = os.path.join(inside, name)
        if extension.lower() == ".txt":
            if stem not in others or texts[stem] != name:
                yield Row(path, None, problem=NO_IMAGE_BESIDE)
        # Beside a text any file may be the image, which its content tells.
        elif extension[1:].lower() in IMAGE_EXTENSIONS or (stem in texts and stem not in with_image):
            yield _row(images, path, os.path.join(inside, texts[stem]) if stem in texts else None)


def _row(images: Path, path: str, text: str | None) -> Row:
    if text is None:
        return Row(path, path, problem=NO_TEXT_BESIDE)
    try:
        content = read_inside(images, text, LARGEST_SAMPLE).decode("utf-8-sig")
    except UnicodeDecodeError:
        return Row(path, path, problem=NOT_UTF8)
    except BadSample as problem:
        return Row(path, path, problem=_TEXT_CAUSES.get(str(problem), TEXT_UNREADABLE))
    captions = [line.strip() for line in re.split(r"\r\n|\r|\n", content) if line.strip()]
    if not captions:
        return Row(path, path, problem=EMPTY_CAPTION)
    return Row(path, path, {"captions": captions, "image": path})
