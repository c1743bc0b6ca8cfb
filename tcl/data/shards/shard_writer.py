"""Writes webdataset shards: the same samples always give the same bytes."""

import io
import json
import tarfile
from pathlib import Path

_BLOCK = tarfile.BLOCKSIZE


class ShardWriter:
    """Writes samples to `folder`/000000.tar, 000001.tar, ... and, on close, their counts to sizes.json.

    A shard holds `shard_size` samples or, where `shard_bytes` is given instead, as many as fit into a file of that many
    bytes (a sample that is larger has a shard of its own). Use it in a `with` block: after an exception no sizes.json
    is written.
    """

    def __init__(self, folder: Path | str, shard_size: int = 1000, shard_bytes: int | None = None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shard_size = shard_size
        self.shard_bytes = shard_bytes
        self.sizes: dict[str, int] = {}
        self._tar: tarfile.TarFile | None = None

    def write(self, key: str, files: dict[str, bytes]) -> None:
        """Add a sample: `files` maps extensions (jpg, json, ...) to contents. Keys are unique. ValueError: a key with a
        dot, where readers would end it."""
        if "." in key:
            raise ValueError(f"key {key!r} has a dot, which ends a key in a shard")
        if self._tar is not None and self._is_full(files):
            self._tar.close()
            self._tar = None
        if self._tar is None:
            name = f"{len(self.sizes):06d}.tar"
            self._tar = tarfile.TarFile(self.folder / name, "w", format=tarfile.USTAR_FORMAT)
            self.sizes[name] = 0
        for extension, content in files.items():
            entry = tarfile.TarInfo(f"{key}.{extension}")  # owner and time stay 0, whoever writes it when
            entry.size = len(content)
            self._tar.addfile(entry, io.BytesIO(content))
        self.sizes[next(reversed(self.sizes))] += 1

    def _is_full(self, files: dict[str, bytes]) -> bool:
        if self.shard_bytes is None:
            return self.sizes[next(reversed(self.sizes))] >= self.shard_size
        # Every file has a header and is padded to whole blocks; two empty blocks end the tar, padded to whole records.
        blocks = sum(1 + -(-len(content) // _BLOCK) for content in files.values()) + 2
        records = -(-(self._tar.offset + blocks * _BLOCK) // tarfile.RECORDSIZE)
        return records * tarfile.RECORDSIZE > self.shard_bytes

    def close(self) -> dict[str, int]:
        """Finish the last shard and write sizes.json; returns samples per shard."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None
        (self.folder / "sizes.json").write_text(json.dumps(self.sizes, indent=1) + "\n")
        return self.sizes

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        if error_type is None:
            self.close()
        elif self._tar is not None:
            self._tar.close()
