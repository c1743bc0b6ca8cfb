"""What docs/architecture.md says of additions: files that the package has never heard of work throughout.

tests/additions/ holds a task and an objective with a loss that learns a number.
"""

import json
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from additions.heard import Sounds
from additions.heard import Student as heard_student
from additions.heard import Teacher as heard_teacher
from data_files import JPEG, write_tar
from safetensors.torch import load_file, save_file
from small_run import rows, small_run

from tcl import load_model, objectives, tasks
from tcl.commands.main import run
from tcl.commands.task_options import parse_finetune, parse_pretrain
from tcl.config.optim import OptimConfig
from tcl.data.batch import Batch, to_device
from tcl.data.images.image_views import Images
from tcl.declared import declared, names_declared
from tcl.errors import InputError
from tcl.exports.pretrained import load_pretrained, save_pretrained
from tcl.inference.loaded_model import LoadedModel
from tcl.tasks.pretrain import build
from tcl.training.engine import PlainEngine
from tcl.training.evaluate_only import evaluate_only
from tcl.training.run import train
from tcl.training.step import train_step

ADDITIONS = str(Path(__file__).parent / "additions")


@pytest.fixture
def added(monkeypatch):
    """The files of tests/additions beside those of the package."""
    for package in (tasks, objectives):
        monkeypatch.setattr(package, "__path__", [*package.__path__, ADDITIONS])


@pytest.fixture
def pretrained(tmp_path) -> Path:
    train(parse_pretrain([*small_run(tmp_path), f"--output_dir={tmp_path / 'run'}", "--train.steps=2"]), build)
    return tmp_path / "run"


def polarity(tmp_path: Path, init: Path, *more: str) -> list[str]:
    entries = [
        entry
        for i in range(12)
        for entry in (
            (f"{i}.jpg", JPEG),
            (f"{i}.json", json.dumps({"caption": f"a dog {i}", "label": ("well", "ill")[i % 2]}).encode()),
        )
    ]
    write_tar(tmp_path / "polarity.tar", entries)
    path = tmp_path / "polarity.yaml"
    data = {"train": [{"shards": str(tmp_path / "polarity.tar")}], "workers": 0}
    train = {"batch_size": 4, "steps": 3, "log_every": 1, "precision": "fp32"}
    path.write_text(yaml.safe_dump({"task": "polarity", "data": data, "train": train}))
    return [f"--config={path}", f"--init={init}", f"--output_dir={tmp_path / 'tuned'}", *more]


def test_a_task_is_trained_resumed_exported_loaded_and_described(added, pretrained, tmp_path, capsys):
    arguments = polarity(tmp_path, pretrained)
    config, build_task = parse_finetune(arguments)
    train(config, build_task)
    steps = [row for row in rows(tmp_path / "tuned") if "loss" in row]
    assert {"polarity", "accuracy", "rarity"} <= steps[-1].keys() and len(steps) == 3
    config, build_task = parse_finetune([*arguments, "--train.steps=4", "--train.resume=auto"])
    assert train(config, build_task).name == "step_00000004"
    assert (tmp_path / "tuned" / "results" / "polarity.txt").is_file()

    run(["export", str(tmp_path / "tuned"), str(tmp_path / "export")])
    said = json.loads((tmp_path / "export" / "config.json").read_text())
    assert (said["kind"], said["classes"]) == ("polarity", ["well", "ill"])
    card = (tmp_path / "export" / "README.md").read_text()
    assert "A classifier of captions." in card and "pipeline_tag: image-text-to-text" in card
    weights = load_file(tmp_path / "tuned" / "checkpoints" / "step_00000004" / "student.safetensors")
    for source in ("tuned", "export"):
        model = load_model(tmp_path / source, device="cpu")
        assert type(model) is LoadedModel and model.student.classes == ["well", "ill"]
        assert all(tensor.equal(weights[name]) for name, tensor in model.student.state_dict().items())

    config, build_task = parse_finetune([*arguments, f"--init={tmp_path / 'export'}"], trains=False)
    config.data.val = config.data.train[0].shards
    evaluate_only(config, build_task)
    assert "the head weighs" in capsys.readouterr().out


def test_a_dry_run_of_a_task_tells_its_batch_and_its_memory(added, pretrained, tmp_path, capsys):
    run(["finetune", *polarity(tmp_path, pretrained), "--dry_run"])
    out = capsys.readouterr().out
    assert "image (4, 3, 32, 32)" in out and "label 0." in out and "activations" in out and "0.0M teacher" in out


def test_without_the_file_its_exports_are_refused_in_one_line(pretrained, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        for package in (tasks, objectives):
            patch.setattr(package, "__path__", [*package.__path__, ADDITIONS])
        config, build_task = parse_finetune(polarity(tmp_path, pretrained))
        train(config, build_task)
    for refused in (lambda: load_pretrained(str(tmp_path / "tuned")), lambda: load_model(tmp_path / "tuned")):
        with pytest.raises(
            InputError,
            match=r"^source: kind 'polarity' is none .*: classification, clip, clips, compressed_retrieval, "
            r"entailment, nlvr, tcl, text_assignment, video_text, vqa$",
        ):
            refused()
    with pytest.raises(
        InputError, match=r"^task: 'polarity' is not possible; accepted: classification, .*retrieval, vqa"
    ):
        parse_finetune(polarity(tmp_path, pretrained))


def test_a_forged_part_of_a_kind_is_refused(added, pretrained, tmp_path):
    config, build_task = parse_finetune(polarity(tmp_path, pretrained))
    train(config, build_task)
    path = tmp_path / "tuned" / "model.json"
    said = json.loads(path.read_text())
    for value, message in ((["well"], "two names at least"), ("well", "classes"), ([1, 2], "classes")):
        path.write_text(json.dumps(said | {"classes": value}))
        with pytest.raises(InputError, match=message):
            load_pretrained(str(tmp_path / "tuned"))
    path.write_text(json.dumps(said | {"__class__": "os.system"}))
    with pytest.raises(InputError, match="__class__"):
        load_pretrained(str(tmp_path / "tuned"))


def test_a_loss_with_a_parameter_is_trained_exported_and_dropped_where_it_is_not_wanted(added, tmp_path):
    options = [*small_run(tmp_path), "--objective=gap", "--objective.gap_weight=0.25", "--train.steps=3"]
    config = parse_pretrain([*options, f"--output_dir={tmp_path / 'gap'}"])
    checkpoint = train(config, build)
    steps = [row for row in rows(tmp_path / "gap") if "loss" in row]
    assert all({"gap", "margin", "temperature"} <= row.keys() for row in steps)
    mean = sum(steps[0][name] for name in ("i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text")) / 6
    assert steps[0]["loss"] == pytest.approx(
        mean + steps[0]["itm"] + steps[0]["mlm"] + 0.25 * steps[0]["gap"], rel=1e-4
    )
    save_pretrained(load_pretrained(str(tmp_path / "gap")), tmp_path / "export")
    assert load_file(tmp_path / "export" / "model.safetensors")["margin"].shape == (1,)

    # Another objective starts from these weights without it, and this one from weights that have none.
    tune = [
        "--task=retrieval",
        "--train.precision=fp32",
        f"--data.train=[{{'shards': '{tmp_path / 'train' / '*.tar'}'}}]",
        "--data.workers=0",
        "--train.steps=1",
        "--train.batch_size=4",
        "--objective.queue_size=12",
        f"--output_dir={tmp_path / 'tuned'}",
    ]
    config, build_task = parse_finetune([*tune, f"--init={checkpoint}"])
    assert "margin" not in load_file(train(config, build_task) / "student.safetensors")
    config, build_task = parse_finetune(
        [*tune, "--objective=gap", f"--init={tmp_path / 'tuned'}", f"--output_dir={tmp_path / 'back'}"]
    )
    assert load_file(train(config, build_task) / "student.safetensors")["margin"].shape == (1,)


def test_only_what_losses_learn_may_be_missing(added, tmp_path):
    config = parse_pretrain([*small_run(tmp_path), f"--output_dir={tmp_path / 'run'}", "--train.steps=1"])
    train(config, build)
    save_pretrained(load_pretrained(str(tmp_path / "run")), tmp_path / "export")
    (tmp_path / "export" / "manifest.json").unlink()
    path = tmp_path / "export" / "model.safetensors"
    weights = load_file(path)
    save_file({name: tensor for name, tensor in weights.items() if name != "temperature"}, path)
    assert load_pretrained(str(tmp_path / "export")).student.temperature.item() == pytest.approx(0.07)
    save_file({name: tensor for name, tensor in weights.items() if name != "encoders.text_proj.bias"}, path)
    with pytest.raises(InputError, match=r"encoders\.text_proj\.bias is not there"):
        load_pretrained(str(tmp_path / "export"))
    save_file(weights | {"encoders.extra": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"encoders\.extra has no place here"):
        load_pretrained(str(tmp_path / "export"))


def heard(present: list[bool]) -> Batch:
    """A batch of images of 2 x 2 pixels and sounds."""
    generator = torch.Generator().manual_seed(0)
    images = Images(torch.randn(len(present), 3, 2, 2, generator=generator))
    sounds = Sounds(torch.randn(len(present), 5, generator=generator))
    inputs = {"image": images, "sound": sounds}
    return Batch([str(i) for i in range(len(present))], inputs, present={"sound": torch.tensor(present)})


def test_the_trainer_takes_a_modality_that_it_does_not_know_and_batches_that_lack_it():
    """Queues get what is there; what stands for absent sounds changes nothing, to the bit."""
    results = []
    for noise in (0.0, 7.0):
        torch.manual_seed(0)
        student = heard_student()
        teacher = heard_teacher(student.networks, queue_size=8)
        before = {name: queue.features.clone() for name, queue in teacher.queues.items()}
        engine = PlainEngine(Accelerator(cpu=True), student, OptimConfig())
        batch = heard([True, False, True, True])
        batch.inputs["sound"].wave[1] += noise
        first = teacher(batch, {}, 0.0).features
        result = train_step(engine, teacher, [batch], step=0, seed=0, learning_rate=1e-2, alpha=0.0)
        assert result.finite and set(result.losses.each) == {"image_to_sound", "sound_to_image"}
        assert teacher.queues["image"].features[:4].equal(first["image"])
        assert teacher.queues["sound"].features[:3].equal(first["sound"][[0, 2, 3]])
        assert teacher.queues["sound"].features[3:].equal(before["sound"][3:]) and teacher.queues["sound"].pointer == 3
        results.append([*student.parameters(), result.losses.total])
    assert all(a.equal(b) for a, b in zip(*results, strict=True))
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_batch_of_another_modality_moves_and_is_described_as_any():
    batch = heard([True, True])
    assert batch.describe() == "image (2, 3, 2, 2), sound of 5 numbers"
    moved = to_device(batch, "meta")
    assert moved.inputs["sound"].wave.device.type == moved.present["sound"].device.type == "meta"


def test_objectives_and_kinds_are_called_as_their_files(added):
    """That is how they are found."""
    for folder, attribute in ((objectives, "OBJECTIVE"), (objectives, "KIND"), (tasks, "KIND")):
        names = names_declared(folder, attribute)
        assert names
        for name in names:
            found = declared(folder, attribute, name)
            assert name == (found.Config().name if attribute == "OBJECTIVE" else found.name)
    for name in ("os", "../tcl", "kind", "__init__", None, {"a": 1}):
        assert declared(objectives, "KIND", name) is None
