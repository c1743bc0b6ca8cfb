"""Whole runs of finetune.py on small shards: they learn, resume, evaluate, and stop with one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from data_files import encode, write_tar
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from tcl.commands.task_options import parse_finetune, parse_pretrain
from tcl.config.model import ImageEncoderConfig
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.errors import InputError
from tcl.exports.pretrained import load_pretrained, save_pretrained
from tcl.tasks.pretrain import build as build_pretraining
from tcl.training.dry_run import dry_run
from tcl.training.evaluate_only import evaluate_only
from tcl.training.run import train

ROOT = Path(__file__).parents[1]
COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 220), "white": (250, 250, 250)}
NAMES = list(COLOURS)
TEXT = (
    "{hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64, hidden_dropout_prob: 0, "
    "initializer_range: 0.1}"
)
AUGMENT = ["flip_prob", "color_jitter_prob", "grayscale_prob", "blur_prob", "randaugment_ops"]


def halves(i: int) -> tuple[str, str]:
    """Colours of the left and the right half of picture i, two different ones."""
    left = i % 4
    return NAMES[left], NAMES[(left + 1 + i // 4 % 3) % 4]


def picture(i: int) -> bytes:
    image = Image.new("RGB", (32, 32), COLOURS[halves(i)[0]])
    image.paste(COLOURS[halves(i)[1]], (16, 0, 32, 32))
    image.putpixel((0, 0), (i, i, i))  # every picture is another one
    return encode(image, "PNG")


def caption_shards(folder: Path, indices: range) -> str:
    folder.mkdir()
    entries = []
    for i in indices:
        left, right = halves(i)
        captions = [f"{left} beside {right}", f"left {left} right {right}", f"{left} then {right}"]
        said = {"captions": captions, "image_id": i}
        entries += [(f"{i:04d}.png", picture(i)), (f"{i:04d}.json", json.dumps(said).encode())]
    write_tar(folder / "000000.tar", entries)
    return str(folder / "*.tar")


def question_shards(folder: Path, indices: range) -> str:
    """Two questions about each wall; what the second asks can be told without looking."""
    folder.mkdir()
    entries = []
    for i in indices:
        wall = Image.new("RGB", (32, 32), COLOURS[NAMES[i % 4]])
        wall.putpixel((0, 0), (i, i, i))  # every picture is another one
        for kind, question, answer in questions_about(i):
            said = {"question": question, "answers": [answer] * 10, "question_id": f"{i} {kind}"}
            said |= {"question_type": kind, "answer_type": "other"}
            key = f"{i:04d}{kind}"
            entries += [(f"{key}.png", encode(wall, "PNG")), (f"{key}.json", json.dumps(said).encode())]
    write_tar(folder / "000000.tar", entries)
    return str(folder / "*.tar")


def questions_about(i: int) -> tuple[tuple[str, str, str], ...]:
    return ("colour", "what colour is it?", f"{NAMES[i % 4]} wall"), ("thing", "what is it?", "wall")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Shards of captions and of questions, a tokenizer, and a pre-training run of three steps."""
    folder = tmp_path_factory.mktemp("finetune")
    caption_shards(folder / "captions", range(24, 96))
    caption_shards(folder / "captions_val", range(24))
    question_shards(folder / "questions", range(24, 96))
    question_shards(folder / "questions_val", range(24))
    (folder / "answers.txt").write_text("wall\n" + "".join(f"{name} wall\n" for name in NAMES))
    train_tokenizer(f"{folder}/{{captions,questions}}/*.tar", folder / "tokenizer", vocab_size=150)
    arguments = [
        f"--output_dir={folder / 'pretrained'}",
        f"--data.train=[{{'shards': '{folder}/captions/*.tar'}}]",
        f"--model.text.tokenizer={folder / 'tokenizer'}",
        f"--model.text.overrides={TEXT}",
        "--model.embed_dim=32",
        "--model.lmi_regions=2",
        "--model.image.image_size=32",
        "--model.image.overrides={embed_dim: 32, depth: 2, num_heads: 2}",
        "--objective.queue_size=8",
        "--data.workers=0",
        "--train.batch_size=8",
        "--train.steps=3",
        "--train.precision=fp32",
    ]
    train(parse_pretrain(arguments), build_pretraining)
    AcceleratorState._reset_state(reset_partial_state=True)
    return folder


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def common(folder: Path, kind: str, output_dir: Path) -> list[str]:
    return [
        f"--init={folder / 'pretrained'}",
        f"--output_dir={output_dir}",
        f"--data.train=[{{'shards': '{folder}/{kind}/*.tar'}}]",
        f"--data.val={folder}/{kind}_val/*.tar",
        "--data.workers=0",
        *(f"--data.augment.{name}=0" for name in AUGMENT),
        "--data.augment.crop_scale=[1.0,1.0]",
        "--objective.momentum=0.9",
        "--objective.alpha=0.2",
        "--optim.lr=0.003",
        "--optim.warmup_lr=0.001",
        "--optim.warmup_steps=5",
        "--train.batch_size=16",
        "--train.precision=fp32",
        "--train.log_every=5",
        "--eval.every=1000",
    ]


def retrieval(data: Path, output_dir: Path, *more: str):
    options = ["--task=retrieval", "--objective.queue_size=20", "--eval.rerank_k=6"]
    return parse_finetune([*common(data, "captions", output_dir), *options, *more])


def vqa(data: Path, output_dir: Path, *more: str):
    options = ["--task=vqa", "--answers.max_tokens=3", "--answers.rank_k=4"]
    return parse_finetune([*common(data, "questions", output_dir), *options, *more])


def rows(output_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]


def test_retrieval_learns_and_leaves_results(data, tmp_path):
    """24 pictures show 12 pairs of colours, each twice: a caption's own picture is one of two that fit, R@5 by chance
    5 of 24."""
    train(*retrieval(data, tmp_path, "--train.steps=100"))
    before, after = (row for row in rows(tmp_path) if "eval_mean" in row)
    chance = 100 * 5 / 24
    for name in ("eval_t2i_r5", "eval_i2t_r5"):
        assert before[name] < 1.7 * chance and after[name] > 2.4 * chance, (before, after)
    last = [row for row in rows(tmp_path) if "loss" in row][-1]
    assert {"i2t", "imc_image", "lmi_text", "itm", "itm_accuracy"} <= last.keys() and "mlm" not in last
    lines = [json.loads(line) for line in (tmp_path / "results" / "retrieval.jsonl").read_text().splitlines()]
    assert len(lines) == 24 + 72 and lines[3]["query"] == "3" and len(lines[3]["candidates"]) == 6
    recall = 100 * sum(line["rank"] == 1 for line in lines[:24]) / 24
    assert recall == pytest.approx(after["eval_rerank_i2t_r1"])
    assert "red beside green" in (tmp_path / "results" / "gallery.html").read_text()


def assert_same_state(ours: Path, theirs: Path) -> None:
    """Two checkpoints, to the bit."""
    for name in ("student.safetensors", "teacher.safetensors", "optimizer.safetensors"):
        found, right = load_file(ours / name), load_file(theirs / name)
        assert found.keys() == right.keys() and all(found[key].equal(right[key]) for key in right)


def test_retrieval_resumes_to_the_same_weights_ids_and_queues(data, tmp_path):
    """A run that was stopped and went on, and the run left alone."""
    options = ("--train.steps=6", "--train.save_every=3", "--train.log_every=1", "--data.augment.flip_prob=0.5")
    whole = train(*retrieval(data, tmp_path / "whole", *options))
    train(*retrieval(data, tmp_path / "halved", *options))
    shutil.rmtree(tmp_path / "halved" / "checkpoints" / "step_00000006")
    resumed = train(*retrieval(data, tmp_path / "halved", *options))
    assert_same_state(resumed, whole)
    ids = load_file(whole / "teacher.safetensors")["id_queue.ids"]
    assert (ids >= 0).all()  # 96 pairs went through a queue of 20
    assert (resumed / "progress.json").read_text() == (whole / "progress.json").read_text()


def test_zero_shot_evaluation_of_a_pretrained_run(data, tmp_path, capsys):
    evaluate_only(*retrieval(data, tmp_path))
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert {"i2t_r1", "t2i_median_rank", "rerank_i2t_r10", "rerank_mean"} <= metrics.keys()
    assert "retrieval of 24 images x 72 texts: i2t_r1" in capsys.readouterr().out
    assert (tmp_path / "results" / "gallery.html").is_file() and not (tmp_path / "checkpoints").exists()


def test_evaluating_a_fine_tuned_run_gives_what_its_last_step_found(data, tmp_path):
    train(*retrieval(data, tmp_path / "run", "--train.steps=5"))
    found = [row for row in rows(tmp_path / "run") if "eval_mean" in row][-1]
    evaluate_only(*retrieval(data, tmp_path / "again", f"--init={tmp_path / 'run'}"))
    metrics = json.loads((tmp_path / "again" / "results" / "metrics.json").read_text())
    assert {f"eval_{name}": value for name, value in metrics.items()} == {k: v for k, v in found.items() if k != "step"}


@pytest.fixture(scope="module")
def vqa_run(data, tmp_path_factory) -> Path:
    """A trained model that writes its answers."""
    output_dir = tmp_path_factory.mktemp("vqa")
    train(*vqa(data, output_dir, "--train.steps=80"))
    AcceleratorState._reset_state(reset_partial_state=True)
    return output_dir


def test_vqa_learns_to_write_answers(data, vqa_run):
    before, after = (row for row in rows(vqa_run) if "eval_accuracy" in row)
    assert before["eval_accuracy"] == 0 and after["eval_accuracy"] > 90, after
    assert after["eval_accuracy/question_type/colour"] > 90 and "eval_accuracy/answer_type/other" in after
    submitted = json.loads((vqa_run / "results" / "answers.json").read_text())
    assert [one["question_id"] for one in submitted[:2]] == ["0 colour", "0 thing"] and len(submitted) == 48
    right = sum(one["answer"] == questions_about(i // 2)[i % 2][2] for i, one in enumerate(submitted))
    assert 100 * right / 48 == pytest.approx(after["eval_accuracy"])


@pytest.mark.parametrize("how", ["--answers.beams=1", "--answers.list={data}/answers.txt"])
def test_vqa_evaluates_its_run_by_greedy_writing_and_by_ranking(data, vqa_run, tmp_path, how, capsys):
    evaluate_only(*vqa(data, tmp_path, f"--init={vqa_run}", how.format(data=data), "--eval.metric=exact"))
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["accuracy"] > 90
    if "list" in how:
        assert (
            "answers.list: 5 answers; 0 of 48 questions of data.val have none of theirs in it"
            in capsys.readouterr().out
        )


def test_vqa_resumes_to_the_same_weights(data, tmp_path):
    options = ("--train.steps=4", "--train.save_every=2", "--train.accumulate_steps=2", "--data.workers=2")
    whole = train(*vqa(data, tmp_path / "whole", *options))
    train(*vqa(data, tmp_path / "halved", *options))
    shutil.rmtree(tmp_path / "halved" / "checkpoints" / "step_00000004")
    resumed = train(*vqa(data, tmp_path / "halved", *options))
    assert_same_state(resumed, whole)


def test_vqa_starts_from_the_pretrained_encoders_and_the_fusion_layers(data, tmp_path):
    config, build = vqa(data, tmp_path)
    task = build(config, _accelerator())
    theirs = load_file(data / "pretrained" / "checkpoints" / "step_00000003" / "student.safetensors")
    own = task.student.state_dict()
    for name, tensor in own.items():
        if ".decoder." not in name:
            assert tensor.equal(theirs[name.replace("networks.", "encoders.", 1)]), name
    layer = "layers.0.self_attention.query.weight"
    assert own[f"networks.decoder.{layer}"].equal(theirs[f"encoders.fusion_encoder.{layer}"])
    teacher = task.teacher.networks.state_dict()
    assert all(teacher[name.removeprefix("networks.")].equal(tensor) for name, tensor in own.items())


def _accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


def test_the_model_of_the_run_is_the_default_and_another_resolution_is_interpolated(data, tmp_path):
    config, build = vqa(data, tmp_path, "--model.image.image_size=64")
    assert config.model.embed_dim == 32 and config.model.text.overrides["hidden_size"] == 32
    assert config.model.image == ImageEncoderConfig(
        image_size=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        overrides={"embed_dim": 32, "depth": 2, "num_heads": 2},
    )
    assert config.model.text.tokenizer == str(data / "pretrained" / "tokenizer")
    notices = build(config, _accelerator()).notices
    assert "init: position embeddings interpolated from 2 x 2 to 4 x 4" in notices


def test_dry_run(data, tmp_path, capsys):
    dry_run(*vqa(data, tmp_path / "run"))
    printed = capsys.readouterr().out
    assert "144 samples; first batch: image (16, 3, 32, 32), text of " in printed and "memory per device" in printed
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_architecture_names_the_sizes(data, tmp_path):
    config, build = vqa(data, tmp_path, "--model.image.overrides={embed_dim: 48, depth: 2, num_heads: 2}")
    with pytest.raises(InputError, match=r"^init: .* is of another architecture: .* is \(32, 32\), here \(32, 48\)"):
        build(config, _accelerator())


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (vqa, ["--answers.list=nowhere.txt"], r"^answers\.list: 'nowhere\.txt' is not possible; accepted: a file"),
        (vqa, ["--answers.rank_k=0"], r"^answers\.rank_k: 0 is not possible; accepted: a number >= 1$"),
        (vqa, ["--eval.metric=f1"], r"^eval\.metric is 'f1'; accepted: vqa, exact"),
        (vqa, ["--data.val=nowhere/*.tar"], r"no file matches nowhere"),
        (retrieval, ["--train.batch_size=1"], r"^train\.batch_size: 1 with objective\.itm_weight"),
        (
            retrieval,
            ["--task=depth"],
            r"^task: 'depth' is not possible; .*: classification, .*retrieval, vqa",
        ),
        (retrieval, ["--config=nowhere.yaml"], r"^config: 'nowhere\.yaml' cannot be read"),
    ],
)
def test_impossible_options_are_named(data, tmp_path, task, options, message):
    with pytest.raises(InputError, match=message):
        task(data, tmp_path, *options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^answers\.list: .* is empty; give one answer a line$"),
        (b"red\nblue\nred\n", r"^answers\.list: .* holds 'red' twice"),
        (b"\xff\xfe", r"^answers\.list: .* is not UTF-8"),
    ],
)
def test_answer_lists_that_cannot_be_ranked(data, tmp_path, content, message):
    path = tmp_path / "answers.txt"
    path.write_bytes(content)
    config, build = vqa(data, tmp_path, f"--answers.list={path}")
    with pytest.raises(InputError, match=message):
        build(config, _accelerator())


def test_gold_answers_that_the_list_lacks_are_counted(data, tmp_path):
    path = tmp_path / "answers.txt"
    path.write_text("red wall\nblue wall\n")
    config, build = vqa(data, tmp_path, f"--answers.list={path}", "--answers.rank_k=3")
    lost = 24 + sum(NAMES[i % 4] in ("green", "white") for i in range(24))
    expected = f"answers.list: 2 answers; {lost} of 48 questions of data.val have none of theirs in it"
    notices = build(config, _accelerator()).notices
    assert expected in notices
    assert "answers.rank_k: 3, but answers.list holds 2; all of them are ranked" in notices


def test_evaluation_alone_needs_no_training_data(data, tmp_path):
    arguments = [
        *common(data, "captions", tmp_path),
        "--task=retrieval",
        "--eval.rerank_k=6",
        "--data.train=[{'shards': 'nowhere'}]",
    ]
    with pytest.raises(InputError, match="nowhere does not exist"):
        parse_finetune(arguments)
    evaluate_only(*parse_finetune(arguments, trains=False))


def test_results_that_cannot_be_written(data, tmp_path):
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(InputError, match=r"^output_dir: .*results cannot be written \(File exists\)"):
        evaluate_only(*retrieval(data, tmp_path))


def test_published_weights_bring_their_normalisation(data, tmp_path):
    """And the fine-tuned run's configuration remembers it."""
    golden = ROOT / "tests" / "golden" / "retrieval.safetensors"
    with safe_open(golden, "pt") as file:
        state = {key[6:]: file.get_tensor(key) for key in file.keys() if key.startswith("state.")}  # noqa: SIM118
    torch.save({"model": state}, tmp_path / "published.pth")
    sizes = [
        "--model.embed_dim=16",
        "--model.image.image_size=64",
        "--model.image.overrides={patch_size: 16, embed_dim: 32, depth: 2, num_heads: 4}",
        "--model.text.overrides={hidden_size: 24, num_hidden_layers: 4, num_attention_heads: 4, intermediate_size: 96,"
        " max_position_embeddings: 64, vocab_size: 97}",
    ]
    small = tmp_path / "tokenizer"
    train_tokenizer(f"{data}/captions/*.tar", small, vocab_size=100)
    config, build = retrieval(
        data, tmp_path / "run", f"--init={tmp_path / 'published.pth'}", f"--model.text.tokenizer={small}", *sizes
    )
    task = build(config, _accelerator())
    assert task.student.encoders.image_encoder.mean == (0.48145466, 0.4578275, 0.40821073)
    assert config.model.image.std == (0.26862954, 0.26130258, 0.27577711)
    assert task.student.state_dict()["itm_head.weight"].equal(state["itm_head.weight"])


def test_an_export_of_a_run_is_a_start_like_the_run_itself(data, tmp_path):
    save_pretrained(load_pretrained(str(data / "pretrained")), tmp_path / "export")
    (config, build), (of_run, build_of_run) = (
        vqa(data, tmp_path / "run", f"--init={init}") for init in (tmp_path / "export", data / "pretrained")
    )
    assert config.model.text.tokenizer == str(tmp_path / "export")
    torch.manual_seed(0)
    task = build(config, _accelerator())
    torch.manual_seed(0)
    expected = build_of_run(of_run, _accelerator())
    assert task.student.networks.image_encoder.mean == expected.student.networks.image_encoder.mean
    assert task.notices == expected.notices
    theirs = expected.student.state_dict()
    assert all(theirs[name].equal(tensor) for name, tensor in task.student.state_dict().items())


def test_nothing_to_evaluate(data, tmp_path):
    config, build = vqa(data, tmp_path)
    config.init = None
    with pytest.raises(InputError, match=r"^init: none"):
        evaluate_only(config, build)
    config.init, config.data.val = str(data / "pretrained"), None
    with pytest.raises(InputError, match=r"^data\.val: none"):
        evaluate_only(config, build)


def test_a_test_split_without_answers_is_answered_but_not_scored(data, vqa_run, tmp_path, capsys):
    said = {"question": "what colour is it?", "question_id": 5}
    write_tar(tmp_path / "0.tar", [("0.png", picture(0)), ("0.json", json.dumps(said).encode())])
    evaluate_only(*vqa(data, tmp_path / "run", f"--init={vqa_run}", f"--data.val={tmp_path / '0.tar'}"))
    assert "1 questions answered, none of which has an answer to compare with" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "results" / "answers.json").read_text())[0]["question_id"] == 5


def test_a_command_line_error_is_one_line_with_exit_code_2():
    command = [sys.executable, "finetune.py", "--task=vqa", "--train.steps=none_at_all"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == done.stderr.splitlines()[-1:]


def test_every_configuration_can_be_read(monkeypatch):
    """But for its shards and answer lists, which are not there."""
    monkeypatch.setattr("tcl.data.shards.list_shards.list_shards", lambda pattern: [pattern])
    monkeypatch.setattr("tcl.tasks.vqa.require", lambda *_: None)
    found = sorted((ROOT / "configs" / "finetune").glob("*.yaml"))
    assert {path.stem for path in found} >= {"retrieval_coco", "retrieval_flickr30k", "vqa_v2", "easy_vqa"}
    for path in found:
        config, _ = parse_finetune(["--config", str(path)])
        assert path.stem.startswith("retrieval") == (config.task == "retrieval")


@pytest.mark.slow
def test_two_processes_find_what_one_finds(data, vqa_run, tmp_path):
    """Both tasks' evaluations, shared by two gloo processes."""
    for task, output in ((retrieval, "retrieval"), (vqa, "vqa")):
        init = vqa_run if task is vqa else data / "pretrained"
        evaluate_only(*task(data, tmp_path / f"{output}_1", f"--init={init}"))
        AcceleratorState._reset_state(reset_partial_state=True)
        options = [f"--task={output}", f"--init={init}"]
        own = ["--eval.rerank_k=6"] if task is retrieval else ["--answers.max_tokens=3"]
        kind = "captions" if task is retrieval else "questions"
        shared = [o for o in common(data, kind, tmp_path / f"{output}_2") if "init" not in o]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "finetune.py"]
        subprocess.run([*command, *shared, *options, *own, "--eval_only"], cwd=ROOT, check=True, capture_output=True)
        one, two = (json.loads((tmp_path / f"{output}_{n}" / "results" / "metrics.json").read_text()) for n in (1, 2))
        assert two == pytest.approx(one, rel=1e-6)
        assert torch.tensor(list(one.values())).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "zero3"])
def test_vqa_trains_on_two_processes_as_on_one_that_accumulates(data, tmp_path, mode):
    """Three steps of DDP, and of weights in pieces, which the decoder's layers and its tied head must fetch."""
    steps = ["--train.steps=3", "--train.log_every=1", "--train.batch_size=4", "--data.val=null", "--data.workers=0"]
    options = [o for o in common(data, "questions", tmp_path / mode) if "data.val" not in o and "batch_size" not in o]
    options += ["--task=vqa", "--answers.max_tokens=3", *steps]
    if mode == "zero3":
        options.append("--train.deepspeed=configs/deepspeed/zero3.json")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "finetune.py"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [row for row in rows(tmp_path / mode) if "answer" in row]
    config, build = vqa(data, tmp_path / "one", *steps, "--train.accumulate_steps=2", "--data.workers=2")
    config.data.val = None
    train(config, build)
    alone = [row for row in rows(tmp_path / "one") if "answer" in row]
    assert [row["answer"] for row in found] == pytest.approx([row["answer"] for row in alone], rel=1e-4)
    assert [row["grad_norm"] for row in found] == pytest.approx([row["grad_norm"] for row in alone], rel=1e-3)
