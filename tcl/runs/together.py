"""What one process of a run knows, all of them act on."""

from accelerate.utils import gather_object

from tcl.errors import InputError


def raise_together(problem: str | None) -> None:
    """InputError on all processes if any has a `problem`. Called on every process."""
    problems = [one for one in gather_object([problem]) if one]
    if problems:
        raise InputError(problems[0])
