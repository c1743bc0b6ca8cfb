"""`python -m tcl COMMAND ...`, and with it `accelerate launch -m tcl pretrain ...`."""

from tcl.commands.main import main

if __name__ == "__main__":
    main()
