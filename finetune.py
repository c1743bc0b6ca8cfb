"""`tcl finetune` for a checkout: `accelerate launch finetune.py --config configs/finetune/vqa_v2.yaml --init ...`."""

from tcl.commands.finetune import main
from tcl.commands.one_line import end_with_one_line

if __name__ == "__main__":
    end_with_one_line(main)
