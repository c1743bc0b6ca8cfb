"""Fine-tune or evaluate: `accelerate launch finetune.py --config configs/finetune/vqa_v2.yaml --init runs/tcl_4m`.

`python finetune.py ...` runs one process; `--task vqa --help` lists every option of a task; `--eval_only` evaluates the
weights of --init and trains nothing; `--dry_run` prints what the run would be and reads one batch of every source.
"""

import sys

from tcl.command_line import end_with_one_line


def main() -> None:
    """One of train, evaluate_only and dry_run, for the task that the options name."""
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--dry_run", "--eval_only")]
    from tcl.tasks.command_line import parse_finetune

    config, build = parse_finetune(arguments, trains="--eval_only" not in sys.argv)
    if "--dry_run" in sys.argv:
        from tcl.training.dry_run import dry_run as command
    elif "--eval_only" in sys.argv:
        from tcl.training.evaluate import evaluate_only as command
    else:
        from tcl.training.run import train as command
    command(config, build)


if __name__ == "__main__":
    end_with_one_line(main)
