"""`tcl onnx` for a checkout: `python tools/export_onnx.py --help`."""

from tcl.commands.one_line import end_with_one_line
from tcl.commands.onnx import main

if __name__ == "__main__":
    end_with_one_line(main)
