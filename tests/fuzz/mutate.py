"""Damage: to bytes, to JSON-like values, and names and values that have gone wrong somewhere before."""

import math
from random import Random
from typing import Any

MARKER = "PWNED"
"""The file that every attempt to run a command would leave behind in the working directory."""

NAMES = (
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "a b.jpg",
    "a.b.c.jpg",
    "-rf",
    f"pipe:touch {MARKER}",
    f"pipe:touch {MARKER};.tar",
    f"$(touch {MARKER})",
    f"`touch {MARKER}`",
    "https://localhost:1/x.tar",
    "file:///etc/passwd",
    "hf-hub:nobody/nothing",
    "nul\x00name",
    "line\nfeed\r",
    "\x1b[2J\x07",
    "half \ud83d",
    "\u202eright to left",
    "x" * 5000,
    "犬.jpg",
    "__meta__",
)

VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**64),
    10**400,
    1e308,
    0.5,
    math.nan,
    math.inf,
    -math.inf,
    [],
    {},
    [None],
    [[]],
    ["a", None, 1],
    {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", MARKER]}},
    {"": ""},
    *NAMES,
)


def damage(content: bytes, rng: Random) -> bytes:
    """One to three kinds of damage to `content`, such as disks, networks and editors do."""
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(_DAMAGES)(content, rng)
    return content


def _flip(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20)) if content else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[rng.randrange(len(changed))] = rng.choice((0, 255, 10, 13, 34, 123, 128, rng.randrange(256)))
    return bytes(changed)


def _truncate(content: bytes, rng: Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _zero(content: bytes, rng: Random) -> bytes:
    start, stop = _range(content, rng)
    return content[:start] + bytes(stop - start) + content[stop:]


def _drop(content: bytes, rng: Random) -> bytes:
    start, stop = _range(content, rng)
    return content[:start] + content[stop:]


def _repeat(content: bytes, rng: Random) -> bytes:
    start, stop = _range(content, rng)
    return content[:stop] + content[start:stop] * rng.choice((1, 2, 50)) + content[stop:]


def _insert(content: bytes, rng: Random) -> bytes:
    at = rng.randint(0, len(content))
    text = rng.choice(NAMES).encode("utf-8", "surrogatepass")
    return content[:at] + rng.choice((text, rng.randbytes(rng.randint(1, 64)), b"[" * 3000)) + content[at:]


def _zero_tail(content: bytes, rng: Random) -> bytes:
    start, _ = _range(content, rng)
    return content[:start] + bytes(len(content) - start)


_DAMAGES = (_flip, _flip, _set, _truncate, _zero, _zero_tail, _drop, _repeat, _insert)


def _range(content: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randint(0, len(content))
    return start, min(len(content), start + rng.choice((1, 16, 512, 4096)))


def spoil(value: Any, rng: Random) -> Any:
    """A copy of a JSON-like `value` in which one place, chosen at random, is removed, doubled or another value."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != name}
        if rng.random() < 0.1:
            return {(rng.choice(NAMES) if k == name else k): v for k, v in value.items()}
        return value | {name: spoil(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:i] + rng.choice(([], [value[i]] * 2)) + value[i + 1 :]
        return [*value[:i], spoil(value[i], rng), *value[i + 1 :]]
    return rng.choice(VALUES)
