"""How every command ends: what the person at the keyboard can mend is one line."""

import sys
import traceback
from collections.abc import Callable

from tcl.errors import PREEMPTED_EXIT_CODE, InputError, Preempted

DEBUG = "--debug"
"""Shows the traceback of such a line."""


def end_with_one_line(command: Callable[[list[str]], None], arguments: list[str] | None = None) -> None:
    """Run `command` with `arguments` (default: those of the process), less --debug.

    InputError is one line on stderr and exit code 2 (after its traceback, with --debug), being told to stop (and saved)
    exit code 75, Ctrl-C 130.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        command([argument for argument in given if argument != DEBUG])
    except InputError as error:
        if DEBUG in given:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Preempted as told:
        print(told, file=sys.stderr)
        sys.exit(PREEMPTED_EXIT_CODE)
    except KeyboardInterrupt:
        sys.exit(130)
