"""TCL: vision-language pre-training. The models to load and use are `tcl.TCL`, `tcl.TwoTowers`, `tcl.TCLForVQA`,
`tcl.TCLForClassification`, `tcl.TCLForClips`, `tcl.TCLForCompressedRetrieval`, `tcl.TCLForEntailment`,
`tcl.TCLForNLVR` and `tcl.TCLForVideo`, or whatever `tcl.load_model` finds (docs/python.md); `tcl.Index` is searched
(docs/search.md)."""

import importlib

_MODULES = {
    "Index": "tcl.index.index",
    "TCL": "tcl.inference.tcl_model",
    "TwoTowers": "tcl.inference.two_towers",
    "TCLForClassification": "tcl.inference.classifier",
    "TCLForClips": "tcl.inference.clips_model",
    "TCLForCompressedRetrieval": "tcl.inference.compressed_model",
    "TCLForEntailment": "tcl.inference.entailment_model",
    "TCLForNLVR": "tcl.inference.nlvr_model",
    "TCLForVQA": "tcl.inference.question_model",
    "TCLForVideo": "tcl.inference.video_text_model",
    "load_model": "tcl.inference.load_model",
    "ForeignTowers": "tcl.inference.foreign_towers",
    "BlipMatcher": "tcl.inference.blip_matcher",
}

__version__ = "0.1.0"
"""Of the package, too: pyproject.toml reads it here."""

__all__ = [
    "TCL",
    "BlipMatcher",
    "ForeignTowers",
    "Index",
    "TCLForClassification",
    "TCLForClips",
    "TCLForCompressedRetrieval",
    "TCLForEntailment",
    "TCLForNLVR",
    "TCLForVQA",
    "TCLForVideo",
    "TwoTowers",
    "load_model",
]


def __getattr__(name: str) -> object:
    """On first use, so that `import tcl` alone needs neither torch nor transformers."""
    if name not in _MODULES:
        raise AttributeError(f"module 'tcl' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
