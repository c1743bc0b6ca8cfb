"""Parsers of the commands whose options are few; those of training come from tcl.config."""

import argparse
from typing import NoReturn

from tcl.commands.one_line import DEBUG
from tcl.errors import InputError


class OneLineParser(argparse.ArgumentParser):
    """Leaves it to `end_with_one_line` how mistakes are told; argparse would print the usage before them."""

    def error(self, message: str) -> NoReturn:
        said = message.removeprefix("argument ").removeprefix("--")
        raise InputError(f"{said}; `{self.prog} --help` lists the options")


def command_parser(program: str, description: str) -> OneLineParser:
    """The parser of `tcl shards` and the like. Its parse_args raises InputError."""
    return OneLineParser(
        prog=program,
        description=description,
        epilog=f"{DEBUG} shows the traceback of an error.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
