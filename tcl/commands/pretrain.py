"""Pre-train TCL: `accelerate launch -m tcl pretrain --preset tcl_4m [--train.steps 100 ...]`.

`tcl pretrain ...` runs one process; --preset takes a configuration of the package, --config a file of yours; `--help`
lists every option; `--dry_run` prints what the run would be, reads the first batch of every source, and trains nothing.
"""

from jsonargparse import ArgumentParser

from tcl.commands.presets import PRESET, with_presets

DRY_RUN = "--dry_run"
FLAGS = (DRY_RUN, PRESET)
"""Taken beside the options of the parser."""


def parser() -> ArgumentParser:
    """What `tcl pretrain --help` lists, less FLAGS."""
    from tcl.config.command_line import config_parser
    from tcl.tasks.pretrain import Config as PretrainConfig

    return config_parser(PretrainConfig, "tcl pretrain")


def main(arguments: list[str]) -> None:
    """Train, or dry_run."""
    from tcl.commands.task_options import parse_pretrain

    arguments = with_presets("pretrain", arguments)
    config = parse_pretrain([argument for argument in arguments if argument not in FLAGS])
    # torch and the models: only once the options are right
    if DRY_RUN in arguments:
        from tcl.training.dry_run import dry_run as command
    else:
        from tcl.training.run import train as command
    from tcl.tasks.pretrain import build as build_pretraining

    command(config, build_pretraining)
