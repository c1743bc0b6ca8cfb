"""Print what makes the shell complete commands, options and their values.

    tcl completion bash > ~/.local/share/bash-completion/completions/tcl
    tcl completion zsh > ~/.zfunc/_tcl        (a folder of $fpath)

or, in a shell that runs: eval "$(tcl completion bash)".
"""

import argparse
import importlib
from collections.abc import Iterator

import shtab

from tcl.commands import COMMANDS
from tcl.commands.one_line import DEBUG
from tcl.commands.parser import command_parser
from tcl.commands.presets import PRESET
from tcl.presets import preset_names

PRESETS = {"pretrain": "pretrain", "finetune": "finetune", "evaluate": "finetune"}
"""Of which kind those of a command are."""
FILES = {"bash": "", "zsh": "_files"}
"""What offers files where no values are known; in bash an option of `complete` does."""


def parser() -> argparse.ArgumentParser:
    """What `tcl completion --help` lists."""
    options = command_parser("tcl completion", __doc__)
    options.add_argument("shell", choices=tuple(FILES))
    return options


def main(arguments: list[str]) -> None:
    """InputError: another shell."""
    shell = parser().parse_args(arguments).shell
    print(shtab.complete(_all_commands(), shell))
    if shell == "bash":
        print("complete -o default -F _shtab_tcl tcl")


def _all_commands() -> argparse.ArgumentParser:
    """`tcl` with its commands and their options; it parses nothing."""
    everything = argparse.ArgumentParser("tcl")
    commands = everything.add_subparsers()
    for name, does in COMMANDS.items():
        command = commands.add_parser(name, help=does, add_help=False)
        known: set[str] = set()
        for action in _actions(name):
            if known.isdisjoint(action.option_strings):
                known.update(action.option_strings)
                if not action.choices:
                    action.complete = FILES
                command._add_action(action)
    return everything


def _actions(name: str) -> Iterator[argparse.Action]:
    """Those of training differ from task to task, others from form to form; what several have comes as often."""
    module = importlib.import_module(f"tcl.commands.{name}")
    for flag in (DEBUG, *getattr(module, "FLAGS", ())):
        presets = preset_names(PRESETS[name]) if flag == PRESET else None
        yield argparse.Action([flag], flag, nargs=None if presets else 0, choices=presets)
    if name in ("finetune", "evaluate"):
        from tcl.tasks import task_names

        for task in task_names():
            yield from module.parser(task)._actions
    else:
        for parser_of in getattr(module, "FORMS", (module.parser,)):
            yield from parser_of()._actions
