"""Exported models, one file of which is damaged, removed or swapped for something else."""

import shutil
import warnings
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.initial import initial_weights
from tcl.exports.describe import build_student
from tcl.exports.kinds import kind_named
from tcl.exports.pretrained import Pretrained, load_pretrained, save_pretrained
from tests.data_files import TOKENIZER
from tests.fuzz.case import Wrong
from tests.fuzz.folders import spoil_a_file
from tests.tiny import MODEL


def prepare(folder: Path) -> list[Path]:
    """A model of each kind."""
    found = []
    for kind, parts in (("tcl", {}), ("vqa", {"decoder_layers": 2})):
        torch.manual_seed(0)
        student = build_student(ExportConfig(kind, MODEL, parts=parts), TOKENIZER)
        answers = ["yes", "a red mat"] if kind == "vqa" else None
        known = Pretrained(student, TOKENIZER, kind_named(kind, "here"), MODEL, 20, 10, answers, card="# A card\n")
        save_pretrained(known, folder / kind)
        found.append(folder / kind)
    return found


def mutate(good: list[Path], rng: Random, folder: Path) -> None:
    chosen = rng.choice(good)
    shutil.copytree(chosen, folder / chosen.name)
    spoil_a_file(folder / chosen.name, rng)


def read(good: list[Path], folder: Path) -> None:
    warnings.simplefilter("ignore")
    (export,) = folder.iterdir()
    (original,) = (path for path in good if path.name == export.name)
    require_same(initial_weights(str(export)), initial_weights(str(original)))
    found, expected = load_pretrained(str(export)), load_pretrained(str(original))
    require_same(found.student.state_dict(), expected.student.state_dict())
    if _described(found) != _described(expected):
        raise Wrong(f"{_described(found)} is not what was saved: {_described(expected)}")


def _described(pretrained: Pretrained) -> dict[str, object]:
    """What decides on answers beside the weights."""
    image = pretrained.student.averaged.image_encoder
    return {
        "words": pretrained.tokenizer("a photo of a red dog on a mat number thing")["input_ids"],
        "vocabulary": pretrained.tokenizer.get_vocab(),
        "lengths": (pretrained.max_tokens, pretrained.max_words),
        "answers": pretrained.answers,
        "normalisation": (tuple(image.mean), tuple(image.std), pretrained.model.image.image_size),
    }


def require_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Wrong: a damaged file was loaded, and what came of it is not what was saved."""
    if found.keys() != expected.keys():
        raise Wrong(f"other tensors: {sorted(found.keys() ^ expected.keys())[:3]}")
    for name, tensor in found.items():
        if not tensor.equal(expected[name]):
            raise Wrong(f"{name} is not what was saved")
