"""Every option, a file for each section: its fields, typed and documented, and its checks beside them.

Read from YAML and overridden on the command line, e.g. `--config run.yaml --train.steps 100` (tcl.config.command_line);
impossible values are refused in one line. The docstring under a field says what it is, its unit and range, and
why the default is what it is.
"""
