"""Fine-tune: `accelerate launch -m tcl finetune --preset vqa_v2 --init runs/tcl_4m`.

`tcl finetune ...` runs one process; --preset takes a configuration of the package, --config a file of yours;
`--task vqa --help` lists every option of a task (classification, compress, compressed_retrieval, entailment, grounding,
nlvr, retrieval or vqa); `--eval_only` evaluates the weights of --init and trains nothing, as `tcl evaluate` does;
`--dry_run` prints what the run would be and reads one batch of every source.
"""

from jsonargparse import ArgumentParser

from tcl.commands.presets import PRESET, with_presets
from tcl.commands.pretrain import DRY_RUN

EVAL_ONLY = "--eval_only"
FLAGS = (DRY_RUN, EVAL_ONLY, PRESET)
"""Taken beside the options of the parser."""


def parser(task: str, command: str = "tcl finetune") -> ArgumentParser:
    """What `--help` of this command lists, less FLAGS, for one of tcl.tasks.task_names()."""
    from tcl.config.command_line import config_parser
    from tcl.tasks import task_named

    return config_parser(task_named(task).Config, f"{command} --task {task}")


def main(arguments: list[str]) -> None:
    """One of train, evaluate_only and dry_run, for the task that the options name."""
    if asks_for_help_alone(arguments):
        print(__doc__)
        return
    from tcl.commands.task_options import parse_finetune

    arguments = with_presets("finetune", arguments)
    options = [argument for argument in arguments if argument not in FLAGS]
    config, build = parse_finetune(options, trains=EVAL_ONLY not in arguments)
    if DRY_RUN in arguments:
        from tcl.training.dry_run import dry_run as command
    elif EVAL_ONLY in arguments:
        from tcl.training.evaluate_only import evaluate_only as command
    else:
        from tcl.training.run import train as command
    command(config, build)


def asks_for_help_alone(arguments: list[str]) -> bool:
    """--help without a task, whose options there would be to list."""
    return len(arguments) == 1 and arguments[0] in ("-h", "--help")
