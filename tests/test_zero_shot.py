"""Zero-shot classification by prompts: against a loop by hand, from the command line and from Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from data_files import encode, noise, write_tar
from tiny_pretrained import tiny_classifier, tiny_tcl, tiny_towers, tiny_vqa

from tcl import load_model
from tcl.commands.main import run
from tcl.commands.task_options import parse_finetune
from tcl.errors import InputError
from tcl.inference.embedding_model import EmbeddingModel
from tcl.search.class_prompts import class_features, class_prompts
from tcl.training.dry_run import dry_run
from tcl.training.evaluate_only import evaluate_only

NAMES = ["dog", "cat", "Red mat", "number", "green", "blue"]
TEMPLATES = ["a photo of a {}.", "{} on mat", "a {} {}"]
MODELS = {"tcl": tiny_tcl, "clip": tiny_towers}
IMAGES = 14


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def label(i: int) -> int:
    return (i * i + i // 3) % len(NAMES)


@pytest.fixture
def data(tmp_path) -> Path:
    """Models of both kinds, images with labels, and the files of names and templates."""
    for kind, model in MODELS.items():
        model().save_pretrained(tmp_path / kind)
    entries = []
    for i in range(IMAGES):
        entries += [(f"{i:02d}.png", encode(noise(i), "PNG")), (f"{i:02d}.cls", b"%d" % label(i))]
    write_tar(tmp_path / "val.tar", entries)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    (tmp_path / "templates.txt").write_text("\n".join(TEMPLATES))
    return tmp_path


def options(data: Path, kind: str, *more: str) -> list[str]:
    return [
        "--task=zero_shot",
        f"--init={data / kind}",
        f"--classes={data / 'names.txt'}",
        f"--data.val={data / 'val.tar'}",
        f"--output_dir={data / 'out'}",
        "--data.workers=0",
        "--data.max_tokens=12",
        "--train.precision=fp32",
        *more,
    ]


def evaluated(data: Path, kind: str, *more: str) -> tuple[dict, list[dict]]:
    """Metrics and predictions."""
    evaluate_only(*parse_finetune(options(data, kind, *more), trains=False))
    results = data / "out" / "results"
    predictions = [json.loads(line) for line in (results / "predictions.jsonl").read_text().splitlines()]
    return json.loads((results / "metrics.json").read_text()), predictions


def by_hand(model: EmbeddingModel, templates: list[str]) -> np.ndarray:
    """Cosines [IMAGES, NAMES], image by image and class by class."""
    cosines = np.zeros((IMAGES, len(NAMES)))
    for column, name in enumerate(NAMES):
        prompts = [model.encode_text(template.replace("{}", name))[0] for template in templates]
        mean = sum(prompts) / len(prompts)
        mean = mean / np.sqrt((mean**2).sum())
        for row in range(IMAGES):
            cosines[row, column] = model.encode_image(noise(row))[0] @ mean
    return cosines


@pytest.mark.parametrize("kind", list(MODELS))
@pytest.mark.parametrize("templates", [None, TEMPLATES])
def test_it_agrees_with_a_loop_by_hand(data, kind, templates):
    more = [f"--templates={data / 'templates.txt'}"] if templates else []
    metrics, predictions = evaluated(data, kind, *more)
    model = load_model(data / kind, device="cpu", precision="fp32")
    cosines = by_hand(model, templates or ["a photo of a {}."])
    order = np.argsort(-cosines, axis=1, kind="stable")
    for i, one in enumerate(predictions):
        assert one["key"] == f"val.tar/{i:02d}" and one["label"] == NAMES[label(i)]
        assert one["predictions"] == [NAMES[place] for place in order[i, :5]]
        powers = np.exp((cosines[i] - cosines[i].max()) / model.student.temperature.item())
        np.testing.assert_allclose(one["probabilities"], powers[order[i, :5]] / powers.sum(), atol=1e-4)
    right = [order[i, 0] == label(i) for i in range(IMAGES)]
    among = [label(i) in order[i, :5] for i in range(IMAGES)]
    per_class = [
        np.mean([right[i] for i in range(IMAGES) if label(i) == place])
        for place in range(len(NAMES))
        if any(label(i) == place for i in range(IMAGES))
    ]
    expected = {"top1": 100 * np.mean(right), "top5": 100 * np.mean(among), "mean_per_class": 100 * np.mean(per_class)}
    assert metrics == pytest.approx(expected)

    given = {} if templates is None else {"templates": templates}
    found = model.classify([noise(i) for i in range(IMAGES)], NAMES, k=3, **given)
    for guessed, one in zip(found, predictions, strict=True):
        assert [guess.name for guess in guessed] == one["predictions"][:3]
        assert [guess.probability for guess in guessed] == pytest.approx(one["probabilities"][:3], abs=1e-4)


def test_the_command_prints_and_leaves_what_it_found(data, capsys):
    run(["evaluate", *options(data, "tcl")])
    assert f"accuracy on {IMAGES} images of 6 classes: top-1 " in capsys.readouterr().out
    table = (data / "out" / "results" / "classes.csv").read_text()
    assert table.startswith("class,images,top1,top5,mostly_taken_for\n") and len(table.splitlines()) == 7


def test_prompts_of_a_class_stand_together():
    assert class_prompts(["dog", "cat"], ["a {}", "{} {}"]) == ["a dog", "dog dog", "a cat", "cat cat"]
    found = class_features(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), 2)
    torch.testing.assert_close(found, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]))


def test_nothing_is_trained(data):
    with pytest.raises(InputError, match=r"^task: zero_shot trains nothing; evaluate with `tcl evaluate --task zero_"):
        run(["finetune", *options(data, "tcl")])


def test_a_dry_run_says_what_it_would_be(data, capsys):
    dry_run(*parse_finetune(options(data, "clip"), trains=False))
    assert "parameters: " in capsys.readouterr().out


def test_prompts_that_are_cut_are_counted(data, capsys):
    evaluated(data, "tcl", "--data.max_words=4")
    assert "classes: 6 of 6 prompts are longer than data.max_words (4) or" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("templates.txt", "a photo\n", r"^templates: \S+ holds 'a photo', which has no \{\} for the name of a class; "),
        ("templates.txt", "a {}\n\n{}\n", r"^templates: \S+ has a blank line, number 2; give one template a line"),
        ("templates.txt", "", r"^templates: \S+ is empty; give one template a line"),
        ("templates.txt", None, r"^templates: \S+ cannot be read \(No such file or directory\)"),
        ("names.txt", "dog\ndog\n", r"^classes: \S+ holds 'dog' twice"),
        ("names.txt", "dog\n", r"^classes: \S+ holds 1 class; give two or more"),
        ("names.txt", "", r"^classes: \S+ is empty; give one class a line"),
        ("names.txt", None, r"^classes: \S+ cannot be read"),
        ("templates.txt", "{}\n", r"^classes: of the prompt '\?!' no words are left"),
        (
            "names.txt",
            "lion\npony\n",
            r"^data\.val: .* holds no usable labelled image: 8 label is no class and no index",
        ),
    ],
)
def test_files_that_cannot_be_used(data, file, content, message):
    if content is None:
        (data / file).unlink()
    else:
        (data / file).write_text(content)
    if "prompt" in message:
        (data / "names.txt").write_text("dog\n?!\n")
    if "usable" in message:
        write_tar(
            data / "val.tar",
            [entry for i in range(8) for entry in ((f"{i}.png", encode(noise(i), "PNG")), (f"{i}.cls", b"dog"))],
        )
    with pytest.raises(InputError, match=message):
        evaluated(data, "tcl", f"--templates={data / 'templates.txt'}")


def test_what_else_is_refused(data):
    tiny_vqa().save_pretrained(data / "vqa")
    tiny_classifier(["dog", "cat"]).save_pretrained(data / "classifier")
    for source in ("vqa", "classifier"):
        with pytest.raises(InputError, match=r"^init: \S+ has no embeddings that images and texts share; give a model"):
            evaluated(data, source)
    with pytest.raises(InputError, match=r"^classes: none; give a file"):
        evaluated(data, "tcl", "--classes=null")
    with pytest.raises(InputError, match=r"^init: none, but there is nothing else to evaluate"):
        evaluated(data, "tcl", "--init=null")
    with pytest.raises(InputError, match=r"^data\.val: none"):
        evaluated(data, "tcl", "--data.val=null")


def test_what_classify_refuses():
    model, image = tiny_tcl(), noise(0)
    for wrong, message in (
        ({"k": 0}, r"^k: 0 is not possible; accepted: 1 or more$"),
        ({"names": ["dog", "dog"]}, r"^names holds 'dog' twice; give each class once$"),
        ({"names": []}, r"^names: there are none"),
        ({"names": ["dog", "?!"]}, r"^names\[1\]: '\?!' has no words"),
        ({"templates": ["a {}", "a photo"]}, r"^templates holds 'a photo', which has no \{\}"),
        ({"images": "nowhere.jpg"}, r"^images\[0\]: 'nowhere\.jpg' is no file"),
    ):
        with pytest.raises(InputError, match=message):
            model.classify(**{"images": image, "names": ["dog", "cat"], **wrong})
    (found,) = model.classify(image, ["dog", "cat"], templates="a {}")
    assert {guess.name for guess in found} == {"dog", "cat"}
    assert sum(guess.probability for guess in found) == pytest.approx(1)
