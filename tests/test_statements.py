"""Visual entailment and NLVR2: runs that learn, resume, are exported, loaded and told; bad samples; metrics by hand."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from coloured_squares import square
from data_files import JPEG, write_tar
from safetensors.torch import load_file
from small_run import rows, small_run
from small_run import train as pretrain
from statements import SHARDS, entailed, options, told
from tiny_pretrained import tiny_entailment, tiny_nlvr, tiny_tcl, tiny_vqa

from tcl import TCLForEntailment, TCLForNLVR, load_model
from tcl.commands.main import run
from tcl.commands.task_options import parse_finetune
from tcl.data.sets.statement_set import Told
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.statement import statement_of
from tcl.errors import InputError
from tcl.evaluation.classify_statements import ClassifiedStatements
from tcl.evaluation.consistency import consistency, group_of
from tcl.evaluation.statement_report import confusion, statement_metrics, write_statement_report
from tcl.losses.soft_labels import soft_label_cross_entropy
from tcl.models.paired_fusion import SHARED
from tcl.tasks import entailment, nlvr
from tcl.training.dry_run import dry_run
from tcl.training.evaluate_only import evaluate_only
from tcl.training.run import train

TASKS = {"entailment": entailment, "nlvr": nlvr}
CLASSES = {"entailment": TCLForEntailment, "nlvr": TCLForNLVR}


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module", params=list(TASKS))
def trained(request, tmp_path_factory) -> tuple[str, Path, Path]:
    """A task, a folder with its data, and a run of it."""
    task, folder = request.param, tmp_path_factory.mktemp(request.param)
    SHARDS[task](folder / "train.tar", range(12, 60))
    SHARDS[task](folder / "val.tar", range(12))
    train(*parse_finetune([*options(task, folder), f"--output_dir={folder / 'run'}", "--train.steps=40"]))
    AcceleratorState._reset_state(reset_partial_state=True)
    return task, folder, folder / "run"


def predictions_in(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results" / "predictions.jsonl").read_text().splitlines()]


def metrics_in(folder: Path) -> dict[str, float]:
    return json.loads((folder / "results" / "metrics.json").read_text())


def test_it_learns_what_only_the_images_tell(trained):
    task, _, folder = trained
    before, after = (row for row in rows(folder) if "eval_accuracy" in row)
    assert after["eval_accuracy"] > max(before["eval_accuracy"], 90), (before, after)
    last = [row for row in rows(folder) if "loss" in row][-1]
    assert last["cross_entropy"] == pytest.approx(last["loss"]) and last["accuracy"] > 0.9
    alphas = [row["alpha"] for row in rows(folder) if "alpha" in row]
    assert not alphas or (alphas[0] == 0.4) == (task == "entailment")


def test_a_run_leaves_tables_and_predictions(trained):
    task, _, folder = trained
    found = predictions_in(folder)
    assert [one["key"] for one in found[:2]] == ["val.tar/000", "val.tar/001"] and len(found) == 12
    say = (lambda i: entailed(i)) if task == "entailment" else (lambda i: told(i)[1:])
    assert [(one["text"], one["label"]) for one in found] == [say(i) for i in range(12)]
    assert all(one["predicted"] == max(one["probabilities"], key=one["probabilities"].get) for one in found)
    with (folder / "results" / "confusion.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    counts = Counter((one["label"], one["predicted"]) for one in found)
    names = TASKS[task].FORM.classes
    assert {(row["right class"], name): int(row[name]) for row in table for name in names} == {
        (right, name): counts[right, name] for right in names for name in names
    }
    accuracy = 100 * sum(one["label"] == one["predicted"] for one in found) / 12
    assert metrics_in(folder)["accuracy"] == pytest.approx(accuracy)
    if task == "nlvr":
        lines = (folder / "results" / "predictions.csv").read_text().splitlines()
        assert lines == [f"{one['identifier']},{one['predicted']}" for one in found]
        whole = {i // 4: True for i in range(12)}
        for i, one in enumerate(found):
            whole[i // 4] &= one["label"] == one["predicted"]
        assert metrics_in(folder)["consistency"] == pytest.approx(100 * sum(whole.values()) / 3)


def test_an_export_says_what_the_evaluation_said(trained, tmp_path):
    task, folder, run_folder = trained
    run(["export", str(run_folder), str(tmp_path / "export")])
    assert json.loads((tmp_path / "export" / "config.json").read_text())["kind"] == task
    card = (tmp_path / "export" / "README.md").read_text()
    assert CLASSES[task].__name__ in card
    for source in (run_folder, tmp_path / "export"):
        model = load_model(source, device="cpu", precision="fp32", batch_size=5)
        assert type(model) is CLASSES[task]
        for one, found in zip(predictions_in(run_folder), said_by(model), strict=True):
            assert found == pytest.approx(one["probabilities"], abs=1e-4)
    arguments = [*options(task, folder), f"--init={source}", f"--output_dir={tmp_path / 'again'}", "--eval_only"]
    evaluate_only(*parse_finetune(arguments[:-1], trains=False))
    assert metrics_in(tmp_path / "again") == metrics_in(run_folder)


def said_by(model) -> list[dict[str, float]]:
    """Probabilities of the statements 0 to 11."""
    if isinstance(model, TCLForEntailment):
        found = model.classify([square(i) for i in range(12)], [entailed(i)[0] for i in range(12)])
        return [{one.name: one.probability for one in row} for row in found]
    lefts = [square(i) for i in range(12)]
    rights = [square(told(i)[0]).resize((48, 20)) for i in range(12)]
    texts = [told(i)[1] for i in range(12)]
    true = model.probability(lefts, rights, texts)
    assert model.answer(lefts, rights, texts) == [one > 0.5 for one in true]
    return [{"False": 1 - one, "True": one} for one in true]


def test_resuming_gives_the_same_weights(trained, tmp_path):
    task, folder, _ = trained
    more = ("--train.steps=4", "--train.save_every=2", "--data.augment.flip_prob=0.5", "--train.batch_size=6")

    def go(name: str) -> Path:
        return train(*parse_finetune([*options(task, folder), f"--output_dir={tmp_path / name}", *more]))

    whole = go("whole")
    go("halved")
    shutil.rmtree(tmp_path / "halved" / "checkpoints" / "step_00000004")
    resumed = go("halved")
    for name in ("student.safetensors", "teacher.safetensors", "optimizer.safetensors"):
        found, right = load_file(resumed / name), load_file(whole / name)
        assert found.keys() == right.keys() and all(found[key].equal(right[key]) for key in right)
    shared = [name for name in load_file(whole / "student.safetensors") if any(part in name for part in SHARED)]
    assert len(shared) == 4 and not any("second" in name for name in shared)  # of one layer, or of one pair


@pytest.mark.parametrize("task", list(TASKS))
def test_a_pre_trained_model_gives_its_networks_and_the_teacher_is_their_copy(task, tmp_path):
    SHARDS[task](tmp_path / "train.tar", range(12))
    SHARDS[task](tmp_path / "val.tar", range(12))
    tiny_tcl().save_pretrained(tmp_path / "tcl")
    plain = [option for option in options(task, tmp_path) if not option.startswith("--model.")]
    config, build = parse_finetune([*plain, f"--init={tmp_path / 'tcl'}", "--output_dir=run"])
    made = build(config, Accelerator(cpu=True))
    (notice,) = made.notices
    assert notice.endswith("has no weights for cls_head: they start random")
    theirs, own = tiny_tcl().student.encoders.state_dict(), made.student.networks.state_dict()
    for name, weight in theirs.items():
        if name.startswith(("image_encoder.", "text_encoder.")):
            assert own[name].equal(weight)
        elif name.startswith("fusion_encoder.layers."):
            _, _, number, rest = name.split(".", 3)
            copies = [f"{number}.{rest}"]
            if task == "nlvr":
                copies = [f"{number}.first.{rest}"] + ([] if rest.startswith(SHARED) else [f"{number}.second.{rest}"])
            assert all(own[f"fusion_encoder.layers.{copy}"].equal(weight) for copy in copies)
    teacher = made.teacher.networks.state_dict()
    assert teacher.keys() == own.keys() and all(teacher[name].equal(own[name]) for name in own)
    dry_run(config, build)


@pytest.mark.parametrize("task", list(TASKS))
def test_the_teacher_of_entailment_starts_from_that_of_the_pre_training(task, tmp_path):
    given = small_run(tmp_path)
    step = pretrain(given, tmp_path / "tcl", "--train.steps=3", "--optim.lr=0.01", "--objective.momentum=0.5")
    SHARDS[task](tmp_path / "train.tar", range(12))
    SHARDS[task](tmp_path / "val.tar", range(12))
    plain = [option for option in options(task, tmp_path) if not option.startswith("--model.")]
    config, build = parse_finetune([*plain, f"--init={tmp_path / 'tcl'}", "--output_dir=run"])
    made = build(config, Accelerator(cpu=True))
    theirs, before = load_file(step / "teacher.safetensors"), load_file(step / "student.safetensors")
    name = "text_encoder.bert.encoder.layer.0.attention.self.query.weight"
    assert not theirs[f"encoders.{name}"].equal(before[f"encoders.{name}"])
    expected = theirs if task == "entailment" else before
    assert made.teacher.networks.state_dict()[name].equal(expected[f"encoders.{name}"])
    assert made.student.networks.state_dict()[name].equal(before[f"encoders.{name}"])
    head = made.student.networks.cls_head.state_dict()
    assert all(made.teacher.networks.cls_head.state_dict()[key].equal(head[key]) for key in head)


@pytest.mark.parametrize("task", list(TASKS))
def test_few_tokens_of_each_image(task, tmp_path):
    """A compression may be new, is trained, comes with weights that have one, and may be left out again."""
    SHARDS[task](tmp_path / "train.tar", range(12))
    SHARDS[task](tmp_path / "val.tar", range(12))
    tiny_tcl().save_pretrained(tmp_path / "tcl")
    plain = [option for option in options(task, tmp_path) if not option.startswith("--model.")]

    def made(name: str, init: str, few: str):
        given = [*plain, f"--init={tmp_path / init}", f"--model.fusion.image_tokens={few}", "--train.steps=2"]
        config, build = parse_finetune([*given, f"--output_dir={tmp_path / name}"])
        return config, build, build(config, Accelerator(cpu=True))

    config, build, few = made("few", "tcl", "3")
    assert few.notices[0].endswith("has no weights for cls_head, fusion_encoder.compression: they start random")
    networks = few.student.networks
    tokens = networks.image_encoder(torch.randn(2, 3, 32, 32))
    assert all(image.keys.shape[2] == 3 for image in networks.fusion_encoder.image_keys_values(tokens))
    before = networks.fusion_encoder.compression.queries.detach().clone()
    last = train(config, build)
    queries = load_file(last / "student.safetensors")["networks.fusion_encoder.compression.queries"]
    assert not queries.equal(before)
    _, _, again = made("again", "few", "3")
    assert not again.notices and again.student.networks.fusion_encoder.compression.queries.equal(queries)
    model = load_model(tmp_path / "few", device="cpu", precision="fp32")
    assert model.student.networks.fusion_encoder.compression.queries.equal(queries) and said_by(model)
    _, _, without = made("without", "few", "null")
    assert without.student.networks.fusion_encoder.compression is None and not without.notices


def test_two_images_are_not_each_others():
    """The same weights, the images swapped: the second layer of a pair looks at the second image."""
    model = tiny_nlvr()
    a, b = model.probability(square(0), square(1), "a dog"), model.probability(square(1), square(0), "a dog")
    assert a != pytest.approx(b, abs=1e-6)
    assert model.probability(square(0), square(1), ["a dog", "a cat"])[0] == pytest.approx(a, abs=1e-5)


def test_the_loss_by_hand():
    logits = torch.tensor([[1.0, 0.0], [0.5, 2.0]])
    soft = torch.tensor([[0.3, 0.7], [0.9, 0.1]])
    log = [[x - torch.logsumexp(row, 0) for x in row] for row in logits]
    hard = -(log[0][1] + log[1][1]) / 2
    distilled = -(0.3 * log[0][0] + 0.7 * log[0][1] + 0.9 * log[1][0] + 0.1 * log[1][1]) / 2
    found = soft_label_cross_entropy(logits, torch.tensor([1, 1]), soft, 0.4)
    torch.testing.assert_close(found, 0.6 * hard + 0.4 * distilled)
    torch.testing.assert_close(soft_label_cross_entropy(logits, torch.tensor([1, 1]), None, 0.4), hard)


def test_consistency_is_that_of_the_official_script():
    """Two sentences about pairs of one set: 'dev-1-*-0' is right throughout, 'dev-1-*-1' and 'train-1-*-0' are not."""
    names = ["dev-1-0-0", "dev-1-1-0", "dev-1-0-1", "dev-1-1-1", "train-1-0-0", "of no form"]
    right = [True, True, True, False, False, True]
    assert group_of("dev-1-1-0") == group_of("dev-1-0-0") != group_of("dev-1-0-1")
    assert consistency(map(group_of, names), right) == pytest.approx(2 / 4)


def test_the_official_script_s_own_numbers():
    rows = list(csv.reader((Path(__file__).parent / "golden" / "tasks" / "nlvr2_predictions.csv").open()))
    places = {name: place for place, name in enumerate(nlvr.FORM.classes)}
    told = [Told("a", places[label], identifier, None) for identifier, label, _ in rows]
    predicted = torch.tensor([places[given] for *_, given in rows])
    keys, probabilities = [str(i) for i in range(len(rows))], torch.ones(len(rows), 2)
    found = nlvr.evaluate(ClassifiedStatements(keys, told, predicted, probabilities, Counter()))
    assert found.metrics["accuracy"] == found.score == pytest.approx(81.1014, abs=1e-4)
    assert found.metrics["consistency"] == pytest.approx(47.6190, abs=1e-4)


def classified(labels: list[int], predicted: list[int], classes: int) -> ClassifiedStatements:
    told = [Told("a", label, str(i), None) for i, label in enumerate(labels)]
    keys = [str(i) for i in range(len(labels))]
    return ClassifiedStatements(keys, told, torch.tensor(predicted), torch.ones(len(labels), classes), Counter())


def test_the_report_by_hand(tmp_path):
    found = classified([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], 3)
    names = entailment.FORM.classes
    assert statement_metrics(found, names) == pytest.approx(
        {"accuracy": 60, "recall_contradiction": 200 / 3, "recall_neutral": 50}
    )
    assert confusion(found, 3).tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    write_statement_report(tmp_path, found, names)
    with (tmp_path / "classes.csv").open(newline="") as file:
        first, _, last = csv.DictReader(file)
    assert first == dict(zip(first, ["contradiction", "3", "3", "2", "66.67", "66.67", "66.67"], strict=True)) and list(
        last.values()
    ) == ["entailment", "0", "0", "0", "", "", ""]


GOOD = {"hypothesis": "a dog", "sentence": "a dog", "label": "neutral"}


@pytest.mark.parametrize(
    ("task", "said", "images", "cause"),
    [
        ("entailment", {"hypothesis": "a dog"}, ("jpg",), "missing label"),
        ("entailment", {**GOOD, "label": "-"}, ("jpg",), "label is no class and no index of one"),
        ("entailment", {**GOOD, "label": 3}, ("jpg",), "label is no class and no index of one"),
        ("entailment", {**GOOD, "label": True}, ("jpg",), "label is no class and no index of one"),
        ("entailment", {"label": "neutral"}, ("jpg",), "missing hypothesis"),
        ("entailment", {**GOOD, "hypothesis": " ?! "}, ("jpg",), "missing hypothesis"),
        ("entailment", {**GOOD, "hypothesis": ["a"]}, ("jpg",), "hypothesis is no text"),
        ("entailment", GOOD, (), "no image"),
        ("nlvr", {**GOOD, "label": "maybe"}, ("left.jpg", "right.jpg"), "label is no class and no index of one"),
        ("nlvr", {**GOOD, "label": "True"}, ("left.jpg",), "no right image"),
        ("nlvr", {**GOOD, "label": "True"}, ("jpg",), "no left image"),
        ("nlvr", {"label": "True"}, ("left.jpg", "right.jpg"), "missing sentence"),
    ],
)
def test_bad_samples_have_a_cause(task, said, images, cause):
    fields = {"json": json.dumps(said).encode(), **dict.fromkeys(images, JPEG)}
    with pytest.raises(BadSample, match=f"^{cause}$"):
        statement_of(fields, "key", TASKS[task].FORM, 30)


@pytest.mark.parametrize("task", list(TASKS))
def test_bad_samples_are_counted_in_training_and_evaluation(task, tmp_path, capsys):
    SHARDS[task](tmp_path / "train.tar", range(12))
    name = "jpg" if task == "entailment" else "left.jpg"
    text = TASKS[task].FORM.text
    bad = [(f"x.{name}", JPEG), ("x.json", json.dumps({text: "a dog", "label": "none"}).encode())]
    write_tar(tmp_path / "val.tar", bad)
    arguments = [*options(task, tmp_path), f"--output_dir={tmp_path / 'run'}", "--train.steps=1"]
    with pytest.raises(InputError, match=r"^data\.val: .* holds no usable labelled text: 1 label is no class"):
        train(*parse_finetune(arguments))


def test_what_cannot_be_used_is_refused(tmp_path):
    entails, tells = tiny_entailment(), tiny_nlvr()
    with pytest.raises(InputError, match=r"^image: 2 for 3 texts; give one for all, or one for each$"):
        entails.classify([square(0), square(1)], ["a", "b", "c"])
    with pytest.raises(InputError, match=r"^right: 3 for 2 texts; give one for all, or one for each$"):
        tells.answer(square(0), [square(1)] * 3, ["a", "b"])
    with pytest.raises(InputError, match=r"^right\[0\]: 'nowhere\.jpg' is no file"):
        tells.answer(square(0), "nowhere.jpg", "a dog")
    with pytest.raises(InputError, match=r"^left: there are none"):
        tells.answer([], square(0), "a dog")
    with pytest.raises(InputError, match=r"^text\[0\]: '\?' has no words"):
        entails.classify(square(0), "?")
    tiny_vqa().save_pretrained(tmp_path / "vqa")
    with pytest.raises(InputError, match=r"^a vqa model is no TCLForNLVR; load it with TCLForVQA$"):
        TCLForNLVR.from_pretrained(tmp_path / "vqa")


@pytest.mark.parametrize(("task", "other"), [("entailment", "nlvr"), ("nlvr", "entailment"), ("nlvr", "vqa")])
def test_weights_of_another_task_are_refused(task, other, tmp_path):
    SHARDS[task](tmp_path / "train.tar", range(12))
    SHARDS[task](tmp_path / "val.tar", range(12))
    made = {"nlvr": tiny_nlvr, "entailment": tiny_entailment, "vqa": tiny_vqa}[other]
    made().save_pretrained(tmp_path / "other")
    plain = [option for option in options(task, tmp_path) if not option.startswith("--model.")]
    config, build = parse_finetune([*plain, f"--init={tmp_path / 'other'}", "--output_dir=run"])
    with pytest.raises(InputError, match=r"^init: .* is of another architecture: "):
        build(config, Accelerator(cpu=True))


def test_images_of_a_batch_are_encoded_once_and_shared(trained):
    """The evaluation's places give the logits that training's pairs give."""
    task, folder, run_folder = trained
    config, build = parse_finetune([*options(task, folder), f"--init={run_folder}", "--output_dir=run"])
    made = build(config, Accelerator(cpu=True))
    made.student.eval()
    whole = made.evaluate.keywords["statements"]
    three = [whole.read(sample.fields, sample.key) for _, sample in whole.raw(0, 3)]
    statements = whole.collate([*three, *reversed(three)])
    assert len(statements.views) == 3 * len(made.student.networks.images) and len(statements.ids) == 6
    networks = made.student.networks
    with torch.no_grad():
        shared = networks.logits(statements.views, statements.ids, statements.mask, statements.places)
        apart = statements.views[statements.places.T.flatten()]
        torch.testing.assert_close(shared, networks.logits(apart, statements.ids, statements.mask))
