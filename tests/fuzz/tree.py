"""One change in a folder of files: of bytes, of values where a file has a structure, or of the files themselves."""

import json
import os
import random
from pathlib import Path

import yaml

from tests.fuzz.mutate import TEXTS, change_bytes, change_value


def change_a_file(folder: Path, rng: random.Random) -> str:
    """Change one file below `folder`; returns what was changed."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(paths)
    way = rng.choice(["bytes", "bytes", "value", "value", "value", "gone", "empty", "folder", "endless", "text"])
    said = ""
    if way == "value" and path.suffix in (".json", ".jsonl", ".yaml"):
        said = _change_value(path, rng)
    elif way == "gone":
        path.unlink()
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "folder":
        path.unlink()
        path.mkdir()
    elif way == "endless":
        path.unlink()
        os.symlink("/dev/zero", path)
    elif way == "text":
        path.write_bytes(rng.choice(TEXTS).encode("utf-8", "surrogatepass"))
    else:
        content, said = change_bytes(path.read_bytes(), rng)
        path.write_bytes(content)
    return f"{path.relative_to(folder)}: {way} {said}"


def _change_value(path: Path, rng: random.Random) -> str:
    text = path.read_text()
    if path.suffix == ".jsonl":
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        value, said = change_value(json.loads(lines[at]), rng)
        lines[at] = json.dumps(value)
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".yaml":
        value, said = change_value(yaml.safe_load(text), rng)
        path.write_bytes(yaml.safe_dump(value, sort_keys=False).encode("utf-8", "surrogatepass"))
    else:
        value, said = change_value(json.loads(text), rng)
        path.write_text(json.dumps(value))
    return said
