"""`tcl finetune --task compress`: a run on a finished model, and everything that such a model then goes through."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from data_files import JPEG, noise, write_tar
from safetensors.torch import load_file, save_file
from small_run import rows, small_run
from small_run import train as pretrain

from tcl import TCL, TCLForVQA, load_model
from tcl.commands.main import run as tcl
from tcl.commands.task_options import parse_finetune
from tcl.errors import InputError
from tcl.exports.convert_published import export_published
from tcl.training.run import train

COMPRESSION = "encoders.fusion_encoder.compression."
PLAIN = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with shards and a pre-training run of two steps, `run`."""
    folder = tmp_path_factory.mktemp("compress")
    pretrain(small_run(folder), folder / "run", "--train.steps=2")
    AcceleratorState._reset_state(reset_partial_state=True)
    return folder


def options(finished: Path, output_dir: Path, *more: str, task: str = "compress") -> list[str]:
    return [
        f"--task={task}",
        f"--init={finished / 'run'}",
        f"--output_dir={output_dir}",
        f"--data.train=[{{'shards': '{finished}/train/*.tar'}}]",
        "--data.workers=0",
        "--train.batch_size=4",
        "--train.steps=3",
        "--train.log_every=1",
        "--train.precision=fp32",
        "--optim.warmup_steps=0",
        *more,
    ]


FEW = "--model.fusion.image_tokens=2"


@pytest.fixture(scope="module")
def compressed(finished) -> Path:
    out = finished / "compressed"
    train(*parse_finetune(options(finished, out, FEW)))
    AcceleratorState._reset_state(reset_partial_state=True)
    return out


def last(run: Path) -> Path:
    return max((run / "checkpoints").glob("step_*"))


def weights(run: Path) -> dict:
    return load_file(last(run) / "student.safetensors")


def test_only_the_compression_is_trained_and_saved_as_trained(finished, compressed):
    before, after = weights(finished / "run"), weights(compressed)
    own = {name for name in after if name.startswith(COMPRESSION)}
    assert after.keys() - own == before.keys() and len(own) == 17
    assert all(after[name].equal(before[name]) for name in before)
    moments = load_file(last(compressed) / "optimizer.safetensors")
    assert moments and {name.rpartition(".")[0] for name in moments} == own
    assert not load_file(last(compressed) / "teacher.safetensors")
    steps = [row for row in rows(compressed) if "loss" in row]
    assert len(steps) == 3 and {"itm", "distil_itm", "mlm", "itm_accuracy"} <= steps[0].keys()
    assert not {"i2t", "lmi_image"} & steps[0].keys()
    for row in steps:
        assert row["loss"] == pytest.approx(row["itm"] + row["distil_itm"] + row["mlm"], rel=1e-5)


def test_it_resumes_to_the_bit(finished, compressed, tmp_path):
    given = options(finished, tmp_path, FEW, "--train.save_every=2")
    train(*parse_finetune(given))
    AcceleratorState._reset_state(reset_partial_state=True)
    shutil.rmtree(tmp_path / "checkpoints" / "step_00000003")
    train(*parse_finetune(given))
    found, right = weights(tmp_path), weights(compressed)
    assert all(found[name].equal(right[name]) for name in right)


def test_it_is_exported_loaded_and_described_as_the_model_that_it_was(finished, compressed, tmp_path):
    tcl(["export", str(compressed), str(tmp_path / "export")])
    said = json.loads((tmp_path / "export" / "config.json").read_text())
    assert said["kind"] == "tcl" and said["model"]["fusion"]["image_tokens"] == 2
    assert "tokens of an image for the fusion encoder | 2 |" in (tmp_path / "export" / "README.md").read_text()
    was = TCL.from_pretrained(finished / "run", **PLAIN)
    images, texts = [noise(i) for i in range(3)], ["a red dog", "a cat", "blue mat"]
    for source in (compressed, tmp_path / "export"):
        model = load_model(source, **PLAIN)
        assert type(model) is TCL and model.student.encoders.fusion_encoder.compression.tokens == 2
        np.testing.assert_array_equal(model.encode_image(images), was.encode_image(images))
        assert np.abs(model.match(images, texts) - was.match(images, texts)).max() > 1e-6
        heat = model.explain(images[0], texts[0])
        assert heat.values.shape == was.explain(images[0], texts[0]).values.shape
        assert model.fill_mask(images[0], "a [MASK] dog")[0]
    broken = load_file(tmp_path / "export" / "model.safetensors")
    del broken[f"{COMPRESSION}queries"]
    save_file(broken, tmp_path / "export" / "model.safetensors")
    (tmp_path / "export" / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"queries is not there"):
        load_model(tmp_path / "export")


def test_the_published_code_has_no_place_for_it(compressed, tmp_path):
    with pytest.raises(InputError, match=r"^to: the fusion encoder looks at 2 tokens of an image; the published code"):
        export_published(str(compressed), tmp_path / "x.pth")


def test_the_dry_run_tells_what_is_frozen(finished, capsys, tmp_path):
    tcl(["finetune", *options(finished, tmp_path, FEW), "--dry_run"])
    out = capsys.readouterr().out
    assert "0.0M teacher" in out and f"{COMPRESSION[:-1]}: they start random" in out and "activations" in out


def test_retrieval_and_vqa_start_with_a_new_one_without_one_and_with_the_one_that_is_there(
    finished, compressed, tmp_path
):
    small = ["--objective.queue_size=8", "--train.steps=1"]
    for name, init, more, tokens in (
        ("new", finished / "run", [FEW, "--objective.distil_itm_weight=1"], 2),
        ("kept", compressed, [], 2),
        ("left_out", compressed, ["--model.fusion.image_tokens=null"], None),
    ):
        given = options(finished, tmp_path / name, *small, *more, f"--init={init}", task="retrieval")
        train(*parse_finetune(given))
        AcceleratorState._reset_state(reset_partial_state=True)
        assert TCL.from_pretrained(tmp_path / name).pretrained.model.fusion.image_tokens == tokens
        assert ("distil_itm" in rows(tmp_path / name)[-1]) == (name == "new")
    with pytest.raises(InputError, match=r"compression\.queries is \(2, 16\), here \(3, 16\)"):
        more = ["--model.fusion.image_tokens=3", f"--init={compressed}"]
        train(*parse_finetune(options(finished, tmp_path / "other", *small, *more, task="retrieval")))


def test_questions_are_answered_from_few_tokens(finished, compressed, tmp_path):
    said = json.dumps({"question": "what is it", "answers": ["dog"], "question_id": 1}).encode()
    write_tar(tmp_path / "vqa.tar", [e for i in range(4) for e in ((f"{i}.jpg", JPEG), (f"{i}.json", said))])
    for init, more, tokens in ((compressed, [], 2), (tmp_path / "first", ["--model.fusion.image_tokens=null"], None)):
        out = tmp_path / ("first" if tokens else "second")
        given = [f"--init={init}", f"--data.train=[{{'shards': '{tmp_path}/vqa.tar'}}]", "--train.steps=1", *more]
        train(*parse_finetune(options(finished, out, *given, task="vqa")))
        AcceleratorState._reset_state(reset_partial_state=True)
        model = TCLForVQA.from_pretrained(out, **PLAIN)
        assert model.pretrained.model.fusion.image_tokens == tokens
        assert isinstance(model.answer(noise(0), "what is it"), str | list)


def test_what_it_cannot_start_from_is_one_line(finished, tmp_path):
    def refused(*more: str) -> str:
        with pytest.raises(InputError) as error:
            train(*parse_finetune(options(finished, tmp_path / "x", *more)))
        AcceleratorState._reset_state(reset_partial_state=True)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert refused().startswith("model.fusion.image_tokens: None is not possible; accepted: a number of tokens")
    assert refused(FEW, "--init=null").startswith("init: none, but a compression is learned for a finished model")
    assert refused("--model.fusion.image_tokens=500").startswith("model.fusion.image_tokens: 500 is not possible")
    more = ["--objective=clip", f"--output_dir={tmp_path / 'clip'}", "--train.steps=1"]
    pretrain(
        [one for one in small_run(tmp_path / "c") if "queue" not in one and "lmi" not in one],
        tmp_path / "clip",
        *more[:1],
        more[2],
    )
    AcceleratorState._reset_state(reset_partial_state=True)
    assert "cannot match images with texts" in refused(FEW, f"--init={tmp_path / 'clip'}")
