"""Documents, inputs and queries as requests write them, to what the models take.

A text; {"text": ...}; {"id": 7}, an image of the index; {"image": ...}, the base64 of an image file, with or without
`data:image/jpeg;base64,` in front; {"url": ...} or {"image_url": ...}, where the service was told to follow them. Paths
mean nothing here.
"""

import asyncio
import base64
import binascii
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tcl.data.shards.bad_sample import BadSample, reading
from tcl.errors import InputError
from tcl.index.read_item import Reader
from tcl.serve.contents import Content, Known, Picture, Text
from tcl.serve.fetch import fetch
from tcl.serve.limits import Limits
from tcl.serve.requests import Document

URLS = ("http:", "https:")


class DocumentReader:
    """Decodes beside the models' thread, a few images at a time."""

    def __init__(self, reader: Reader, limits: Limits, *, follow_urls: bool, threads: int = 2):
        """reader: of the models; follow_urls: whether documents may be behind URLs."""
        self.reader, self.limits, self.follow_urls = reader, limits, follow_urls
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self._fetchers = ThreadPoolExecutor(4 * threads, "fetch")

    async def read(self, document: Document, name: str) -> Content:
        """InputError, naming `name`: no image, one that is too large, a URL that is not to be followed."""
        if document.text is not None:
            return Text(document.text)
        if document.id is not None:
            return Known(document.id)
        url = document.location
        if url is not None and not url.startswith("data:"):
            return await self._picture(await self._fetched(url, name), name)
        return await self._picture(url if url is not None else document.image, name)

    async def read_all(self, documents: list[Document], name: str) -> list[Content]:
        """One after the other, so that a request that is given up decodes no more. InputError: as `read`."""
        return [await self.read(document, f"{name}[{i}]") for i, document in enumerate(documents)]

    async def picture(self, image: str, name: str) -> Picture:
        """Of base64."""
        return await self._picture(image, name)

    def close(self) -> None:
        """What runs ends by itself."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._fetchers.shutdown(wait=False, cancel_futures=True)

    async def _picture(self, image: str | bytes, name: str) -> Picture:
        work = partial(self._decoded, image, name)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    def _decoded(self, image: str | bytes, name: str) -> Picture:
        content = image if isinstance(image, bytes) else from_base64(image, name)
        accepted = self.reader.accepted(self.limits.pixels)
        try:
            with reading():
                return Picture(self.reader.see(content, self.limits.pixels))
        except BadSample as problem:
            raise InputError(f"{name}: {len(content):,} bytes cannot be used: {problem}; {accepted}") from problem

    async def _fetched(self, url: str, name: str) -> bytes:
        if not url.startswith(URLS):
            raise InputError(f"{name}: {url[:100]!r} is no URL of an image; give one like https://example.org/dog.jpg")
        if not self.follow_urls:
            raise InputError(
                f"{name}: URLs are not followed; send the image as base64, or start `tcl serve` with --allow_urls"
            )
        work = partial(fetch, url, name, most=self.limits.body, seconds=self.limits.seconds)
        return await asyncio.get_running_loop().run_in_executor(self._fetchers, work)


def from_base64(image: str, name: str) -> bytes:
    """InputError: it is none."""
    head, comma, tail = image.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        image = tail
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: no base64; give that of an image file") from error
