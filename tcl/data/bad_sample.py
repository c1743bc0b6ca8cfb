"""What a reader raises for a sample that it cannot use."""


class BadSample(Exception):
    """A sample that cannot be used; str() is the cause, one of a few phrases to count by."""
