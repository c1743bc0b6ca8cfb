"""How every command ends: what the person at the keyboard can mend is one line."""

import errno
import sys
import traceback
from collections.abc import Callable

from tcl.commands.ranks import leave_processes, rank_0_says, tell_launcher
from tcl.errors import PREEMPTED_EXIT_CODE, InputError, Preempted
from tcl.shown import shown

DEBUG = "--debug"
"""Shows the traceback of such a line."""


def end_with_one_line(command: Callable[[list[str]], None], arguments: list[str] | None = None) -> None:
    """Run `command` with `arguments` (default: those of the process), less --debug.

    InputError, or a dead loader process, is one line on stderr and exit code 2 (after its traceback, with --debug),
    being told to stop (and saved) exit code 75, Ctrl-C 130. Of several processes that fail alike rank 0 tells it.
    """
    given = sys.argv[1:] if arguments is None else arguments
    status = 0
    try:
        command([argument for argument in given if argument != DEBUG])
    except (InputError, RuntimeError, OSError) as error:
        line = _line(error)
        if line is None:
            raise
        if DEBUG in given:
            traceback.print_exc()
        line = f"error: {shown(line)}"
        if not rank_0_says(line):
            print(line, file=sys.stderr, flush=True)
        tell_launcher(line)
        status = 2
    except Preempted as told:
        print(shown(str(told)), file=sys.stderr)
        status = PREEMPTED_EXIT_CODE
    except KeyboardInterrupt:  # something may be under way between processes
        sys.exit(130)
    leave_processes(status)
    if status:
        sys.exit(status)


def _line(error: InputError | RuntimeError | OSError) -> str | None:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        too_long = error.errno == errno.ENAMETOOLONG and error.filename
        return f"{str(error.filename)[:200]}...: no path can be that long; give another" if too_long else None
    from tcl.data.feed.worker_process import tells_of_death

    if tells_of_death(error):
        first = str(error).splitlines()[0].strip()
        return f"a loader process died: {first} If memory ran out, use fewer workers or smaller batches"
    return None
