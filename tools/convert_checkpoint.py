"""`tcl convert` for a checkout: `python tools/convert_checkpoint.py --help`."""

from tcl.commands.convert import main
from tcl.commands.one_line import end_with_one_line

if __name__ == "__main__":
    end_with_one_line(main)
