"""One call for every model that can be used here, whoever trained it: `tcl.load_model`."""

from pathlib import Path
from typing import Any

from tcl.errors import InputError
from tcl.foreign.blip import MODEL_TYPE as BLIP
from tcl.foreign.source import model_type
from tcl.inference.blip_matcher import BlipMatcher
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.foreign_towers import ForeignTowers
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.matcher import Matcher
from tcl.objectives.clips import ClipsStudent

Loaded = LoadedModel | ForeignTowers | BlipMatcher


def load_model(source: str | Path, *, revision: str | None = None, **options: Any) -> Loaded:
    """A model of whatever kind: a TCL, a TCLForVQA, ...; of transformers, a CLIP or SigLIP as ForeignTowers, a BLIP for
    image-text matching as BlipMatcher.

    source: a run's output_dir, one of its checkpoints, an export, a folder as transformers saves them, or a hub id.
    options: device, precision and batch_size, as for tcl.TCL.from_pretrained. InputError: nothing to load there, a
    model of none of these kinds, arguments out of range.
    """
    found = model_type(str(source), revision)
    kind = LoadedModel if found is None else BlipMatcher if found == BLIP else ForeignTowers
    return kind.from_pretrained(source, revision=revision, **options)


def load_embedding_model(source: str | Path, **options: Any) -> EmbeddingModel:
    """As `load_model`. InputError: one that has no embeddings that images and texts share."""
    return check_embeds(load_model(source, **options), source)


def check_embeds(model: Loaded, source: str | Path) -> EmbeddingModel:
    """`model`, which was loaded from `source`. InputError: as `load_embedding_model`."""
    if not isinstance(model, EmbeddingModel):
        raise InputError(
            f"source: {source} is a {type(model).__name__}, which has no embeddings that images and texts share; give "
            f"a model of pre-training or retrieval, or a CLIP or SigLIP of transformers"
        )
    return model


def is_of_clips(model: Loaded) -> bool:
    """Is it a TCLForClips? Its module, which needs PyAV, is asked by nobody who has none."""
    return isinstance(model, LoadedModel) and isinstance(model.student, ClipsStudent)


def load_matcher(source: str | Path, **options: Any) -> Matcher:
    """As `load_model`. InputError: one that does not match texts with images."""
    model = load_model(source, **options)
    if not isinstance(model, Matcher):
        raise InputError(
            f"source: {source} is a {type(model).__name__}, which does not match texts with images; give a TCL, or a "
            f"BLIP of transformers (BlipForImageTextRetrieval)"
        )
    return model
