"""The life of a run beside its training: its folder, its length, its history, and what ends it."""
