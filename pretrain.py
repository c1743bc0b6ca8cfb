"""Pre-train TCL: `accelerate launch pretrain.py --config configs/pretrain/tcl_4m.yaml [--train.steps 100 ...]`.

`python pretrain.py ...` runs one process; `--help` lists every option; `--dry_run` prints what the run would be, reads
the first batch of every source, and trains nothing.
"""

import sys

from tcl.command_line import end_with_one_line, parse_pretrain


def main() -> None:
    """Train, or dry_run."""
    config = parse_pretrain([argument for argument in sys.argv[1:] if argument != "--dry_run"])
    # torch and the models: only once the options are right
    if "--dry_run" in sys.argv:
        from tcl.training.dry_run import dry_run as command
    else:
        from tcl.training.run import train as command
    from tcl.training.pretrain import build_pretraining

    command(config, build_pretraining)


if __name__ == "__main__":
    end_with_one_line(main)
