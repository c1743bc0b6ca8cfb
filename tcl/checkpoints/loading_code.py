"""The one file of code that an export has where its owner asks for it.

Nothing of ours reads it. It is for programs into which nobody can write `import tcl.sentence_transformers`, but which
pass `trust_remote_code=True` on: sentence-transformers and transformers then run it, and it makes that import.
"""

from pathlib import Path

CODE = "tcl_classes.py"
AUTO_MAP = {
    "AutoConfig": "tcl_classes.TCLConfig",
    "AutoModel": "tcl_classes.TCLEmbeddings",
    "AutoModelForSequenceClassification": "tcl_classes.TCLMatching",
    "AutoProcessor": "tcl_classes.TCLProcessor",
}
"""What config.json says as `auto_map`: which class of the file each class of transformers asks for."""

# An import inside `try`: of others transformers says to install a package of the module's name, and ours has another.
_TEXT = '''\
"""Run by transformers where it is given trust_remote_code=True: the classes are those of the installed package."""

try:
    from tcl.sentence_transformers import TCLConfig, TCLEmbeddings, TCLMatching, TCLProcessor
except ImportError as error:
    raise ImportError(f"this model needs the package tcl-vlp: pip install 'tcl-vlp[sentence-transformers]' ({error})")

__all__ = ["TCLConfig", "TCLEmbeddings", "TCLMatching", "TCLProcessor"]
'''


def write_code(folder: Path) -> None:
    """CODE into `folder`."""
    (folder / CODE).write_text(_TEXT, encoding="utf-8")
