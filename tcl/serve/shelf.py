"""What of an index needs no model: its pictures, lists and state, read on a thread of their own, beside the models'."""

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from PIL import Image

from tcl.data.images.decode_image import decode_image
from tcl.data.shards.bad_sample import BadSample, reading
from tcl.errors import InputError
from tcl.index.catalogue import Catalogue, Item
from tcl.index.description import Description
from tcl.index.original import open_original, read_original
from tcl.index.progress import read_progress
from tcl.index.query import Hit
from tcl.index.ranking import hit_of
from tcl.index.store import CATALOGUE, told
from tcl.index.within import Within

LARGEST_SIDE, QUALITY = 2048, 88
"""Of a photograph that is sent."""
MOST_FOLDERS = 500
_SAMPLED, _SUGGESTED, _WORDS, _LATEST = 200, 4, 9, 12

Found = TypeVar("Found")


class Shelf:
    """The catalogue of an index, by itself."""

    def __init__(self, folder: Path, description: Description, max_pixels: int):
        """InputError: it is damaged."""
        self.folder, self.description, self.max_pixels = folder, description, max_pixels
        self._reader = ThreadPoolExecutor(1, "catalogue")
        self.readers = ThreadPoolExecutor(2, "photographs")
        """Of files of the index."""
        self._catalogue = self._reader.submit(self._open).result()

    async def small(self, id: int) -> bytes | None:
        """The small JPEG of an image; None: it is not there."""
        return await self._read(lambda catalogue: catalogue.picture(id))

    async def photograph(self, id: int) -> bytes | None:
        """A JPEG of an image as large as it is, up to LARGEST_SIDE; the small one, where its file cannot be read any
        more. It is encoded anew: nothing else that the file holds is sent. None: it is not there."""
        item = await self._item(id)
        if item is None:
            return None
        if item.type is not None:
            return await self.small(id)
        found = await asyncio.get_running_loop().run_in_executor(self.readers, self._encoded, item)
        return await self.small(id) if found is None else found

    async def original(self, id: int) -> bytes | None:
        """The file behind an image, or the small JPEG; None: it is not there."""
        item = await self._item(id)
        if item is None:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self.readers, read_original, self.description, item)
        except BadSample:
            return await self.small(id)

    async def opened(self, id: int) -> tuple[BinaryIO, str] | None:
        """The file of a clip or a sound, to be closed, and its media type; None: it is not there, or an image."""
        item = await self._item(id)
        if item is None or item.type is None:
            return None
        try:
            running = asyncio.get_running_loop()
            return await running.run_in_executor(self.readers, open_original, self.description, item), item.type
        except (BadSample, InputError):
            return None

    async def page(self, within: Within | None, after: int, count: int) -> list[Hit]:
        """Images by id, those after one."""
        return await self._read(
            lambda catalogue: [self._hit(item) for item in catalogue.page(within or Within(), after, count)]
        )

    async def folders(self, below: str) -> list[str]:
        """Those directly in a folder; of shards there are none."""
        if self.description.shards is not None:
            return []
        inside = below.strip("/").encode("utf-8", "surrogateescape")
        found = await self._read(lambda catalogue: catalogue.folders(inside, MOST_FOLDERS))
        return [name.decode() for name in found if _is_utf8(name)]

    async def state(self) -> dict[str, Any]:
        """How many images there are, and of a catalogue that is being written how far it is."""
        return await self._read(self._state)

    def close(self) -> None:
        """What runs ends first."""
        self._reader.submit(self._catalogue.close).result()
        self._reader.shutdown()
        self.readers.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> Catalogue:
        with told(self.folder):
            return Catalogue(self.folder / CATALOGUE, writable=False)

    async def _read(self, work: Callable[[Catalogue], Found]) -> Found:
        """InputError: the catalogue is damaged."""

        def told_work() -> Found:
            with told(self.folder):
                return work(self._catalogue)

        return await asyncio.get_running_loop().run_in_executor(self._reader, told_work)

    async def _item(self, id: int) -> Item | None:
        return await self._read(lambda catalogue: next(catalogue.items([id]), None))

    def _encoded(self, item: Item) -> bytes | None:
        try:
            with reading():
                content = read_original(self.description, item)
                image = Image.fromarray(decode_image(content, max_pixels=self.max_pixels))
                image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
                stream = io.BytesIO()
                image.save(stream, "JPEG", quality=QUALITY)
                return stream.getvalue()
        except (BadSample, InputError):
            return None

    def _hit(self, item: Item) -> Hit:
        return hit_of(self.description, item, float("nan"), None)

    def _state(self, catalogue: Catalogue) -> dict[str, Any]:
        progress = read_progress(self.folder, catalogue.files_read())
        images, pending = catalogue.count(), catalogue.pending()
        items = catalogue.page(Within(), 0, _SAMPLED)
        captions = dict.fromkeys(item.caption.rstrip(" .") for item in items if item.caption)
        short = [text for text in captions if 0 < len(text.split()) <= _WORDS]
        return {
            "images": images,
            "searchable": images - pending,
            "being_made": None if progress is None else vars(progress),
            "skipped": len(catalogue.skipped()),
            "days": catalogue.days(),
            "suggestions": short[:: max(1, len(short) // _SUGGESTED)][:_SUGGESTED],
            "latest": [item.id for item in catalogue.latest(_LATEST)],
        }


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
