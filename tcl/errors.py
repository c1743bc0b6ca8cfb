"""The two exceptions that a command answers with one line: a mistake that can be mended, and being told to stop."""

from tcl.shown import shown


class InputError(Exception):
    """Bad input: a config value, a file, a shard. One line that names the field or file, its value
    and what would be right.

    Commands print the message without a traceback and exit with code 2. Names and values from outside may stand in it:
    what would break the line, or act on a terminal, is spelt out.
    """

    def __str__(self) -> str:
        return shown(super().__str__())


class Preempted(Exception):
    """The run was told to stop, has saved itself and can go on from there. Its text is for the person watching."""


PREEMPTED_EXIT_CODE = 75
"""Of a run that was told to stop and has saved itself: EX_TEMPFAIL, "try again"."""
