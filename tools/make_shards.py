"""`tcl shards` for a checkout: `python tools/make_shards.py --help`."""

from tcl.commands.one_line import end_with_one_line
from tcl.commands.shards import main

if __name__ == "__main__":
    end_with_one_line(main)
