"""Changes to bytes and to JSON values. Everything random comes from the `rng` that is given."""

import copy
import random
from typing import Any

COMMAND = "touch PWNED"
"""Leaves a file where it is run."""
TEXTS = [
    "",
    " ",
    "\0",
    "\x1b[2J\r\n",
    "\ud800",
    "\u202e\u200b",
    "x" * 5000,
    "../../x",
    "/dev/full",
    "pipe:" + COMMAND,
    f"$({COMMAND})",
    "no-such-org/no-such-model",
    "[x](javascript:alert(1))",
    "nan",
    "1e999",
]
HOSTILE: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    -(2**63),
    10**30,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[[[]]]],
    [None],
    {"": None},
    {"class_path": "subprocess.Popen", "init_args": {"args": COMMAND.split()}},
    *TEXTS,
]


def change_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """`content` with one to three changes, and what they were."""
    said = []
    for _ in range(rng.randint(1, 3)):
        content, one = _change_once(content, rng)
        said.append(one)
    return content, ", ".join(said)


def _change_once(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    if not content:
        return b"\0", "one zero byte"
    at = rng.randrange(len(content))
    length = min(rng.choice([1, 2, 4, 16, 100, 1000, 10_000]), len(content) - at)
    way = rng.choice(["flip", "flip", "byte", "byte", "cut", "zero", "drop", "twice", "noise", "number"])
    changed = bytearray(content)
    if way == "flip":
        changed[at] ^= 1 << rng.randrange(8)
    elif way == "byte":
        changed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    elif way == "cut":
        del changed[at:]
    elif way == "zero":
        changed[at : at + length] = bytes(length)
    elif way == "drop":
        del changed[at : at + length]
    elif way == "twice":
        changed[at:at] = changed[at : at + length]
    elif way == "noise":
        changed[at : at + length] = rng.randbytes(length)
    else:
        number = rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFF, 2**63])
        changed[at : at + 8] = number.to_bytes(8, rng.choice(["big", "little"]))
    return bytes(changed), f"{way} at {at}"


def change_value(value: Any, rng: random.Random) -> tuple[Any, str]:
    """A copy of a JSON value in which one node is another, is gone, or is there under another name."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return rng.choice(HOSTILE), "the whole"
    holder, key, path = rng.choice(places)
    way = rng.choice(["replace", "replace", "replace", "wrap", "drop", "rename", "deep"])
    if way == "replace":
        holder[key] = rng.choice(HOSTILE)
        return value, f"{path} is {holder[key]!r:.60}"
    if way == "wrap":
        holder[key] = [holder[key]]
    elif way == "drop":
        del holder[key]
    elif way == "rename" and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder.pop(key)
    else:
        for _ in range(100):
            holder[key] = [holder[key]]
    return value, f"{way} {path}"


def _places(value: Any, path: str = ""):
    """(holder, key, path) of every node below `value`."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key, f"{path}.{key}"
        if isinstance(item, dict | list):
            yield from _places(item, f"{path}.{key}")
