"""Runs, checkpoints and exports of version 0.1.0 before its redesign load, resume, evaluate and give the same numbers.

tests/former/files.tar.xz was made by that version with the options of small_run.py: a pre-training run of 3 steps, from
it a retrieval and a VQA run, exports of two of them, the shards, and expected.json: what its Python interface gave, and
the losses of the pre-training run when it went on to step 5.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from small_run import rows

from tcl import TCL, TCLForVQA, load_model
from tcl.commands.task_options import parse_finetune, parse_pretrain
from tcl.exports.pretrained import load_pretrained, save_pretrained
from tcl.inference.loaded_model import LoadedModel
from tcl.tasks.pretrain import build
from tcl.training.evaluate_only import evaluate_only
from tcl.training.run import train

PIXELS = [np.random.default_rng(i).integers(0, 256, (40, 30, 3), dtype=np.uint8) for i in range(3)]
TEXTS = ["a photo of a dog", "red number on mat", "blue cat"]


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """Where they lie, which is the current folder: they name each other by relative paths."""
    with tarfile.open(Path(__file__).parent / "former" / "files.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(files: Path) -> dict:
    return json.loads((files / "expected.json").read_text())


@pytest.mark.filterwarnings("error:.*older than this version")
@pytest.mark.parametrize("source", ["pretrained", "pretrained/checkpoints/latest", "export_pretrained"])
def test_a_model_gives_the_numbers_that_it_gave(files, source):
    model, was = load_model(source, device="cpu", precision="fp32"), expected(files)
    assert type(model) is TCL
    np.testing.assert_allclose(model.encode_image(PIXELS), was["images"], atol=1e-5)
    np.testing.assert_allclose(model.encode_text(TEXTS), was["texts"], atol=1e-5)
    np.testing.assert_allclose(model.match(PIXELS, TEXTS), was["match"], atol=1e-5)


@pytest.mark.parametrize("source", ["vqa", "export_vqa"])
def test_a_model_answers_as_it_did(files, source):
    model, was = load_model(source, device="cpu", precision="fp32"), expected(files)
    assert type(model) is TCLForVQA and model.pretrained.answers == ["red", "green", "blue dog"]
    assert model.answer(PIXELS, ["what colour", "which dog", "is it red"]) == was["answers"]
    assert model.answer(PIXELS[0], "what colour", ["red", "green", "mat"]) == was["written"]


def test_a_run_goes_on_as_it_would_have(files):
    config = parse_pretrain(["--config=pretrained/config.yaml", "--train.steps=5", "--train.resume=auto"])
    assert train(config, build).name == "step_00000005"
    losses = [row["loss"] for row in rows(files / "pretrained") if "loss" in row]
    assert losses == pytest.approx(expected(files)["losses"], rel=1e-5)


@pytest.mark.parametrize("run", ["retrieval", "vqa"])
def test_a_fine_tuned_run_goes_on_and_is_evaluated(files, run):
    config, build_task = parse_finetune([f"--config={run}/config.yaml", "--train.steps=4", "--train.resume=auto"])
    checkpoint = train(config, build_task)
    assert checkpoint.name == "step_00000004"
    if run == "vqa":
        config, build_task = parse_finetune([f"--config={run}/config.yaml", f"--init={run}"], trains=False)
        evaluate_only(config, build_task)
        assert (files / run / "results" / "metrics.json").is_file()


@pytest.mark.parametrize("source", ["pretrained", "vqa", "retrieval", "export_pretrained", "export_vqa"])
def test_what_is_exported_again_is_the_same(files, source):
    loaded = load_pretrained(source)
    save_pretrained(loaded, files / "again")
    again = load_pretrained(str(files / "again"))
    own = loaded.student.state_dict()
    assert own.keys() == again.student.state_dict().keys()
    assert all(tensor.equal(own[name]) for name, tensor in again.student.state_dict().items())
    assert (again.kind, again.model.image, again.answers) == (loaded.kind, loaded.model.image, loaded.answers)
    assert isinstance(load_model(files / "again", device="cpu"), LoadedModel)


def test_the_teacher_of_an_export_is_read(files):
    names = load_pretrained("export_pretrained", with_teacher=True).teacher
    assert {"image_queue.features", "text_queue.pointer", "encoders.vision_proj.weight"} <= names.keys()
