"""Consistency of NLVR2: of how many sentences are all pairs of images judged right (Suhr et al. 2019, section 6)?"""

from collections.abc import Iterable


def group_of(identifier: str) -> str:
    """'dev-850-2-0', which is split-set-pair-sentence, without its pair, as the official script leaves it out; other
    identifiers are a group of their own."""
    parts = identifier.split("-")
    return "-".join([*parts[:2], *parts[3:]]) if len(parts) == 4 else identifier


def consistency(groups: Iterable[str], right: Iterable[bool]) -> float:
    """The share of groups, 0 to 1, all of whose rows are right; there is one row at least."""
    whole: dict[str, bool] = {}
    for group, is_right in zip(groups, right, strict=True):
        whole[group] = whole.get(group, True) and is_right
    return sum(whole.values()) / len(whole)
