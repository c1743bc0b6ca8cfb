"""Progress bars for the person watching."""

QUIET_SECONDS = 2
"""Those of what takes less are never shown."""
