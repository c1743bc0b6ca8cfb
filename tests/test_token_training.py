"""Training from stored tokens: the run from pixels with the same views and the same frozen tower, for less."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from data_files import encode, noise, write_tar
from launching import launch
from safetensors.torch import load_file
from token_run import VIEWS, options, write_options, write_pixels, write_tokens

from tcl.commands.main import run as command
from tcl.commands.task_options import parse_finetune, parse_pretrain
from tcl.encoders.grid_encoder import GridEncoder
from tcl.encoders.vit_encoder import ViTEncoder
from tcl.errors import InputError
from tcl.tasks.entailment import FORM as ENTAILMENT
from tcl.tasks.pretrain import build
from tcl.training.run import train

GRID = {"name": "resnet10t", "image_size": 64}


@pytest.fixture
def tower_in_fp16(monkeypatch):
    """A tower whose tokens are numbers of fp16: to store them loses nothing."""
    for kind in (ViTEncoder, GridEncoder):
        whole = kind._run
        monkeypatch.setattr(kind, "_run", lambda *given, whole=whole: whole(*given).half().float())


def losses_of(folder) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def pretrain(folder, config, shards, *more):
    given = [f"--config={config}", f"--data.train=[{{shards: '{shards}'}}]", f"--output_dir={folder}", *more]
    return train(parse_pretrain(given), build)


def assert_same_state(ours, theirs):
    for name in ("student", "optimizer", "teacher"):
        own, other = load_file(ours / f"{name}.safetensors"), load_file(theirs / f"{name}.safetensors")
        assert own.keys() == other.keys() and all(own[one].equal(other[one]) for one in own), name


@pytest.mark.parametrize("image", [None, GRID])
def test_where_storing_loses_nothing_the_run_is_that_from_pixels_to_the_bit(tmp_path, tower_in_fp16, image):
    pixels = write_pixels(tmp_path / "pixels")
    config = write_options(tmp_path / "run.yaml", options(tmp_path, pixels, image))
    tokens = write_tokens(config, pixels, tmp_path / "tokens", "--batch_size", "4")
    # A tower that remembers runs in batches of four, and so did the command: other sizes round otherwise.
    expected = pretrain(tmp_path / "of_pixels", config, pixels, "--model.image.remember=100")
    found = pretrain(tmp_path / "of_tokens", config, tokens)
    losses = losses_of(tmp_path / "of_tokens")
    assert losses == losses_of(tmp_path / "of_pixels") and len(set(losses)) == 6
    assert_same_state(found, expected)


@pytest.mark.parametrize(("storage", "off"), [("fp16", 1e-3), ("int8", 2e-2)])
def test_losses_are_those_from_pixels_within_the_precision_of_storing(tmp_path, storage, off):
    pixels = write_pixels(tmp_path / "pixels")
    config = write_options(tmp_path / "run.yaml", options(tmp_path, pixels))
    tokens = write_tokens(config, pixels, tmp_path / "tokens", "--storage", storage)
    more = ["--data.workers=1"]
    pretrain(tmp_path / "of_pixels", config, pixels, *more)
    pretrain(tmp_path / "of_tokens", config, tokens, *more)
    assert losses_of(tmp_path / "of_tokens") == pytest.approx(losses_of(tmp_path / "of_pixels"), rel=off)


def test_the_tower_runs_in_evaluation_only(tmp_path, monkeypatch):
    pixels = write_pixels(tmp_path / "pixels")
    config = write_options(tmp_path / "run.yaml", options(tmp_path, pixels))
    tokens = write_tokens(config, pixels, tmp_path / "tokens")
    seen = []
    whole = ViTEncoder._run

    def watched(self, image, *given):
        if not image.is_meta:  # of a network without memory, which is built to see what it takes
            seen.append(self.training)
        return whole(self, image, *given)

    monkeypatch.setattr(ViTEncoder, "_run", watched)
    pretrain(tmp_path / "alone", config, tokens)
    assert seen == []
    pretrain(tmp_path / "judged", config, tokens, f"--data.val={pixels}", "--eval.rerank_k=2")
    assert set(seen) == {False}
    assert losses_of(tmp_path / "judged") == losses_of(tmp_path / "alone")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_to_the_bit(tmp_path, workers):
    pixels = write_pixels(tmp_path / "pixels")
    config = write_options(tmp_path / "run.yaml", options(tmp_path, pixels))
    tokens = write_tokens(config, pixels, tmp_path / "tokens", "--storage", "int8")
    more = [f"--data.workers={workers}", "--train.steps=8"]
    whole = pretrain(tmp_path / "whole", config, tokens, *more, "--train.save_every=3")
    again = pretrain(tmp_path / "parts", config, tokens, *more, f"--train.resume={whole.with_name('step_00000003')}")
    assert_same_state(again, whole)
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")[3:]


def test_sources_mix_as_those_of_pixels_do(tmp_path, tower_in_fp16):
    one, two = write_pixels(tmp_path / "one"), write_pixels(tmp_path / "two", image_ids=True)
    config = write_options(tmp_path / "run.yaml", options(tmp_path, one))
    of_one, of_two = (
        write_tokens(config, shards, tmp_path / name, "--batch_size", "4") for name, shards in (("1", one), ("2", two))
    )
    for name, first, second in (("of_pixels", one, two), ("of_tokens", of_one, of_two)):
        sources = f"[{{shards: '{first}', weight: 1}}, {{shards: '{second}', weight: 3}}]"
        more = [f"--data.train={sources}", "--model.image.remember=100"]
        train(parse_pretrain([f"--config={config}", f"--output_dir={tmp_path / name}", *more]), build)
    assert losses_of(tmp_path / "of_tokens") == losses_of(tmp_path / "of_pixels")


def test_two_towers_without_a_teacher(tmp_path, tower_in_fp16):
    pixels = write_pixels(tmp_path / "pixels")
    said = options(tmp_path, pixels)
    said["objective"] = "clip"
    config = write_options(tmp_path / "run.yaml", said)
    tokens = write_tokens(config, pixels, tmp_path / "tokens", "--batch_size", "4")
    pretrain(tmp_path / "of_pixels", config, pixels, "--model.image.remember=100")
    pretrain(tmp_path / "of_tokens", config, tokens)
    assert losses_of(tmp_path / "of_tokens") == losses_of(tmp_path / "of_pixels")


def test_retrieval_on_tokens_of_the_model_that_it_starts_from(tmp_path, tower_in_fp16):
    """Samples of one image are known by the ids in their JSON, or by the bytes of an image that is no longer there."""
    pixels = write_pixels(tmp_path / "pixels", image_ids=True)
    said = options(tmp_path, pixels)
    config = write_options(tmp_path / "run.yaml", said | {"train": said["train"] | {"steps": 2}})
    pretrain(tmp_path / "before", config, pixels, "--model.image.frozen=false")
    shared = {name: said[name] for name in ("data", "objective", "optim", "train")}
    config = write_options(tmp_path / "tuned.yaml", shared)
    drawn = ["--config", str(config), "--batch_size", "4"]
    tokens = write_tokens(tmp_path / "before", pixels, tmp_path / "tokens", *drawn)
    for name, shards in (("of_pixels", pixels), ("of_tokens", tokens)):
        given = [f"--config={config}", f"--init={tmp_path / 'before'}", f"--data.train=[{{shards: '{shards}'}}]"]
        frozen = ["--model.image.frozen=true", "--model.image.remember=100"]
        train(*parse_finetune(["--task=retrieval", *given, *frozen, f"--output_dir={tmp_path / name}"]))
    assert losses_of(tmp_path / "of_tokens") == losses_of(tmp_path / "of_pixels")
    assert (tmp_path / "tokens" / "tokens.json").is_file()


def test_questions_and_classes(tmp_path, tower_in_fp16):
    pixels = write_pixels(tmp_path / "pixels")
    said = options(tmp_path, pixels)
    (tmp_path / "asked").mkdir()
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    entries = []
    for i in range(8):
        asked = {"question": "what is it?", "answers": ["dog", "cat"], "question_id": i, "label": ["dog", "cat"][i % 2]}
        entries += [(f"{i}.png", encode(noise(i, (40, 40)), "PNG")), (f"{i}.json", json.dumps(asked).encode())]
    asked = str(write_tar(tmp_path / "asked" / "000000.tar", entries))
    config = write_options(tmp_path / "run.yaml", said)
    tokens = write_tokens(config, asked, tmp_path / "tokens", "--batch_size", "4")
    shared = {name: said[name] for name in ("model", "data", "train")}
    for task, own in (("vqa", {}), ("classification", {"classes": {"list": str(tmp_path / "classes.txt")}})):
        of_task = write_options(tmp_path / f"{task}.yaml", shared | {"task": task} | own)
        for name, shards in (("pixels", asked), ("tokens", tokens)):
            given = [f"--config={of_task}", f"--data.train=[{{shards: '{shards}'}}]", "--model.image.remember=100"]
            train(*parse_finetune([*given, f"--output_dir={tmp_path / f'{task}_{name}'}"]))
        assert losses_of(tmp_path / f"{task}_tokens") == losses_of(tmp_path / f"{task}_pixels")


def statements(folder: Path) -> str:
    """A shard of images with a hypothesis and a caption."""
    folder.mkdir()
    entries = []
    for i in range(8):
        said = {
            "hypothesis": "a dog",
            "label": ENTAILMENT.classes[i % 3],
            "caption": f"a {'red' if i % 2 else 'blue'} dog",
        }
        entries += [(f"{i}.png", encode(noise(i, (40, 40)), "PNG")), (f"{i}.json", json.dumps(said).encode())]
    return str(write_tar(folder / "000000.tar", entries))


def test_texts_about_one_image_and_assignment_of_texts(tmp_path, tower_in_fp16):
    pixels = write_pixels(tmp_path / "pixels")
    said, shards = options(tmp_path, pixels), statements(tmp_path / "statements")
    config = write_options(tmp_path / "run.yaml", said)
    tokens = write_tokens(config, shards, tmp_path / "tokens", "--batch_size", "4")
    shared = {name: said[name] for name in ("model", "data", "train")}
    entailment = write_options(tmp_path / "entailment.yaml", shared | {"task": "entailment"})
    assignment = write_options(tmp_path / "assignment.yaml", shared | {"objective": "text_assignment"})
    for name, read in (("pixels", shards), ("tokens", tokens)):
        more = ["--model.image.remember=100"]
        given = [f"--config={entailment}", f"--data.train=[{{shards: '{read}'}}]", *more]
        train(*parse_finetune([*given, f"--output_dir={tmp_path / f'entailment_{name}'}"]))
        pretrain(tmp_path / f"assignment_{name}", assignment, read, *more)
    for task in ("entailment", "assignment"):
        losses = losses_of(tmp_path / f"{task}_tokens")
        assert losses == losses_of(tmp_path / f"{task}_pixels") and len(set(losses)) == 6


def test_texts_about_two_images_are_refused(tmp_path, stored):
    said, _, _, tokens, _ = stored
    config = write_options(tmp_path / "nlvr.yaml", {name: said[name] for name in ("model", "data", "train")})
    given = ["--task=nlvr", f"--config={config}", f"--data.train=[{{shards: '{tokens}'}}]"]
    with pytest.raises(
        InputError, match=r"^data\.train: .* one image a sample, but here a sample has 2 \(left, right\);"
    ):
        train(*parse_finetune([*given, f"--output_dir={tmp_path / 'run'}"]))


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    done = launch("tests/token_step.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    alone, *ranks = (torch.load(tmp_path / f"{name}.pt") for name in ("alone", 0, 1))
    assert len(alone) > 30
    torch.testing.assert_close(torch.stack([rank.pop("total") for rank in ranks]).mean(), alone.pop("total"))
    for name, value in alone.items():
        for rank in ranks:
            torch.testing.assert_close(rank[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [None, "zero2", "zero3"])
def test_two_processes_train_from_tokens_as_they_do_from_pixels(tmp_path, sharding):
    pixels = write_pixels(tmp_path / "pixels")
    config = write_options(tmp_path / "run.yaml", options(tmp_path, pixels))
    tokens = write_tokens(config, pixels, tmp_path / "tokens")
    more = [f"--train.deepspeed={sharding}"] if sharding else []
    for name, shards in (("of_pixels", pixels), ("of_tokens", tokens)):
        given = [f"--config={config}", f"--data.train=[{{shards: '{shards}'}}]", f"--output_dir={tmp_path / name}"]
        done = launch("pretrain.py", *given, *more)
        assert done.returncode == 0, done.stderr[-3000:]
    assert losses_of(tmp_path / "of_tokens") == pytest.approx(losses_of(tmp_path / "of_pixels"), rel=1e-3)


def test_a_dry_run_says_what_is_read(tmp_path, capsys):
    pixels = write_pixels(tmp_path / "pixels")
    config = write_options(tmp_path / "run.yaml", options(tmp_path, pixels))
    tokens = write_tokens(config, pixels, tmp_path / "tokens", "--storage", "int8")
    command(["pretrain", "--config", str(config), f"--data.train=[{{shards: '{tokens}'}}]", "--dry_run"])
    said = capsys.readouterr().out
    assert f"images: stored tokens of vit_base_patch16_224 at 32 px, {VIEWS} view(s) an image of 5 x 16 in int8" in said
    assert "image tokens (4, 5, 16) in int8" in said and "not usable: none" in said


REFUSED = [
    ({"model.image.frozen": False}, r"model\.image\.frozen: False is not possible with stored tokens"),
    ({"model.image.patch_drop": 0.5}, r"model\.image\.patch_drop: 0\.5 is not possible with stored tokens"),
    ({"model.image.image_size": 48}, r"model\.image\.image_size were 32, but here they are 48; train with that tower"),
    ({"model.image.mean": [0.5, 0.5, 0.4]}, r"model\.image\.mean were \(0\.5, 0\.5, 0\.5\), but here they are"),
    ({"model.image.std": [0.5, 0.5, 0.4]}, r"model\.image\.std were \(0\.5, 0\.5, 0\.5\), but here they are"),
    ({"model.image.name": "vit_small_patch16_224"}, r"model\.image\.name were vit_base_patch16_224, but here"),
    ({"model.image.overrides": {"embed_dim": 16, "depth": 2, "num_heads": 2}}, r"model\.image\.overrides were \{"),
    ({"seed": 1}, r"the weights of the image tower were \w{32}, but here they are \w{32}; train with that tower"),
    (
        {"data.augment.flip_prob": 0.0},
        r"data\.augment\.flip_prob: 0\.0, but the views of .*tokens\.json were drawn with",
    ),
    ({"data.augment.views": 2}, r"data\.augment\.views: 2, but the views of .*tokens\.json were drawn with 3"),
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Options of a run, its pixels, and their tokens in fp16 and int8."""
    folder = tmp_path_factory.mktemp("stored")
    pixels = write_pixels(folder / "pixels")
    said = options(folder, pixels)
    config = write_options(folder / "run.yaml", said)
    fp16, int8 = (write_tokens(config, pixels, folder / name, "--storage", name) for name in ("fp16", "int8"))
    return said, config, pixels, fp16, int8


@pytest.mark.parametrize(("other", "message"), REFUSED)
def test_tokens_of_another_tower_or_of_other_views_are_refused(tmp_path, stored, other, message):
    said, _, _, tokens, _ = stored
    given = yaml.safe_load(yaml.safe_dump(said))
    for name, value in other.items():
        *sections, last = name.split(".")
        place = given
        for section in sections:
            place = place[section]
        place[last] = value
    config = write_options(tmp_path / "run.yaml", given)
    with pytest.raises(InputError, match=message) as told:
        pretrain(tmp_path / "run", config, tokens)
    assert "\n" not in str(told.value) and not list(tmp_path.glob("run/checkpoints"))


def test_views_may_be_left_to_the_tokens(tmp_path, stored):
    _, config, _, tokens, _ = stored
    pretrain(tmp_path / "named", config, tokens)
    pretrain(tmp_path / "left", config, tokens, "--data.augment.views=null")
    assert losses_of(tmp_path / "named") == losses_of(tmp_path / "left")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ((2, 3), r"data\.train: .*fp16/\*\.tar hold stored tokens, and .*pixels/\*\.tar images; train from the one"),
        ((3, 4), r"data\.train: .*int8/tokens\.json and .*fp16/tokens\.json differ in storage; make them alike"),
    ],
)
def test_sources_that_do_not_go_together(tmp_path, stored, sources, message):
    train_on = "[" + ", ".join(f"{{shards: '{stored[i]}'}}" for i in sources) + "]"
    with pytest.raises(InputError, match=message):
        pretrain(tmp_path / "run", stored[1], stored[3], f"--data.train={train_on}")


def test_evaluation_reads_pixels(tmp_path, stored):
    with pytest.raises(InputError, match=r"stored tokens in place of an image"):
        pretrain(tmp_path / "run", stored[1], stored[3], f"--data.val={stored[3]}")


def test_an_evaluation_does_not_ask_what_was_trained_on(tmp_path, stored, capsys):
    _, config, pixels, tokens, _ = stored
    pretrain(tmp_path / "run", config, tokens)
    given = ["--task", "retrieval", "--init", str(tmp_path / "run"), f"--data.train=[{{shards: '{tokens}'}}]"]
    other = ["--model.image.frozen", "false", "--data.val", pixels, "--data.workers", "0", "--eval.rerank_k", "2"]
    command(["evaluate", *given, *other, "--output_dir", str(tmp_path / "judged")])
    assert "retrieval of 11 images" in capsys.readouterr().out
