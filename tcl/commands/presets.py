"""`--preset NAME` on the command line: the `--config FILE` of a configuration that ships with the package."""

from tcl.errors import InputError
from tcl.presets import preset_file, preset_names

PRESET = "--preset"


def with_presets(kind: str, arguments: list[str]) -> list[str]:
    """`--preset tcl_4m --train.steps 9` -> `--config <package>/presets/pretrain/tcl_4m.yaml --train.steps 9`.

    kind: pretrain or finetune. InputError: no such preset, or none is named.
    """
    expanded, rest = [], iter(arguments)
    for argument in rest:
        option, equals, name = argument.partition("=")
        if option != PRESET:
            expanded.append(argument)
            continue
        name = name if equals else next(rest, "")
        if not name or name.startswith("--"):
            raise InputError(f"preset: which one? accepted: {', '.join(preset_names(kind))}")
        expanded += ["--config", str(preset_file(kind, name, "preset"))]
    return expanded
