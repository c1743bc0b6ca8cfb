"""Image classification: runs that learn, resume, are exported and classify; labels, losses and reports by hand."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from coloured_squares import NAMES, SIZES, options, square, squares
from data_files import encode, write_tar
from launching import launch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_run import rows
from tiny_pretrained import tiny_tcl, tiny_towers
from torch.nn import functional as F

from tcl import TCL, TCLForClassification, load_model
from tcl.commands.main import run
from tcl.commands.task_options import parse_finetune
from tcl.config.class_head import ClassHeadConfig
from tcl.config.model import ImageEncoderConfig, ModelConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.class_list import read_class_list
from tcl.data.texts.label import NO_LABEL, UNKNOWN_LABEL, LabelReader, Labels
from tcl.errors import InputError
from tcl.evaluation.class_report import accuracies, write_report
from tcl.evaluation.classify_images import Classified
from tcl.losses.am_softmax import am_softmax
from tcl.models.no_teacher import NoTargets
from tcl.objectives.classification import ClassHead
from tcl.search.class_prompts import best_classes
from tcl.tasks.classification import Parts, build_student
from tcl.training.dry_run import dry_run
from tcl.training.evaluate_only import evaluate_only
from tcl.training.run import train

HEADS = ("softmax", "circle", "am_softmax")


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def classification(folder: Path, output_dir: Path, *more: str, trains: bool = True):
    return parse_finetune([*options(folder), f"--output_dir={output_dir}", *more], trains=trains)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Squares to train and to evaluate on, and the list of their classes."""
    folder = tmp_path_factory.mktemp("classification")
    squares(folder / "train.tar", range(12, 48))
    squares(folder / "val.tar", range(12))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> dict[str, Path]:
    """A run for each head."""
    folder = tmp_path_factory.mktemp("trained")
    for head in HEADS:
        train(*classification(data, folder / head, f"--head.loss={head}", "--train.steps=30"))
        AcceleratorState._reset_state(reset_partial_state=True)
    return {head: folder / head for head in HEADS}


def metrics_in(folder: Path) -> dict[str, float]:
    return json.loads((folder / "results" / "metrics.json").read_text())


def predictions_in(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results" / "predictions.jsonl").read_text().splitlines()]


def test_the_additive_margin_by_hand():
    cosines = torch.tensor([[0.5, 0.2, -0.3], [0.1, 0.4, 0.9]])
    # The right classes are 0 and 1: e^(10 (0.5 - 0.35)) against e^(10 . 0.2) and e^(10 . -0.3), and so on.
    first = -torch.log(torch.tensor(1.5).exp() / sum(torch.tensor(x).exp() for x in (1.5, 2.0, -3.0)))
    second = -torch.log(torch.tensor(0.5).exp() / sum(torch.tensor(x).exp() for x in (1.0, 0.5, 9.0)))
    found = am_softmax(cosines, torch.tensor([0, 1]), margin=0.35, scale=10.0)
    torch.testing.assert_close(found, (first + second) / 2, rtol=1e-5, atol=0)
    plain = am_softmax(cosines, torch.tensor([0, 1]), margin=0.0, scale=10.0)
    torch.testing.assert_close(plain, F.cross_entropy(10 * cosines, torch.tensor([0, 1])))


@pytest.mark.parametrize("loss", HEADS)
def test_a_head_is_fp32_within_autocast_and_its_loss_is_that_of_its_cosines(loss):
    student = build_student(SIZES, Parts(NAMES, loss, ClassHeadConfig(loss).margin_and_scale[1]))
    labels = torch.tensor([0, 2, 1, 1])
    batch = Batch(list("abcd"), {"image": Images(torch.randn(4, 3, 32, 32)), "label": Labels(labels)})
    with torch.autocast("cpu", torch.bfloat16):
        features = student.networks.image_encoder(batch.inputs["image"].view)[:, 0]
        scores, losses = student.head(features), student(batch, NoTargets())
    assert scores.dtype == losses.total.dtype == torch.float32
    plain, weight = features.float(), student.head.weight
    if loss == "softmax":
        expected = F.cross_entropy(plain @ weight.T + student.head.bias, labels)
    else:
        cosines = torch.stack([F.cosine_similarity(plain, one[None], dim=1) for one in weight], dim=1)
        expected = torch.stack([one_loss(loss, row, label) for row, label in zip(cosines, labels, strict=True)]).mean()
    torch.testing.assert_close(losses.total, expected, rtol=1e-4, atol=1e-5)
    losses.total.backward()
    assert all(p.grad is not None for p in student.parameters() if p.requires_grad)


def one_loss(loss: str, cosines: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Of one image, at the published margin and scale; the weights of circle loss are written out."""
    right, wrong = cosines[label], torch.cat([cosines[:label], cosines[label + 1 :]])
    if loss == "am_softmax":
        top = 30 * (right - 0.35)
        return torch.cat([top[None], 30 * wrong]).logsumexp(0) - top
    towards = -256 * (1.25 - right.detach()) * (right - 0.75)
    away = 256 * (wrong.detach() + 0.25).clamp(min=0) * (wrong - 0.25)
    return F.softplus(torch.logsumexp(away, 0) + towards)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_siglip_gap_256", "vit_tiny_patch16_224", "resnet10t"])
def test_whatever_is_trained_gets_a_gradient(name):
    """DDP waits for it. The head sees the global token alone."""
    overrides = {} if name == "resnet10t" else {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 16}
    name = "vit_base_patch16_siglip_256" if "siglip" in name else name
    model = ModelConfig(image=ImageEncoderConfig(name=name, image_size=64, overrides=overrides))
    student = build_student(model, Parts(NAMES))
    batch = Batch(["a"] * 2, {"image": Images(torch.randn(2, 3, 64, 64)), "label": Labels(torch.tensor([0, 1]))})
    student(batch, NoTargets()).total.backward()
    assert [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_to_tell_squares_apart(trained, head):
    before, after = (row for row in rows(trained[head]) if "eval_top1" in row)
    assert before["eval_top1"] < 70 and after["eval_top1"] == after["eval_mean_per_class"] == 100, (before, after)
    last = [row for row in rows(trained[head]) if "loss" in row][-1]
    assert last["accuracy"] == 1 and last[head] == pytest.approx(last["loss"])


def test_a_run_leaves_a_table_of_classes_and_the_predictions(trained):
    with (trained["softmax"] / "results" / "classes.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table] == NAMES
    assert all(row["images"] == "4" and row["top1"] == "100.00" and row["mostly_taken_for"] == "" for row in table)
    found = predictions_in(trained["softmax"])
    assert [one["key"] for one in found[:2]] == ["val.tar/000", "val.tar/001"] and len(found) == 12
    assert [one["label"] for one in found] == [NAMES[i % 3] for i in range(12)]
    assert all(one["predictions"][0] == one["label"] and len(one["predictions"]) == 3 for one in found)
    assert all(sum(one["probabilities"]) == pytest.approx(1, abs=1e-4) for one in found)


def test_resuming_gives_the_same_weights(data, tmp_path):
    more = ("--train.steps=4", "--train.save_every=2", "--data.augment.flip_prob=0.5", "--head.loss=circle")
    whole = train(*classification(data, tmp_path / "whole", *more))
    train(*classification(data, tmp_path / "halved", *more))
    shutil.rmtree(tmp_path / "halved" / "checkpoints" / "step_00000004")
    resumed = train(*classification(data, tmp_path / "halved", *more))
    for name in ("student.safetensors", "optimizer.safetensors"):
        found, right = load_file(resumed / name), load_file(whole / name)
        assert found.keys() == right.keys() and all(found[key].equal(right[key]) for key in right)


def test_a_run_does_not_go_on_with_other_classes(data, tmp_path):
    train(*classification(data, tmp_path / "run", "--train.steps=1"))
    other = tmp_path / "classes.txt"
    other.write_text("blue\ngreen\nred\n")
    shutil.copy(data / "classes.txt", tmp_path / "same.txt")
    config, build = classification(data, tmp_path / "run", f"--classes.list={other}")
    with pytest.raises(InputError, match=r"^classes\.list: .* holds other classes than those of the run in "):
        build(config, Accelerator(cpu=True))


@pytest.mark.parametrize("head", HEADS)
def test_an_export_classifies_as_the_evaluation_did(data, trained, tmp_path, head):
    run(["export", str(trained[head]), str(tmp_path / "export")])
    said = json.loads((tmp_path / "export" / "config.json").read_text())
    assert (said["kind"], said["classes"], said["loss"], said["max_tokens"]) == ("classification", NAMES, head, None)
    assert not (tmp_path / "export" / "tokenizer.json").exists()
    card = (tmp_path / "export" / "README.md").read_text()
    assert "pipeline_tag: image-classification" in card and "longest text" not in card
    for source in (trained[head], tmp_path / "export"):
        model = load_model(source, device="cpu", precision="fp32", batch_size=5)
        assert type(model) is TCLForClassification and model.classes == NAMES
        found = model.classify([square(i) for i in range(12)])
        for guessed, told in zip(found, predictions_in(trained[head]), strict=True):
            assert [one.name for one in guessed] == told["predictions"]
            expected = pytest.approx(told["probabilities"], abs=1e-4)
            assert [one.probability for one in guessed] == expected
    (best,) = model.classify(square(4), k=1)
    assert [one.name for one in best] == [NAMES[1]]
    evaluate_only(*classification(data, tmp_path / "again", f"--init={source}", f"--head.loss={head}", trains=False))
    assert metrics_in(tmp_path / "again") == metrics_in(trained[head])


def test_what_a_classifier_cannot_use_is_refused(trained, tmp_path):
    model = TCLForClassification.from_pretrained(trained["softmax"], device="cpu")
    with pytest.raises(InputError, match=r"^k: 0 is not possible; accepted: 1 or more$"):
        model.classify(square(0), k=0)
    with pytest.raises(InputError, match=r"^images\[0\]: 'nowhere\.jpg' is no file"):
        model.classify("nowhere.jpg")
    with pytest.raises(InputError, match=r"^a classification model is no TCL; load it with TCLForClassification$"):
        TCL.from_pretrained(trained["softmax"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["red"], "two names or more"), (["red", "red"], "holds 'red' twice"), ("red", "classes"), (None, "classes")],
)
def test_forged_classes_are_refused(trained, tmp_path, classes, message):
    forged = tmp_path / "run"
    shutil.copytree(trained["softmax"], forged)
    said = json.loads((forged / "model.json").read_text()) | {"classes": classes}
    (forged / "model.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=message):
        load_model(forged)
    (forged / "model.json").write_text(json.dumps(said | {"classes": NAMES, "max_tokens": 25, "max_words": 30}))
    with pytest.raises(InputError, match=r"has no folder `tokenizer`"):
        load_model(forged)
    (forged / "model.json").write_text(json.dumps(said | {"classes": NAMES, "max_words": 30}))
    with pytest.raises(InputError, match=r"max_words: 30 is not possible; .*null beside null"):
        load_model(forged)


def test_a_linear_probe_leaves_the_encoder_as_it_was(data, trained, tmp_path):
    more = (f"--init={trained['circle']}", "--model.image.frozen=true", "--head.loss=circle", "--train.steps=2")
    checkpoint = train(*classification(data, tmp_path, *more))
    after = load_file(checkpoint / "student.safetensors")
    before = load_file(trained["circle"] / "checkpoints" / "step_00000030" / "student.safetensors")
    changed = {name for name in before if not after[name].equal(before[name])}
    assert changed == {"head.weight"}


@pytest.mark.parametrize("objective", ["tcl", "clip"])
def test_runs_exports_and_weights_of_pretraining_give_their_image_encoder(data, tmp_path, objective):
    model = tiny_tcl() if objective == "tcl" else tiny_towers()
    model.save_pretrained(tmp_path / "export")
    config, build = classification(data, tmp_path / "run", f"--init={tmp_path / 'export'}")
    task = build(config, Accelerator(cpu=True))
    theirs = model.student.encoders.image_encoder.state_dict()
    own = task.student.networks.image_encoder.state_dict()
    assert own.keys() == theirs.keys() and all(own[name].equal(theirs[name]) for name in own)
    (notice,) = task.notices
    assert "has no head for these classes: it starts random" in notice


def test_a_published_checkpoint_gives_its_image_encoder_and_its_normalisation(data, tmp_path):
    encoder = build_student(SIZES, Parts(NAMES)).networks.image_encoder
    published = {f"visual_encoder.{name}": tensor for name, tensor in encoder.vit.state_dict().items()}
    published["text_encoder.bert.encoder.layer.1.crossattention.self.query.bias"] = torch.zeros(4)
    torch.save({"model": published}, tmp_path / "published.pth")
    config, build = classification(data, tmp_path / "run", f"--init={tmp_path / 'published.pth'}")
    task = build(config, Accelerator(cpu=True))
    own = task.student.networks.image_encoder.vit.state_dict()
    assert all(own[name].equal(tensor) for name, tensor in encoder.vit.state_dict().items())
    assert config.model.image.mean == (0.48145466, 0.4578275, 0.40821073)


def test_labels_are_names_or_places_in_json_or_cls():
    label = LabelReader(["red", "dark blue", "7"])

    def said(value: object) -> dict[str, bytes]:
        return {"json": json.dumps({"label": value}).encode()}

    for value, place in (("red", 0), (" dark  blue ", 1), (2, 2), ("1", 1), (7, 2), ("7", 2)):
        assert label(said(value)) == place, value
    assert label({"cls": b"1\n"}) == 1 and label({"cls": b"dark blue", "json": b"{}"}) == 1
    for value in ("Red", 3, -1, 1.0, True, [0], "", "9" * 5000, "\u0661"):
        with pytest.raises(BadSample, match=f"^{UNKNOWN_LABEL}$"):
            label(said(value))
    for fields in ({}, {"json": b"{}"}, {"json": b'{"label": null}'}):
        with pytest.raises(BadSample, match=f"^{NO_LABEL}$"):
            label(fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty; give one class a line$"),
        (b"red\n\nblue\n", r"has a blank line, number 2; give one class a line$"),
        (b"red\nblue\nred\n", r"holds 'red' twice; give each class once$"),
        (b"red\n", r"holds 1 class; give two or more, one a line$"),
        (b"\xff\xfe", r"is not UTF-8"),
        (None, r"cannot be read \(No such file or directory\); give one class a line$"),
    ],
)
def test_lists_of_classes_that_cannot_be(data, tmp_path, content, message):
    path = tmp_path / "classes"
    if content is not None:
        path.write_bytes(content)
    config, build = classification(data, tmp_path / "run", f"--classes.list={path}")
    with pytest.raises(InputError, match=rf"^classes\.list: \S+ {message}"):
        build(config, Accelerator(cpu=True))


def test_spaces_of_a_list_are_squeezed(tmp_path):
    (tmp_path / "classes").write_bytes("\ufeffgreat  white shark \r\ncafé\n".encode())
    assert read_class_list(tmp_path / "classes", "classes") == ["great white shark", "café"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "--head.scale=0",
            r"^head\.scale: 0\.0 is not possible; accepted: null, unless head\.loss is circle or am",
        ),
        ("--head.loss=circle --head.scale=0", r"^head\.scale: 0\.0 is not possible; accepted: a number > 0$"),
        ("--head.loss=am_softmax --head.scale=-3", r"^head\.scale: -3\.0 .* a number > 0$"),
        ("--head.loss=circle --head.margin=1.5", r"^head\.margin: 1\.5 is not possible; accepted: 0 to 1$"),
        ("--head.loss=am_softmax --head.margin=-0.1", r"^head\.margin: -0\.1 .* 0 to 1$"),
        ("--head.loss=hinge", r"^head\.loss is 'hinge'; accepted: softmax, circle, am_softmax"),
        ("--classes.list=null", r"^classes\.list: none; give a file"),
        ("--eval.max_samples=0", r"^eval\.max_samples: 0 is not possible"),
    ],
)
def test_impossible_options_are_named(data, tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        classification(data, tmp_path, *given.split())


def test_the_published_margins_and_scales_are_the_defaults():
    assert ClassHeadConfig("circle").margin_and_scale == (0.25, 256)
    assert ClassHeadConfig("am_softmax").margin_and_scale == (0.35, 30)
    assert ClassHeadConfig("am_softmax", margin=0.2).margin_and_scale == (0.2, 30)


def test_starting_from_a_classifier_of_other_classes_or_another_loss(data, trained, tmp_path):
    for names, message in (
        ("red\ngreen\nblue\npink\n", r"^classes\.list: 4 classes, but those of init, .*, are 3 others; give its list"),
        (
            "blue\ngreen\nred\n",
            r"^classes\.list: 3 classes, but those of init, .*, are in another order; ",
        ),
    ):
        (tmp_path / "other").write_text(names)
        more = (f"--init={trained['softmax']}", f"--classes.list={tmp_path / 'other'}")
        config, build = classification(data, tmp_path / "run", *more)
        with pytest.raises(InputError, match=message):
            build(config, Accelerator(cpu=True))
    config, build = classification(data, tmp_path / "run", f"--init={trained['circle']}")
    with pytest.raises(InputError, match=r"^head\.loss: 'softmax' is not that of init, .*; accepted: circle"):
        build(config, Accelerator(cpu=True))


def test_weights_without_an_image_encoder(data, tmp_path):
    save_file({"encoders.text_proj.bias": torch.zeros(3)}, tmp_path / "student.safetensors")
    config, build = classification(data, tmp_path / "run", f"--init={tmp_path / 'student.safetensors'}")
    with pytest.raises(InputError, match=r"^init: .* holds no weights of an image encoder"):
        build(config, Accelerator(cpu=True))


def test_samples_that_cannot_be_used_are_counted(data, trained, tmp_path, capsys):
    good = encode(square(0), "PNG")
    entries = [("0.png", good), ("0.cls", b"0"), ("1.png", good), ("1.cls", b"9"), ("2.png", b"x"), ("2.cls", b"1")]
    write_tar(tmp_path / "val.tar", [*entries, ("3.png", good), ("4.cls", b"1")])
    common = (f"--init={trained['softmax']}", f"--data.val={tmp_path / 'val.tar'}")
    evaluate_only(*classification(data, tmp_path / "out", *common, trains=False))
    said = capsys.readouterr().out
    assert "accuracy on 1 images of 3 classes: top-1 100.00, top-5 100.00, mean per class 100.00; skipped " in said
    for cause in (UNKNOWN_LABEL, NO_LABEL, "corrupt image", "no image"):
        assert f"1 {cause}" in said
    evaluate_only(*classification(data, tmp_path / "first", *common, "--eval.max_samples=1", trains=False))
    assert "accuracy on 1 images" in (said := capsys.readouterr().out) and "skipped" not in said


def test_labels_that_are_all_unknown(data, trained, tmp_path):
    write_tar(tmp_path / "val.tar", [("0.png", encode(square(0), "PNG")), ("0.cls", b"pink")])
    more = (f"--init={trained['softmax']}", f"--data.val={tmp_path / 'val.tar'}")
    with pytest.raises(InputError, match=rf"^data\.val: .* holds no usable labelled image: 1 {UNKNOWN_LABEL}$"):
        evaluate_only(*classification(data, tmp_path / "out", *more, trains=False))


def test_a_dry_run_tells_its_batch(data, tmp_path, capsys):
    dry_run(*classification(data, tmp_path / "run"))
    printed = capsys.readouterr().out
    assert "36 samples; first batch: image (12, 3, 32, 32), label of 3 classes" in printed


def slow_report(labels: list[int], best: list[list[int]]) -> tuple[float, float, float]:
    """Image by image."""
    right, among, of_class = 0, 0, {label: [] for label in labels}
    for label, guessed in zip(labels, best, strict=True):
        right += guessed[0] == label
        among += label in guessed
        of_class[label].append(guessed[0] == label)
    per_class = [sum(hits) / len(hits) for hits in of_class.values()]
    return 100 * right / len(labels), 100 * among / len(labels), 100 * sum(per_class) / len(per_class)


def test_accuracies_and_table_are_those_of_a_slow_count(tmp_path):
    generator = torch.Generator().manual_seed(0)
    classes = [f"class {i}" for i in range(9)]
    labels = torch.randint(0, 8, (60,), generator=generator)  # nothing belongs to the last one
    best = torch.stack([torch.randperm(9, generator=generator)[:5] for _ in range(60)])
    found = Classified([str(i) for i in range(60)], labels, best, torch.rand(60, 5, generator=generator), Counter())
    top1, top5, per_class = slow_report(labels.tolist(), best.tolist())
    expected = {"top1": top1, "top5": top5, "mean_per_class": per_class}
    assert accuracies(found, 9) == pytest.approx(expected)
    write_report(tmp_path, found, classes)
    with (tmp_path / "classes.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for place, row in enumerate(table):
        own = [guessed for label, guessed in zip(labels.tolist(), best.tolist(), strict=True) if label == place]
        assert row["class"] == classes[place] and row["images"] == str(len(own))
        if own:
            assert row["top1"] == f"{100 * sum(guessed[0] == place for guessed in own) / len(own):.2f}"
            assert row["top5"] == f"{100 * sum(place in guessed for guessed in own) / len(own):.2f}"
            taken = Counter(guessed[0] for guessed in own if guessed[0] != place)
            assert taken[classes.index(row["mostly_taken_for"])] == max(taken.values())
    assert table[8] == {"class": "class 8", "images": "0", "top1": "", "top5": "", "mostly_taken_for": ""}


def test_a_head_gives_equal_classes_in_the_order_of_the_list():
    best, probabilities = best_classes(torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, -1e4, -2e4, -1e4]]), 3)
    assert best.tolist() == [[1, 2, 3], [0, 1, 3]]  # also where probabilities are all the same 0
    assert probabilities[0].tolist() == pytest.approx(torch.tensor([1.0, 3.0, 3.0, 2.0]).softmax(0)[[1, 2, 3]].tolist())
    assert ClassHead(4, 3, ClassHeadConfig("am_softmax")).bias is None


def test_two_processes_evaluate_as_one(data, trained, tmp_path):
    """Eight samples, one of them unusable, shared by two: each is counted once, and all is in order."""
    entries = [("x.png", b"x"), ("x.cls", b"0")]
    for i in range(7):
        image = Image.new("RGB", (32, 32), (40 * i, 100, 30 * i))
        entries += [(f"{i}.png", encode(image, "PNG")), (f"{i}.cls", b"%d" % (i % 3))]
    write_tar(tmp_path / "val.tar", entries)
    given = [
        *options(data),
        f"--init={trained['softmax']}",
        f"--data.val={tmp_path / 'val.tar'}",
        "--eval.batch_size=2",
    ]
    done = launch("-m", "tcl", "evaluate", *given, f"--output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr[-3000:]
    evaluate_only(*parse_finetune([*given, f"--output_dir={tmp_path / 'one'}"], trains=False))
    assert metrics_in(tmp_path / "two") == metrics_in(tmp_path / "one")
    for ours, alone in zip(predictions_in(tmp_path / "two"), predictions_in(tmp_path / "one"), strict=True):
        assert ours["probabilities"] == pytest.approx(alone.pop("probabilities"), abs=1e-5)
        assert {name: value for name, value in ours.items() if name != "probabilities"} == alone
    assert done.stdout.count("accuracy on 7 images of 3 classes") == 1 and "skipped 1 corrupt image" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["", "--train.deepspeed=zero2", "--train.deepspeed=zero3"])
def test_two_processes_train_every_head(data, tmp_path, engine):
    for head in HEADS:
        out = f"--output_dir={tmp_path / head}"
        given = [*options(data), f"--head.loss={head}", "--train.steps=15", "--train.batch_size=6", out]
        done = launch("-m", "tcl", "finetune", *given, *([engine] if engine else []))
        assert done.returncode == 0, done.stderr[-3000:]
        assert metrics_in(tmp_path / head)["top1"] == 100


def test_workers_read_the_same(data, trained, tmp_path):
    more = (f"--init={trained['softmax']}", "--eval.batch_size=2")
    for workers in (0, 2):
        out = tmp_path / str(workers)
        evaluate_only(*classification(data, out, *more, f"--data.workers={workers}", trains=False))
    assert (tmp_path / "0/results/predictions.jsonl").read_text() != ""
    keys = [[one["key"] for one in predictions_in(tmp_path / str(workers))] for workers in (0, 2)]
    assert keys[0] == keys[1] and metrics_in(tmp_path / "0") == metrics_in(tmp_path / "2")
