"""`tcl pretrain` for a checkout: `accelerate launch pretrain.py --config configs/pretrain/tcl_4m.yaml`."""

from tcl.commands.one_line import end_with_one_line
from tcl.commands.pretrain import main

if __name__ == "__main__":
    end_with_one_line(main)
