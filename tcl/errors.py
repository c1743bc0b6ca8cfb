"""The one exception for mistakes that the person at the keyboard can mend."""


class InputError(Exception):
    """Bad input: a config value, a file, a shard. One line that names the field or file, its value
    and what would be right.

    Commands print the message without a traceback and exit with code 2.
    """
