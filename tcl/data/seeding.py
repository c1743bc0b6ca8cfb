"""Random choices as functions of a key such as (seed, epoch, shard, index), never of history.

That is what lets a run continue at any batch.
"""

import hashlib
import random


def seed_of(*key: int | str) -> int:
    """63 random bits that depend on nothing but `key`: the same in every process, on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def uniform(*key: int | str) -> float:
    """A number in [0, 1) that depends on nothing but `key`."""
    return seed_of(*key) / 2**63


def permutation(length: int, *key: int | str) -> list[int]:
    """0 .. length - 1 in an order that depends on nothing but `length` and `key`."""
    order = list(range(length))
    random.Random(seed_of(*key)).shuffle(order)
    return order
