"""An export: each of its files."""

import random
import shutil
from contextlib import suppress
from pathlib import Path

import torch
from data_files import noise
from test_hub import model

from tcl.checkpoints.hub import load_pretrained, save_pretrained
from tcl.checkpoints.initial import initial_weights
from tcl.errors import InputError
from tcl.inference.model import TCL
from tcl.inference.vqa import TCLForVQA
from tests.fuzz.tree import change_a_file

good: dict[str, object] = {}
"""By kind of model: its weights, and what it says to TEXT."""
TEXT = "a photo of a red dog on the mat"


def prepare(folder: Path) -> None:
    """An export of each kind."""
    for kind in ("tcl", "vqa"):
        save_pretrained(model(kind), folder / kind)
        loaded = load_pretrained(str(folder / kind))
        good[kind] = loaded.student.state_dict(), loaded.tokenizer(TEXT)["input_ids"], loaded.answers


def make(prepared: Path, folder: Path, rng: random.Random) -> str:
    """A copy of one of them with one file changed, gone, or another kind of file."""
    kind = rng.choice(["tcl", "vqa"])
    shutil.copytree(prepared / kind, folder / kind)
    return f"{kind}: {change_a_file(folder / kind, rng)}"


def check(folder: Path) -> None:
    """Loaded, fine-tuned from, and used."""
    (place,) = folder.iterdir()
    weights, ids, answers = good[place.name]
    with suppress(InputError):
        initial_weights(str(place))
    loaded = load_pretrained(str(place))
    now = loaded.student.state_dict()
    changed = [name for name, tensor in weights.items() if name not in now or not torch.equal(now[name], tensor)]
    assert not changed, f"changed weights are accepted: {changed[:3]}"
    assert loaded.tokenizer(TEXT)["input_ids"] == ids, "a changed tokenizer is accepted"
    assert loaded.answers == answers, "changed answers are accepted"
    if loaded.kind == "tcl":
        TCL(loaded, device="cpu", precision="fp32").match([noise()], [TEXT])
    else:
        TCLForVQA(loaded, device="cpu", precision="fp32").answer([noise()], [TEXT])
