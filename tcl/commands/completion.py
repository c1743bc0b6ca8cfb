"""Print what makes the shell complete commands, options and their values.

    tcl completion bash > ~/.local/share/bash-completion/completions/tcl
    tcl completion zsh > ~/.zfunc/_tcl        (a folder of $fpath)

or, in a shell that runs: eval "$(tcl completion bash)".
"""

import argparse
import importlib
from types import ModuleType

from tcl.commands import COMMANDS
from tcl.commands.one_line import DEBUG
from tcl.commands.parser import command_parser
from tcl.commands.presets import PRESET
from tcl.presets import preset_names

PRESETS = {"pretrain": "pretrain", "finetune": "finetune", "evaluate": "finetune"}
"""Of which kind those of a command are."""

BASH = """\
_tcl() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD - 1]}}" in
{values}
            *) [[ $word == -* ]] && case "${{COMP_WORDS[1]}}" in
{options}
            esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _tcl tcl
"""

ZSH = """\
#compdef tcl
_tcl() {{
    local found=
    if (( CURRENT == 2 )); then
        found="{commands}"
    else
        case "${{words[2]}} ${{words[CURRENT - 1]}}" in
{values}
            *) [[ $PREFIX == -* ]] && case "${{words[2]}}" in
{options}
            esac ;;
        esac
    fi
    if [[ -n $found ]]; then compadd -- ${{=found}}; else _files; fi
}}
if [[ $funcstack[1] == _tcl ]]; then _tcl; else compdef _tcl tcl; fi
"""


def parser() -> argparse.ArgumentParser:
    """What `tcl completion --help` lists."""
    options = command_parser("tcl completion", __doc__)
    options.add_argument("shell", choices=("bash", "zsh"))
    return options


def main(arguments: list[str]) -> None:
    """InputError: another shell."""
    template, name = {"bash": (BASH, "words"), "zsh": (ZSH, "found")}[parser().parse_args(arguments).shell]
    values, options = [], []
    for command in COMMANDS:
        options.append(f'                {command}) {name}="{" ".join(options_of(command))}" ;;')
        values += [
            f'            "{command} {before}") {name}="{" ".join(choices)}" ;;'
            for before, choices in values_of(command).items()
        ]
    print(template.format(commands=" ".join(COMMANDS), values="\n".join(values), options="\n".join(options)), end="")


def options_of(command: str) -> list[str]:
    """All that start with --."""
    flags = getattr(_module(command), "FLAGS", ())
    known = [option for action in _actions(command) for option in action.option_strings if option.startswith("--")]
    return list(dict.fromkeys(["--help", DEBUG, *flags, *known]))


def values_of(command: str) -> dict[str, list[str]]:
    """What may follow an option, or the command itself, where that can be listed."""
    presets = {PRESET: preset_names(PRESETS[command])} if command in PRESETS else {}
    return presets | {
        before: [str(choice) for choice in action.choices]
        for action in _actions(command)
        if action.choices
        for before in action.option_strings or [command]
    }


def _actions(command: str) -> list[argparse.Action]:
    """Those of training differ from task to task."""
    module = _module(command)
    if command not in ("finetune", "evaluate"):
        return module.parser()._actions
    from tcl.tasks import task_names

    return [action for task in task_names() for action in module.parser(task)._actions]


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"tcl.commands.{command}")
