"""`tcl COMMAND ...`, which pip installs; `python -m tcl` is the same."""

import difflib
import importlib
import sys

from tcl import __version__
from tcl.commands import COMMANDS
from tcl.commands.one_line import end_with_one_line
from tcl.errors import InputError

WIDTH = max(map(len, COMMANDS))
HELP = "\n".join(
    [
        "usage: tcl COMMAND [options]",
        "Vision-language pre-training with triple contrastive learning.",
        "",
        *(f"  {name:{WIDTH}}  {does}" for name, does in COMMANDS.items()),
        "",
        "tcl COMMAND --help lists options, --debug shows tracebacks, tcl --version the",
        "version. On several processes: accelerate launch -m tcl pretrain ...",
    ]
)


def main() -> None:
    """The entry point. Of a name that the terminal has no letters for, the numbers of its characters are shown."""
    sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does by itself
    end_with_one_line(run)


def run(arguments: list[str]) -> None:
    """The command that arguments[0] names, with the others. InputError: there is none of that name."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return
    if arguments[0] in ("-V", "--version"):
        print(f"tcl {__version__}")
        return
    name, *others = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {near[0]}?" if near else f"accepted: {', '.join(COMMANDS)}"
        raise InputError(f"tcl: there is no command {name!r}; {meant}")
    importlib.import_module(f"tcl.commands.{name}").main(others)
