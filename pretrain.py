"""Pre-train TCL: `accelerate launch pretrain.py --config configs/pretrain/tcl_4m.yaml [--train.steps 100 ...]`.

`python pretrain.py ...` runs one process; `--help` lists every option.
"""

import sys

from tcl.config import parse_pretrain
from tcl.errors import InputError

if __name__ == "__main__":
    try:
        config = parse_pretrain(sys.argv[1:])
        from tcl.training.pretrain import pretrain  # torch and the models: only once the options are right

        pretrain(config)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
