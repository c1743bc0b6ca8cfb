"""Video and sound, read by PyAV: whatever is imported from here says in one line where that is missing."""

from tcl.optional_package import import_optional

import_optional("av", "media")
