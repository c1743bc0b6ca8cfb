"""Pre-train TCL: `accelerate launch pretrain.py --config configs/pretrain/tcl_4m.yaml [--train.steps 100 ...]`.

`python pretrain.py ...` runs one process; `--help` lists every option; `--dry_run` prints what the run would be, reads
the first batch of every source, and trains nothing.
"""

import sys

from tcl.command_line import parse_pretrain
from tcl.errors import InputError

if __name__ == "__main__":
    try:
        config = parse_pretrain([argument for argument in sys.argv[1:] if argument != "--dry_run"])
        # torch and the models: only once the options are right
        from tcl.training.dry_run import dry_run
        from tcl.training.preemption import EXIT_CODE, Preempted
        from tcl.training.pretrain import build_pretraining
        from tcl.training.run import train

        try:
            (dry_run if "--dry_run" in sys.argv else train)(config, build_pretraining)
        except Preempted as told:
            print(told, file=sys.stderr)
            sys.exit(EXIT_CODE)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
