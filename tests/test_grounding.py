"""The task grounding: evaluated against a loop by hand, trained, and what it leaves and refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from data_files import TOKENIZER, encode, noise, write_tar
from launching import launch
from tiny_pretrained import tiny_tcl, tiny_towers
from torch.nn import functional as F

from tcl import TCL
from tcl.commands.main import run
from tcl.commands.task_options import parse_finetune
from tcl.errors import InputError
from tcl.evaluation.box_overlap import iou
from tcl.inference.heat_map import grad_cam
from tcl.training.dry_run import dry_run
from tcl.training.evaluate_only import evaluate_only

SIZE = (40, 30)
PHRASES = ["a red dog", "cat", "the blue thing on mat", "a dog", "mat", "green", "number", "red red red dog", "a cat"]
BOXES = [[0, 0, 20, 15], [20, 15, 20, 15], [5.5, 3.2, 30, 20], [0, 15, 22, 15], [18, 0, 22, 16]]


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def expressions() -> list[list[tuple[str, list]]]:
    """Of each image; the fourth has no proposals."""
    per_image = (3, 1, 2, 2, 1)
    texts = iter(PHRASES)
    return [[(next(texts), BOXES[(i + j) % len(BOXES)]) for j in range(count)] for i, count in enumerate(per_image)]


@pytest.fixture
def data(tmp_path) -> Path:
    """Two kinds of models, and images with expressions."""
    tiny_tcl().save_pretrained(tmp_path / "tcl")
    tiny_towers().save_pretrained(tmp_path / "clip")
    entries = []
    for i, of_image in enumerate(expressions()):
        said = {"captions": [text for text, _ in of_image], "boxes": [box for _, box in of_image], "image_id": i}
        said |= {} if i == 3 else {"proposals": BOXES[i % 2 :]}
        entries += [(f"{i}.png", encode(noise(i, SIZE), "PNG")), (f"{i}.json", json.dumps(said).encode())]
    write_tar(tmp_path / "val.tar", entries)
    return tmp_path


def options(data: Path, *more: str, kind: str = "tcl") -> list[str]:
    return [
        "--task=grounding",
        f"--init={data / kind}",
        f"--data.val={data / 'val.tar'}",
        f"--output_dir={data / 'out'}",
        "--data.workers=0",
        "--data.max_tokens=12",
        "--data.max_words=8",
        "--train.precision=fp32",
        *more,
    ]


def evaluated(data: Path, *more: str, kind: str = "tcl") -> tuple[dict, list[dict]]:
    """Metrics and what was found."""
    evaluate_only(*parse_finetune(options(data, *more, kind=kind), trains=False))
    results = data / "out" / "results"
    found = [json.loads(line) for line in (results / "grounding.jsonl").read_text().splitlines()]
    return json.loads((results / "metrics.json").read_text()), found


def map_by_hand(model: TCL, image, text: str, layer: int) -> torch.Tensor:
    """Of one pair alone: the mean over its tokens, [CLS] included, enlarged."""
    with torch.no_grad():
        tokens = model.student.encoders.image_encoder(model.transform(np.array(image))[None])
    ids = torch.tensor([[TOKENIZER.cls_token_id, *TOKENIZER(text, add_special_tokens=False)["input_ids"]]])
    heat = grad_cam(model.student, tokens, ids, layer).mean(dim=0).reshape(1, 1, 2, 2)
    return F.interpolate(heat, size=(SIZE[1], SIZE[0]), mode="bicubic")[0, 0]


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_it_agrees_with_a_loop_by_hand(data, layer, batch_size):
    metrics, found = evaluated(data, f"--eval.layer={layer}", f"--eval.batch_size={batch_size}")
    model = TCL.from_pretrained(data / "tcl", device="cpu", precision="fp32")
    rows, right = iter(found), []
    for i, of_image in enumerate(expressions()):
        for text, box in of_image:
            row = next(rows)
            cleaned = text.lower()
            heat = map_by_hand(model, noise(i, SIZE), cleaned, layer)
            assert row["text"] == cleaned and row["box"] == pytest.approx(box)
            assert row["iou"] == pytest.approx(iou(tuple(box), tuple(row["found"])))
            right.append(row["iou"] >= 0.5)
            if i == 3:
                assert row["proposal"] is None
                continue
            proposals = BOXES[i % 2 :]
            scores = [
                float(heat[int(y) : int(y + h), int(x) : int(x + w)].sum()) / (w * h) ** 0.5 for x, y, w, h in proposals
            ]
            assert not row["blank"] and row["proposal"] == int(np.argmax(scores))
            assert row["found"] == pytest.approx(proposals[row["proposal"]])
            assert row["score"] == pytest.approx(max(scores), rel=1e-3)
    assert metrics["accuracy"] == pytest.approx(100 * np.mean(right))
    assert metrics["mean_iou"] == pytest.approx(100 * np.mean([row["iou"] for row in found]))
    assert metrics["pointing"] == pytest.approx(100 * np.mean([row["pointed"] for row in found]))
    assert metrics["no_proposals"] == 2 and metrics["blank"] == sum(row["blank"] for row in found)


def test_python_finds_the_same(data):
    _, found = evaluated(data, "--eval.mode=itc")
    model = TCL.from_pretrained(data / "tcl", device="cpu", precision="fp32")
    rows = iter(found)
    for i, of_image in enumerate(expressions()):
        for text, _ in of_image:
            row, boxes = next(rows), None if i == 3 else BOXES[i % 2 :]
            one = model.ground(noise(i, SIZE), text, boxes, mode="itc")
            assert one.index == row["proposal"] and one.box == pytest.approx(row["found"])
            assert one.score == pytest.approx(row["score"], rel=1e-4) and one.point == pytest.approx(row["point"])


def test_blind_scores(data):
    """What is right without a text: counted here by loops."""
    metrics, _ = evaluated(data)
    chance, largest, middle = [], [], []
    for i, of_image in enumerate(expressions()):
        for _, box in of_image:
            boxes = [] if i == 3 else BOXES[i % 2 :]
            hits = [iou(tuple(box), tuple(one)) >= 0.5 for one in boxes]
            chance.append(np.mean(hits) if hits else 0.0)
            areas = [one[2] * one[3] for one in boxes]
            largest.append(hits[areas.index(max(areas))] if hits else iou(tuple(box), (0, 0, *SIZE)) >= 0.5)
            middle.append(box[0] <= 20 < box[0] + box[2] and box[1] <= 15 < box[1] + box[3])
    for name, rows in (("random", chance), ("largest", largest), ("middle", middle)):
        assert metrics[f"blind_{name}"] == pytest.approx(100 * np.mean(rows))


@pytest.mark.slow
def test_two_processes_find_the_same(data):
    _, alone = evaluated(data, "--eval.batch_size=2")
    done = launch("finetune.py", *options(data, "--eval.batch_size=2", "--eval_only", f"--output_dir={data / 'two'}"))
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (data / "two" / "results" / "grounding.jsonl").read_text().splitlines()
    for one, other in zip(alone, map(json.loads, lines), strict=True):
        assert one["score"] == pytest.approx(other.pop("score"), rel=1e-4)
        assert {name: value for name, value in one.items() if name != "score"} == other


def test_the_command_prints_and_leaves_what_it_found(data, capsys):
    run(["evaluate", *options(data, "--eval.shown=3")])
    said = capsys.readouterr().out
    assert "9 expressions: box " in said and "2 of 9 expressions have no proposals; their boxes are made from" in said
    metrics = json.loads((data / "out" / "results" / "metrics.json").read_text())
    page = (data / "out" / "results" / "grounding.html").read_text()
    misses = round(9 * (1 - metrics["accuracy"] / 100))
    assert f"{min(3, misses)} of {misses} misses, worst first" in page
    assert len(re.findall(r'src="data:image/jpeg;base64,', page)) == min(3, misses)
    assert f"<td>{metrics['pointing']:.1f}</td>" in page


def test_embeddings_alone_are_enough_for_itc(data):
    evaluated(data, "--objective=clip", "--eval.mode=itc", kind="clip")
    for objective, kind in (("clip", "clip"), ("text_assignment", "tcl")):  # whose fusion encoder does not match
        with pytest.raises(InputError, match=r"^eval\.mode: 'itm' needs a fusion encoder that matches"):
            evaluated(data, f"--objective={objective}", kind=kind)


def test_a_compression_may_be_new(data):
    metrics, found = evaluated(data, "--model.fusion.image_tokens=2")
    assert len(found) == 9 and 0 <= metrics["accuracy"] <= 100


def test_it_trains_without_boxes_and_is_judged_by_them(data):
    """Samples without boxes are as good to train on; the run is a model like any other."""
    entries = []
    for i, of_image in enumerate(expressions()):
        said = {"captions": [text for text, _ in of_image]}
        entries += [(f"{i}.png", encode(noise(i, SIZE), "PNG")), (f"{i}.json", json.dumps(said).encode())]
    write_tar(data / "train.tar", entries)
    more = [f"--data.train={data / 'train.tar'}", "--train.batch_size=4", "--train.steps=2", "--eval.every=1"]
    arguments = options(
        data, *more, "--objective.queue_size=8", "--data.augment.whole_image=true", "--train.log_every=1"
    )
    run(["finetune", *arguments])
    rows = [json.loads(line) for line in (data / "out" / "metrics.jsonl").read_text().splitlines()]
    assert any("eval_accuracy" in row and "eval_pointing" in row for row in rows)
    steps = [row for row in rows if "loss" in row]
    assert steps and all(
        row["loss"] == pytest.approx((row["i2t"] + row["t2i"]) / 2 + row["itm"], rel=1e-4) for row in steps
    )
    assert (data / "out" / "checkpoints" / "best").exists()
    model = TCL.from_pretrained(data / "out", device="cpu", precision="fp32")
    assert model.ground(noise(0, SIZE), "a dog", BOXES).index in range(len(BOXES))
    run(["export", str(data / "out"), str(data / "export")])
    assert (data / "export" / "model.safetensors").is_file()


def test_a_dry_run_says_what_it_would_be(data, capsys):
    dry_run(*parse_finetune(options(data), trains=False))
    assert "parameters: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--eval.layer=2", r"^eval\.layer: 2, but the fusion encoder has 2; accepted: 0 to 1$"),
        ("--eval.layer=-1", r"^eval\.layer: -1 is not possible; accepted: a number >= 0$"),
        ("--eval.mode=both", r"^eval\.mode is 'both'; accepted: itm, itc"),
        ("--eval.batch_size=0", r"^eval\.batch_size: 0 is not possible"),
        ("--eval.shown=-1", r"^eval\.shown: -1 is not possible"),
        ("--init=null", r"^init: none, but there is nothing else to evaluate"),
    ],
)
def test_impossible_values(data, more, message):
    with pytest.raises(InputError, match=message):
        evaluated(data, more)
