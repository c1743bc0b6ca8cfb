"""Which shards a pattern names, and how many samples each holds."""

import contextlib
import glob
import json
import os
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlparse
from urllib.request import url2pathname

from braceexpand import UnbalancedBracesError, braceexpand
from webdataset.gopen import gopen_schemes
from webdataset.tariterators import base_plus_ext

from tcl.data.read_shard import beside, is_remote, open_url, shard_name
from tcl.errors import InputError

META_ENTRY = re.compile(r"__[^/]*__($|/)")
"""Tar entries that webdataset skips."""


@dataclass(frozen=True)
class Shard:
    """A tar file of `size` samples (>= 0)."""

    url: str
    size: int


def open_shards(pattern: str) -> list[Shard]:
    """The shards that `pattern` names, with their sizes. InputError as list_shards and shard_sizes."""
    urls = list_shards(pattern)
    return [Shard(url, size) for url, size in zip(urls, shard_sizes(urls), strict=True)]


def list_shards(pattern: str) -> list[str]:
    """Paths and URLs that `pattern` names: a glob, a brace range, both, or URLs with brace ranges; in name order.

    InputError: nothing matches, a shard of the range is missing, a folder instead of shards, an unknown kind of URL.
    """
    try:
        parts = list(braceexpand(pattern)) if pattern else []
    except UnbalancedBracesError as error:
        raise InputError(f"shards {pattern!r}: unbalanced braces; a range is written {{000000..000331}}") from error
    urls = [url for part in parts for url in _expand(part, pattern)]
    if not urls:
        raise InputError(f"shards {pattern!r}: no shards; give a glob such as data/*.tar, a brace range or a URL")
    return urls


def _expand(part: str, pattern: str) -> list[str]:
    if part.startswith("file:"):
        part = url2pathname(urlparse(part).path)
    if is_remote(part):
        scheme = part.partition(":")[0]
        if scheme != "s3" and scheme not in gopen_schemes:
            known = ", ".join(sorted({"s3", *gopen_schemes} - {"__default__"}))
            raise InputError(f"shards {pattern!r}: no reader for {scheme}:; known are {known}")
        return [part]
    path = os.path.expanduser(part)
    if os.path.isdir(path):
        raise InputError(f"shards {pattern!r}: {part} is a folder; name its shards, e.g. {os.path.join(part, '*.tar')}")
    if os.path.isfile(path):
        return [path]
    if not glob.has_magic(path):
        raise InputError(f"shards {pattern!r}: {part} does not exist")
    found = sorted(filter(os.path.isfile, glob.glob(path, recursive=True)))
    if not found:
        raise InputError(f"shards {pattern!r}: no file matches {part}")
    return found


def shard_sizes(urls: list[str]) -> list[int]:
    """Samples per shard, from the first of these that knows it: sizes.json ({"000000.tar": 1000}) or meta.json (the
    same, or under the key "shards") beside the shard, img2dataset's 000000_stats.json, and for local shards the tar
    itself. A shard that cannot be read counts as one sample, so that the one who reads it counts a bad sample.

    InputError: a remote shard without a count, a count that is none, a JSON file that is none.
    """
    counts = {beside(url, ""): _counts_beside(url) for url in {beside(url, ""): url for url in urls}.values()}
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda url: _size(url, *counts[beside(url, "")]), urls))


def _counts_beside(url: str) -> tuple[str, dict]:
    """The file in the shard's folder that holds counts, and its counts by shard name; {} where there is none."""
    for name in ("sizes.json", "meta.json"):
        path = beside(url, name)
        found = _read_json(path)
        if found is None:
            continue
        counts = found.get("shards", found) if name == "meta.json" else found
        if not isinstance(counts, dict):
            raise InputError(f'{path}: no counts; write {{"000000.tar": 1000, ...}}')
        return path, counts
    return "", {}


def _size(url: str, counts_path: str, counts: dict) -> int:
    name = shard_name(url)
    if name in counts:
        return _count(counts_path, name, counts[name])
    path = beside(url, name.partition(".tar")[0] + "_stats.json")
    stats = _read_json(path)
    if stats is not None:
        return _count(path, "successes", stats.get("successes"))
    if is_remote(url):
        raise InputError(
            f'{url}: unknown number of samples; write {beside(url, "sizes.json")}: {{"{name}": 1000, ...}}'
        )
    return _scan(url)


def _count(path: str, field: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise InputError(f"{path}: {field} is {value!r}; it should be a number of samples")
    return value


def _read_json(url: str) -> dict | None:
    """The object in a JSON file; None where there is no such file."""
    try:
        with contextlib.closing(open_url(url)) as stream:
            content = stream.read()
    except OSError:  # a remote command that fails says no more than a missing file does
        return None
    if is_remote(url) and not content.strip():
        return None
    try:
        found = json.loads(content)
    except ValueError as error:
        raise InputError(f"{url}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{url}: a JSON {type(found).__name__}; it should be an object")
    return found


def _scan(path: str) -> int:
    """Samples of a local tar, from its headers alone: as many as webdataset's grouping of its entries makes."""
    count, current = 0, None
    try:
        with tarfile.open(path) as tar:
            for entry in tar:
                tar.members = []
                if not entry.isreg() or META_ENTRY.match(entry.name):
                    continue
                key, _ = base_plus_ext(entry.name)
                if key is not None and key != current:
                    count, current = count + 1, key
            return count
    except (OSError, EOFError, tarfile.TarError):
        return max(count, 1)
