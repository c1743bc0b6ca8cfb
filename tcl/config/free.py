"""Which options of a run may change while it goes on."""

FREE = {"when_resumed": "free"}
"""Metadata of an option, or of a section, that changes nothing in what a run's weights mean: a run goes on with another
value of it. Every other option that differs needs train.resume to be given (`tcl.training.resume`)."""
