"""What the fields of a configuration may say of themselves."""

FREE = {"when_resumed": "free"}
"""Metadata of an option, or of a section, that changes nothing in what a run's weights mean: a run goes on with another
value of it. Every other option that differs needs train.resume to be given (`tcl.training.resume`)."""

AS_BEFORE = {"where_absent": "as before"}
"""Metadata of an option, or of a section, that was added later, and whose default is what was done before: files that
do not have it are no older for that."""
