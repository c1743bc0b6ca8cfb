"""Which shards a pattern names, what each is called, and how many samples it holds."""

import contextlib
import glob
import json
import os
import stat
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlparse
from urllib.request import url2pathname

from braceexpand import UnbalancedBracesError, braceexpand
from webdataset.gopen import gopen_schemes

from tcl.config.data import DataConfig
from tcl.data.shards.read_shard import beside, count_samples, is_remote, open_url, shard_name
from tcl.data.texts.captions import spelt_out
from tcl.errors import InputError

MAX_COUNTS_BYTES = 2**26
"""Of sizes.json and the like: the counts of a million shards."""


@dataclass(frozen=True)
class Shard:
    """A tar file of `size` samples (>= 0)."""

    url: str
    size: int


def open_shards(pattern: str) -> list[Shard]:
    """The shards that `pattern` names, with their sizes. InputError as list_shards and shard_sizes."""
    urls = list_shards(pattern)
    return [Shard(url, size) for url, size in zip(urls, shard_sizes(urls), strict=True)]


def check_shards(data: DataConfig, trains: bool = True) -> None:
    """Shards are looked up, not opened; those to train on where the run `trains`. InputError as list_shards."""
    sources = [source.shards for source in data.train] if trains else []
    for pattern in sources + ([data.val] if data.val is not None else []):
        list_shards(pattern)


def list_shards(pattern: str) -> list[str]:
    """Paths and URLs that `pattern` names: a glob, a brace range, both, or URLs with brace ranges; in name order.

    Folders and files that exist as they are written are taken so, whatever characters are in their names. What is found
    is a file: one that is called like a URL or a command comes with its folder, ./pipe:x.tar.

    InputError: nothing matches, a shard of the range is missing, a folder, device or pipe instead of shards, an unknown
    kind of URL.
    """
    folder, rest = ("", pattern) if is_remote(pattern) else _split_existing(pattern)
    try:
        parts = list(braceexpand(rest)) if pattern else []
    except UnbalancedBracesError as error:
        raise InputError(f"shards {pattern!r}: unbalanced braces; a range is written {{000000..000331}}") from error
    urls = [url for part in parts for url in _expand(folder, part, pattern)]
    if not urls:
        raise InputError(f"shards {pattern!r}: no shards; give a glob such as data/*.tar, a brace range or a URL")
    return urls


def _split_existing(pattern: str) -> tuple[str, str]:
    """The longest beginning of a local `pattern` that exists, if only up to its last slash, and the rest."""
    pattern = os.path.expanduser(pattern)
    if os.path.lexists(pattern):
        cut = len(pattern)
    else:
        ends = [i + 1 for i, character in enumerate(pattern) if character in (os.sep, os.altsep)]
        cut = next((end for end in reversed(ends) if os.path.isdir(pattern[:end])), 0)
    return pattern[:cut], pattern[cut:]


def _expand(folder: str, part: str, pattern: str) -> list[str]:
    """folder: exists; part: what follows it, without braces."""
    if not folder and part.startswith("file:"):
        return _files(*_split_existing(url2pathname(urlparse(part).path)), pattern)
    if not folder and is_remote(part):
        scheme = part.partition(":")[0]
        if scheme != "s3" and scheme not in gopen_schemes:
            known = ", ".join(sorted({"s3", *gopen_schemes} - {"__default__"}))
            raise InputError(f"shards {pattern!r}: no reader for {scheme}:; known are {known}")
        return [part]
    return _files(folder, part, pattern)


def _files(folder: str, part: str, pattern: str) -> list[str]:
    path = folder + (part if folder else os.path.expanduser(part))
    if os.path.isdir(path):
        raise InputError(f"shards {pattern!r}: {path} is a folder; name its shards, e.g. {os.path.join(path, '*.tar')}")
    if os.path.isfile(path):
        return [_as_path(path)]
    if os.path.lexists(path) or not glob.has_magic(part):
        raise InputError(f"shards {pattern!r}: {path} {_what_it_is(path)}")
    matches = sorted(glob.glob(glob.escape(folder) + path[len(folder) :], recursive=True))
    found = [path for path in matches if not os.path.isdir(path)]
    odd = next((path for path in found if not os.path.isfile(path)), None)
    if odd is not None:
        raise InputError(f"shards {pattern!r}: {odd} {_what_it_is(odd)}; remove it, or name the shards one by one")
    if not found:
        raise InputError(f"shards {pattern!r}: no file matches {path}")
    return list(map(_as_path, found))


def _what_it_is(path: str) -> str:
    """Why a path is no shard."""
    if not os.path.exists(path):
        return "is a link to a file that does not exist" if os.path.islink(path) else "does not exist"
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return f"is {kinds.get(stat.S_IFMT(os.stat(path).st_mode), 'a device')}, no file"


def _as_path(path: str) -> str:
    """So that nothing takes it for a URL."""
    return os.path.join(os.curdir, path) if is_remote(path) else path


def shard_labels(urls: Sequence[str]) -> dict[str, str]:
    """The name of each shard, or its whole path or URL where another one has the same: no two share one."""
    counts = Counter(map(shard_name, urls))
    return {url: shard_name(url) if counts[shard_name(url)] == 1 else spelt_out(url) for url in urls}


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
        found = read_object(path)
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
    stats = read_object(path)
    if stats is not None:
        return _count(path, "successes", stats.get("successes"))
    if is_remote(url):
        raise InputError(
            f'{url}: unknown number of samples; write {beside(url, "sizes.json")}: {{"{name}": 1000, ...}}'
        )
    return count_samples(url)


def _count(path: str, field: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise InputError(f"{path}: {field} is {value!r}; it should be a number of samples")
    return value


def read_object(url: str) -> dict | None:
    """The object in a JSON file; None where there is no such file."""
    try:
        with contextlib.closing(open_url(url)) as stream:
            content = stream.read(MAX_COUNTS_BYTES + 1)
    except OSError:  # a remote command that fails says no more than a missing file does
        return None
    if is_remote(url) and not content.strip():
        return None
    if len(content) > MAX_COUNTS_BYTES:
        raise InputError(f"{url}: larger than {MAX_COUNTS_BYTES:,} bytes, which no file of counts is")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{url}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{url}: a JSON {type(found).__name__}; it should be an object")
    return found
