"""Numbers as people write them on a command line."""

import re

from tcl.errors import InputError


def parse_number(name: str, text: str) -> int:
    """'100e6' -> 100000000, '300MB' -> 300000000, '4KiB' -> 4096. InputError, naming option `name`: no number."""
    match = re.fullmatch(r"([\d.]+(?:e\d+)?)\s*(?:([kmgt]?)(i?)b)?", text.strip().lower())
    try:
        value, prefix, binary = match.groups()
        return round(float(value) * (1024 if binary else 1000) ** " kmgt".index(prefix or " "))
    except (AttributeError, ValueError, OverflowError):
        raise InputError(f"{name}: {text!r} is no number; accepted: such as 100e6 or 300MB") from None
