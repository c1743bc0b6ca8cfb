"""Models saved and loaded as a whole: exports, runs and checkpoints, the hub, versions, the card."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import TOKENIZER, noise
from huggingface_hub import ModelCard
from safetensors import SafetensorError
from safetensors.torch import load_file
from tiny import MODEL, tiny_models
from transformers import AutoImageProcessor

from tcl.checkpoints import weights_file
from tcl.checkpoints.checkpoint_store import CheckpointStore, Files
from tcl.checkpoints.export_format import FORMAT_VERSION, ExportConfig
from tcl.checkpoints.initial import fill, initial_weights, model_of_run
from tcl.config.command_line import save_config
from tcl.config.data import DataConfig, SourceConfig
from tcl.config.model import TextEncoderConfig
from tcl.data.images.augment import eval_transform
from tcl.errors import InputError
from tcl.exports import pretrained as hub
from tcl.exports.describe import build_student
from tcl.exports.kinds import kind_named
from tcl.exports.model_card import FILL_IN
from tcl.exports.pretrained import Pretrained, load_pretrained, save_pretrained
from tcl.tasks import vqa
from tcl.tasks.pretrain import Config as PretrainConfig

IMAGE = replace(MODEL.image, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))
ANSWERS = ["yes", "a red mat"]
PARTS = {"tcl": {}, "vqa": {"decoder_layers": 3}}


def model(kind: str = "tcl", text: TextEncoderConfig = MODEL.text) -> Pretrained:
    described = replace(MODEL, image=IMAGE, text=text)
    torch.manual_seed(5)
    student = build_student(ExportConfig(kind, described, parts=PARTS[kind]), TOKENIZER)
    answers = ANSWERS if kind == "vqa" else None
    return Pretrained(student, TOKENIZER, kind_named(kind, "here"), described, 20, 10, answers, card="# A card\n")


def same_weights(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


@pytest.fixture
def export(tmp_path) -> Path:
    save_pretrained(model(), tmp_path / "export")
    return tmp_path / "export"


def make_run(folder: Path, config, student, teacher, tokenizer=TOKENIZER, steps=(2, 7)) -> Path:
    """A run's folder as tcl.training.run leaves it, with checkpoints of the same weights."""
    folder.mkdir()
    save_config(config, folder / "config.yaml")
    tokenizer.save_pretrained(folder / "tokenizer")
    rows = [{"step": step, "eval_i2t_r1": 10.0 * step} for step in (2, 7, 9)] + [{"step": 9, "loss": 1.0}]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"half a r')
    store = CheckpointStore(folder / "checkpoints", keep=5, asynchronous=False)
    for step in steps:
        tensors = {"student.safetensors": student.state_dict(), "teacher.safetensors": teacher}
        store.write(step, Files(tensors, {"progress.json": {"step": step}}))
    return folder


def pretrain_run(folder: Path) -> tuple[Path, torch.nn.Module, dict]:
    model = replace(MODEL, image=replace(IMAGE, pretrained=True))  # its weights are not fetched again
    student = build_student(ExportConfig("tcl", MODEL), TOKENIZER)
    teacher = tiny_models()[1].state_dict()
    data = DataConfig(train=[SourceConfig("cc3m/*.tar")], max_tokens=12, max_words=9)
    return make_run(folder, PretrainConfig(model=model, data=data), student, teacher), student, teacher


@pytest.mark.parametrize(
    ("kind", "name"), [("tcl", "bert"), ("tcl", "roberta"), ("tcl", "electra"), ("vqa", "bert"), ("vqa", "roberta")]
)
def test_an_export_gives_back_all_of_it(kind, name, tmp_path):
    saved = model(kind, replace(MODEL.text, name=name))
    save_pretrained(saved, tmp_path / "export")
    loaded = load_pretrained(str(tmp_path / "export"))
    assert same_weights(loaded.student, saved.student) and not loaded.student.training
    assert loaded.tokenizer.get_vocab() == TOKENIZER.get_vocab()
    assert (loaded.kind.name, loaded.max_tokens, loaded.max_words) == (kind, 20, 10)
    assert loaded.answers == saved.answers and loaded.card == "# A card\n" and loaded.lacks == ()
    image = loaded.student.averaged.image_encoder
    assert image.mean == IMAGE.mean and image.std == IMAGE.std
    tokens = torch.tensor([[2, 5, 6, 0]])
    texts = [m.student.averaged.text_encoder(tokens, (tokens > 0).long()) for m in (saved, loaded)]
    assert texts[0].equal(texts[1])


def test_an_export_needs_nothing_but_its_folder(tmp_path):
    """Neither the BERT's folder nor the tokenizer's that the model was described with."""
    saved = model()
    bert = saved.student.encoders.text_encoder.bert.config
    bert.num_hidden_layers = 4
    bert.save_pretrained(tmp_path / "bert")
    bert.num_hidden_layers = 2
    TOKENIZER.save_pretrained(tmp_path / "bert")
    text = TextEncoderConfig(name=str(tmp_path / "bert"), tokenizer=str(tmp_path / "bert"))
    named = model(text=text)
    save_pretrained(named, tmp_path / "export")
    shutil.rmtree(tmp_path / "bert")
    moved = (tmp_path / "export").rename(tmp_path / "moved")
    assert same_weights(load_pretrained(str(moved)).student, named.student)
    assert str(tmp_path) not in (moved / "config.json").read_text()


def test_saving_again_keeps_the_card_and_replaces_what_was_there(export):
    (export / "README.md").write_text("# Written by hand\n")
    (export / "teacher.safetensors").write_bytes(b"of another model")
    save_pretrained(load_pretrained(str(export)), export)
    assert (export / "README.md").read_text() == "# Written by hand\n"
    assert not (export / "teacher.safetensors").exists()
    save_pretrained(load_pretrained(str(export)), export, card="# Another\n")
    assert load_pretrained(str(export)).card == "# Another\n"


def test_teacher_on_request_only(tmp_path):
    run, _, teacher = pretrain_run(tmp_path / "run")
    assert load_pretrained(str(run)).teacher is None
    loaded = load_pretrained(str(run), with_teacher=True)
    assert all(loaded.teacher[name].equal(tensor) for name, tensor in teacher.items())
    save_pretrained(loaded, tmp_path / "export")
    again = load_pretrained(str(tmp_path / "export"), with_teacher=True).teacher
    assert again.keys() == teacher.keys() and all(again[name].equal(tensor) for name, tensor in teacher.items())
    save_pretrained(load_pretrained(str(run)), tmp_path / "without")
    with pytest.raises(InputError, match=r"^with_teacher: .*without has no teacher\.safetensors"):
        load_pretrained(str(tmp_path / "without"), with_teacher=True)


@pytest.mark.parametrize("place", [".", "checkpoints/step_00000002", "checkpoints/latest"])
def test_a_run_and_its_checkpoints_load_through_the_same_call(place, tmp_path):
    run, student, _ = pretrain_run(tmp_path / "run")
    loaded = load_pretrained(str(run / place))
    assert same_weights(loaded.student, student)
    assert (loaded.kind.name, loaded.max_tokens, loaded.max_words) == ("tcl", 12, 9)
    assert loaded.tokenizer.get_vocab() == TOKENIZER.get_vocab()
    assert loaded.student.encoders.image_encoder.mean == IMAGE.mean
    assert all(tensor.equal(student.state_dict()[name]) for name, tensor in initial_weights(str(run / place)).items())
    assert model_of_run(str(run / place))["embed_dim"] == 8
    save_pretrained(loaded, tmp_path / "export")
    assert same_weights(load_pretrained(str(tmp_path / "export")).student, student)


def test_a_vqa_run_brings_its_answers_and_its_decoder(tmp_path):
    saved = model("vqa")
    (tmp_path / "answers.txt").write_text("yes\n\n a red  mat \n")
    config = vqa.Config(model=saved.model, answers=vqa.Answers(list=str(tmp_path / "answers.txt"), decoder_layers=3))
    run = make_run(tmp_path / "run", config, saved.student, {"x": torch.zeros(1)})
    with pytest.warns(UserWarning, match=r"config\.yaml: answers\.list lies outside of the run and is not read"):
        assert load_pretrained(str(run)).answers is None
    (tmp_path / "answers.txt").rename(run / "answers.txt")
    loaded = load_pretrained(str(run))
    assert (loaded.kind.name, loaded.max_words, loaded.answers) == ("vqa", 50, ANSWERS)
    assert same_weights(loaded.student, saved.student)


def test_the_card_says_what_the_run_says_and_what_is_to_be_filled_in(tmp_path):
    run, _, _ = pretrain_run(tmp_path / "run")
    card = load_pretrained(str(run)).card
    for row in ("| data | `cc3m/*.tar` |", "| optimiser steps | 7 |", "| i2t_r1 | 70 |", "| train.batch_size | 64 |"):
        assert row in card
    assert f"| of the weights | {FILL_IN} |" in card and f"| of the training data | {FILL_IN} |" in card
    header = ModelCard(card).data
    assert header.license == "unknown" and header.library_name == "tcl"
    assert "| i2t_r1 | 20 |" in load_pretrained(str(run / "checkpoints" / "step_00000002")).card


@pytest.mark.parametrize("kind", ["tcl", "vqa"])
def test_fine_tuning_starts_from_an_export(kind, tmp_path):
    saved = model(kind)
    save_pretrained(saved, tmp_path / "export")
    path = str(tmp_path / "export")
    described = model_of_run(path)
    assert described["image"]["mean"] == IMAGE.mean and described["text"]["tokenizer"] == path
    other = build_student(ExportConfig(kind, MODEL, parts=PARTS[kind]), TOKENIZER)
    assert fill(other, initial_weights(path), path) == []
    assert same_weights(other, saved.student)


def test_other_software_prepares_images_alike(export):
    """transformers reads preprocessor_config.json; its resizing differs by rounding only."""
    processor = AutoImageProcessor.from_pretrained(export, use_fast=False)
    image = noise(size=(50, 40))
    theirs = torch.as_tensor(np.array(processor(image)["pixel_values"][0]))
    ours = eval_transform(32, IMAGE.mean, IMAGE.std)(np.array(image))
    assert theirs.shape == ours.shape and float((theirs - ours).abs().mean()) < 0.05


def edit(path: Path, change) -> None:
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    (path.parent / "manifest.json").unlink()


def test_an_older_config_loads_and_says_what_it_lacks(export):
    edit(export / "config.json", lambda said: (said["model"].pop("lmi_regions"), said.pop("max_words")))
    with pytest.warns(UserWarning, match=r"older .*: model\.lmi_regions is taken as 4, max_words is taken as 30"):
        loaded = load_pretrained(str(export))
    assert loaded.max_words == 30 and loaded.model.lmi_regions == 4


def test_a_config_of_this_version_loads_without_a_word(export):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_pretrained(str(export))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(format_version=FORMAT_VERSION + 1), r"format_version 2 is newer .* upgrade tcl"),
        (lambda said: said.pop("format"), r"no `format: tcl`"),
        (lambda said: said["model"].update(depth=3), r"model\.depth is not known to this version"),
        (lambda said: said["model"].update(embed_dim="8"), r"model\.embed_dim is '8'; accepted: a whole number"),
        (lambda said: said["model"].update(embed_dim=0), r"model\.embed_dim: 0 is not possible"),
        (lambda said: said["model"].update(text=3), r"model\.text is 3; accepted: a section"),
        (
            lambda said: said.update(kind="captioner"),
            r"kind 'captioner' is none .* accepted: classification, clip, clips, compressed_retrieval, entailment, "
            r"nlvr, tcl, text_assignment, video_text, vqa",
        ),
        (lambda said: said.pop("kind"), r"kind is not there"),
        (lambda said: said.update(max_tokens=1), r"max_tokens: 1 is not possible"),
        (lambda said: said["model"].update(embed_dim=9), r"of another architecture: .* is \(8, .*, here \(9, "),
        (lambda said: said["model"]["image"].update(image_size=40), r"40 is not a multiple"),
        (lambda said: said["model"]["image"].update(image_size=48), r"size is .* but config\.json's"),
        (lambda said: said["model"]["image"].update(mean=None), r"model\.image\.mean and std are not there"),
    ],
)
def test_configs_that_are_refused(change, message, export):
    edit(export / "config.json", change)
    with pytest.raises(InputError, match=message) as refused:
        load_pretrained(str(export))
    assert "\n" not in str(refused.value)


def test_places_without_a_model(tmp_path, export):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"^source: '.*empty' holds no weights; accepted: an export, a run"):
        load_pretrained(str(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"^source: '.*nowhere' is not there; accepted: an export, a run"):
        load_pretrained(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"^revision: 'v1', but .* is a folder"):
        load_pretrained(str(export), revision="v1")
    run, _, _ = pretrain_run(tmp_path / "run")
    alone = shutil.copytree(run / "checkpoints" / "step_00000007", tmp_path / "alone")
    with pytest.raises(InputError, match=r"^source: .*alone lies in no run with a config\.yaml"):
        load_pretrained(str(alone))
    with pytest.raises(InputError, match=r"^folder: .*run belongs to a run"):
        save_pretrained(model(), run)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^source: .*file is a file; .*tcl convert"):
        load_pretrained(str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"^folder: .*file cannot be written"):
        save_pretrained(model(), tmp_path / "file")


def test_a_run_of_another_version_says_which_field(tmp_path):
    run, _, _ = pretrain_run(tmp_path / "run")
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("embed_dim: 8", "embedding: 8"))
    with pytest.raises(InputError, match=r"config\.yaml: model\.embedding is not known to this version"):
        load_pretrained(str(run))


def test_a_damaged_run_falls_back_to_the_checkpoint_before(tmp_path):
    run, _, _ = pretrain_run(tmp_path / "run")
    newest = run / "checkpoints" / "step_00000007"
    (newest / "student.safetensors").write_bytes(b"cut")
    with pytest.warns(UserWarning, match=r"^source: .*step_00000007: student\.saf.*; step_00000002 is taken instead$"):
        assert "| optimiser steps | 2 |" in load_pretrained(str(run)).card
    with pytest.warns(UserWarning, match=r"^init: .*step_00000007: .*; step_00000002 is taken instead$"):
        initial_weights(str(run))
    with pytest.raises(InputError, match=r"^init: .*student\.safetensors is damaged: "):
        initial_weights(str(newest / "student.safetensors"))
    with pytest.raises(InputError, match=r"step_00000007 is damaged: student\.safetensors"):
        load_pretrained(str(newest))


@pytest.mark.parametrize("revision", [None, "v1.0"])
@pytest.mark.parametrize("with_teacher", [False, True])
def test_the_hub_is_asked_for_the_revision_and_for_no_other_files(revision, with_teacher, export, monkeypatch):
    asked = []

    def download(repo_id, **options):
        asked.append((repo_id, options["revision"], options["allow_patterns"]))
        return str(export)

    monkeypatch.setattr(hub, "snapshot_download", download)
    saved = load_pretrained(str(export))
    saved.teacher = {"queue": torch.zeros(2)}
    save_pretrained(saved, export)
    loaded = load_pretrained("someone/model", revision=revision, with_teacher=with_teacher)
    assert same_weights(loaded.student, model().student) and (loaded.teacher is not None) == with_teacher
    ((repository, at, patterns),) = asked
    assert (repository, at) == ("someone/model", revision)
    assert ("teacher.safetensors" in patterns) == with_teacher
    assert not any(pattern.endswith((".py", ".bin", ".pth", "*")) and pattern != "vocab.*" for pattern in patterns)


def test_a_hub_that_has_no_such_model_is_one_line(monkeypatch):
    def download(repo_id, **options):
        raise OSError("404 Client Error.\n\nRepository Not Found")

    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(InputError, match=r"^source: 'a/b' is no folder here, .* at revision v2 \(404 ") as refused:
        load_pretrained("a/b", revision="v2")
    assert "\n" not in str(refused.value)


def test_a_full_disk_leaves_the_former_export(export, monkeypatch):
    def full(*arguments, **options):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights_file, "save_file", full)
    with pytest.raises(InputError, match=r"^folder: .*export cannot be written \(No space left on device\)"):
        save_pretrained(model(), export)
    assert same_weights(load_pretrained(str(export)).student, model().student)


@pytest.mark.parametrize(
    ("inside", "named"), [("checkpoints", "step_00000007"), ("tokenizer", "../checkpoints/step_00000007")]
)
def test_the_run_of_a_checkpoint_is_found_from_within_it(tmp_path, monkeypatch, inside, named):
    run, _, _ = pretrain_run(tmp_path / "run")
    monkeypatch.chdir(run / inside)
    assert load_pretrained(named).max_tokens == 12


def test_weights_can_be_read_by_others(export):
    """Of the team: not only by who saved them."""
    (export / "plain").touch()
    assert (export / "model.safetensors").stat().st_mode == (export / "plain").stat().st_mode
    assert all(tensor.dtype == torch.float32 for tensor in load_file(export / "model.safetensors").values())
