"""Linear probes: against scikit-learn called by hand on features computed by hand, and what is refused in one line."""

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from data_files import encode, noise, write_tar
from launching import launch
from media_files import FPS, film, tone, wav
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from tiny_clips import SPECTROGRAM
from tiny_pretrained import tiny_classifier, tiny_clips, tiny_tcl, tiny_towers

from tcl.commands.main import run
from tcl.commands.task_options import parse_finetune
from tcl.config.clips_objective import ClipsObjectiveConfig
from tcl.data.audio.log_mel import log_mel
from tcl.errors import InputError
from tcl.training.evaluate_only import evaluate_only

NAMES = ["dog", "cat", "bird"]
SIZE = 32
RATE = SPECTROGRAM.sample_rate
Sample = dict[str, bytes]


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def label(i: int) -> int:
    return (i * i + i // 3) % len(NAMES)


def said(i: int, **more: object) -> bytes:
    return json.dumps({"label": NAMES[label(i)], **more}).encode()


def picture(i: int) -> Sample:
    return {"png": encode(noise(i, (SIZE, SIZE)), "PNG"), "json": said(i, fold=i % 3)}


def wave(i: int, seconds: float = 1.0) -> np.ndarray:
    return tone(seconds, RATE, hertz=200 + 70 * i) + tone(seconds, RATE, hertz=900 + 90 * label(i), amplitude=0.2)


def sound(i: int) -> Sample:
    return {"wav": wav(wave(i), RATE), "cls": NAMES[label(i)].encode()}


def movie(i: int) -> Sample:
    """16 frames of noise that becomes brighter or darker."""
    pixels = np.asarray(noise(i, (SIZE, SIZE)), np.float32)
    frames = [
        np.clip(pixels * 0.5 + (6 if i % 2 else -2) * n + 10 * label(i), 0, 255).astype(np.uint8) for n in range(16)
    ]
    return {"mp4": film(frames), "json": said(i)}


def shard(path: Path, sample: Callable[[int], Sample], indices: Sequence[int]) -> str:
    write_tar(path, [(f"{i:03d}.{name}", content) for i in indices for name, content in sample(i).items()])
    return str(path)


def options(folder: Path, model, features: str, *more: str) -> list[str]:
    model.save_pretrained(folder / "model")
    (folder / "classes.txt").write_text("\n".join(NAMES))
    return [
        *("--task=linear_probe", f"--init={folder / 'model'}", f"--classes={folder / 'classes.txt'}"),
        *(f"--probe.features={features}", f"--output_dir={folder / 'out'}", "--data.workers=0"),
        *("--eval.batch_size=5", "--train.precision=fp32", *more),
    ]


def probed(given: list[str], out: Path) -> tuple[dict[str, float], list[str]]:
    """Metrics and the classes found."""
    evaluate_only(*parse_finetune(given, trains=False))
    return found_in(out)


def found_in(out: Path) -> tuple[dict[str, float], list[str]]:
    lines = [json.loads(line) for line in (out / "results" / "predictions.jsonl").read_text().splitlines()]
    assert all(set(line) == {"key", "label", "predictions"} for line in lines)
    return json.loads((out / "results" / "metrics.json").read_text()), [line["predictions"][0] for line in lines]


def by_hand(train: np.ndarray, labels: list[int], asked: np.ndarray, C: float = 0.001) -> np.ndarray:
    """train [M, width], asked [N, windows, width] -> classes [N]."""
    scaler = StandardScaler().fit(train)
    svm = LinearSVC(C=C, random_state=0).fit(scaler.transform(train), labels)
    return np.array([svm.decision_function(scaler.transform(one)).mean(axis=0).argmax() for one in asked])


def image_features(encoder, i: int) -> np.ndarray:
    """[1, width], of noise(i) at its own size: nothing is scaled."""
    pixels = torch.from_numpy(np.asarray(noise(i, (SIZE, SIZE)), np.float32)).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(one)[:, None, None] for one in (encoder.mean, encoder.std))
    with torch.no_grad():
        return encoder((pixels - mean) / std)[:, 0].numpy()


def check_metrics(found: dict[str, float], guessed: Sequence[int], indices: Sequence[int]) -> None:
    right = np.array([guess == label(i) for guess, i in zip(guessed, indices, strict=True)])
    truth = np.array([label(i) for i in indices])
    assert found["top1"] == pytest.approx(100 * right.mean())
    assert found["mean_per_class"] == pytest.approx(100 * np.mean([right[truth == c].mean() for c in set(truth)]))


MODELS = {
    "tcl": (tiny_tcl, lambda model: model.student.encoders.image_encoder),
    "clip": (tiny_towers, lambda model: model.student.encoders.image_encoder),
    "clips": (
        lambda: tiny_clips(temporal="none"),
        lambda model: model.student.encoders.video_encoder.image_encoder,
    ),
    "classification": (lambda: tiny_classifier(NAMES), lambda model: model.student.networks.image_encoder),
}


@pytest.mark.parametrize("kind", list(MODELS))
@pytest.mark.parametrize(("C", "passes"), [(0.001, 0), (0.1, 0), (0.001, 2)])
def test_images(kind, C, passes, tmp_path):
    """Views that augmentation leaves as they are count as often as they are drawn."""
    model, encoder = MODELS[kind][0](), MODELS[kind][1]
    train, val = range(24), range(30, 44)
    plain = [f"--data.augment.{name}=0" for name in ("flip_prob", "color_jitter_prob", "grayscale_prob", "blur_prob")]
    given = [
        f"--probe.train={shard(tmp_path / 'train.tar', picture, train)}",
        f"--data.val={shard(tmp_path / 'val.tar', picture, val)}",
        *(f"--probe.C={C}", f"--probe.passes={passes}"),
        *(*plain, "--data.augment.randaugment_ops=0", "--data.augment.whole_image=true"),
    ]
    metrics, guessed = probed(options(tmp_path, model, "image", *given), tmp_path / "out")
    rows = np.concatenate([image_features(encoder(model), i) for i in train])
    repeated = np.repeat(rows, max(1, passes), axis=0)
    labels = np.repeat([label(i) for i in train], max(1, passes))
    expected = by_hand(repeated, labels, np.stack([image_features(encoder(model), i) for i in val]), C)
    assert guessed == [NAMES[guess] for guess in expected] and len(set(guessed)) > 1
    check_metrics(metrics, expected, val)


def test_views_to_learn_from_are_drawn(tmp_path):
    """With crops, other rows are learned from than without, and the same ones again."""
    files = [
        f"--probe.train={shard(tmp_path / 'train.tar', picture, range(24))}",
        f"--data.val={shard(tmp_path / 'val.tar', picture, range(30, 54))}",
    ]
    given = options(tmp_path, tiny_tcl(), "image", *files)
    whole = probed(given, tmp_path / "out")
    cut, again = (probed([*given, "--probe.passes=3"], tmp_path / "out") for _ in range(2))
    assert cut == again and cut != whole


def test_folds(tmp_path):
    model, every = tiny_tcl(), range(36)
    val = shard(tmp_path / "val.tar", picture, every)
    given = options(tmp_path, model, "image", f"--data.val={val}", "--probe.folds=fold")
    metrics, guessed = probed(given, tmp_path / "out")
    rows = np.concatenate([image_features(model.student.encoders.image_encoder, i) for i in every])
    expected, folds, labels = np.zeros(36, int), np.arange(36) % 3, np.array([label(i) for i in every])
    for fold in range(3):
        held = folds == fold
        expected[held] = by_hand(rows[~held], labels[~held], rows[held][:, None])
        assert metrics[f"top1_fold_{fold}"] == pytest.approx(100 * (expected == labels)[held].mean())
    assert guessed == [NAMES[guess] for guess in expected]
    check_metrics(metrics, expected, every)


def test_two_classes_have_one_value_and_a_table(tmp_path, capsys):
    """scikit-learn gives one number for two classes."""
    model = tiny_tcl()
    pair = [i for i in range(40) if label(i) < 2]
    train, val = pair[:14], pair[14:]
    files = [shard(tmp_path / f"{name}.tar", picture, some) for name, some in (("train", train), ("val", val))]
    given = options(tmp_path, model, "image", f"--probe.train={files[0]}", f"--data.val={files[1]}")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES[:2]))
    run(["evaluate", *given])
    _, guessed = found_in(tmp_path / "out")
    encoder = model.student.encoders.image_encoder
    scaler = StandardScaler().fit(rows := np.concatenate([image_features(encoder, i) for i in train]))
    svm = LinearSVC(C=0.001, random_state=0).fit(scaler.transform(rows), [label(i) for i in train])
    expected = svm.predict(scaler.transform(np.concatenate([image_features(encoder, i) for i in val])))
    assert guessed == [NAMES[guess] for guess in expected]
    assert f"accuracy on {len(val)} samples of 2 classes: top-1 " in capsys.readouterr().out
    table = list(csv.DictReader((tmp_path / "out" / "results" / "classes.csv").open()))
    assert [row["class"] for row in table] == NAMES[:2] and sum(int(row["samples"]) for row in table) == len(val)


def test_sounds(tmp_path):
    """Without any image beside them."""
    model, train, val = tiny_clips(), range(18), range(20, 32)
    files = [shard(tmp_path / f"{name}.tar", sound, some) for name, some in (("train", train), ("val", val))]
    given = options(tmp_path, model, "audio", f"--probe.train={files[0]}", f"--data.val={files[1]}")
    _, guessed = probed(given, tmp_path / "out")

    def features(i: int) -> np.ndarray:
        stored = np.rint(wave(i) * (2**15 - 1)) / 2**15
        spectrogram = log_mel(torch.from_numpy(stored.astype(np.float32))[None], SPECTROGRAM)
        with torch.no_grad():
            heard = torch.ones(spectrogram.shape[:2], dtype=bool)
            return model.student.encoders.audio_encoder(spectrogram, heard)[:, 0].numpy()

    rows = np.concatenate([features(i) for i in train])
    expected = by_hand(rows, [label(i) for i in train], np.stack([features(i) for i in val]))
    assert guessed == [NAMES[guess] for guess in expected]


@pytest.mark.parametrize("windows", [1, 3])
def test_clips(windows, tmp_path):
    """Four frames of 16, every second one: from frame 0, 4 and 8 on, or from 4 alone."""
    model, train, val = tiny_clips(), range(12), range(12, 22)
    files = [shard(tmp_path / f"{name}.tar", movie, some) for name, some in (("train", train), ("val", val))]
    given = options(tmp_path, model, "video", f"--probe.train={files[0]}", f"--data.val={files[1]}")
    _, guessed = probed([*given, f"--probe.windows={windows}"], tmp_path / "out")
    encoder = model.student.encoders.video_encoder
    assert model.pretrained.model.video.fps == FPS / 2

    def features(i: int) -> np.ndarray:
        """[windows, width]"""
        with av.open(io.BytesIO(movie(i)["mp4"])) as file:
            shown = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
        pixels = torch.from_numpy(shown).permute(0, 3, 1, 2)
        starts = (0, 4, 8) if windows == 3 else (4,)
        frames = torch.stack([pixels[start : start + 8 : 2] for start in starts])
        with torch.no_grad():
            return encoder(encoder.prepare(frames))[:, :, 0].mean(dim=1).numpy()

    rows = np.concatenate([features(i) for i in train])
    labels = np.repeat([label(i) for i in train], windows)
    expected = by_hand(rows, labels, np.stack([features(i) for i in val]))
    assert guessed == [NAMES[guess] for guess in expected]


def test_two_processes_find_what_one_finds(tmp_path):
    val = shard(tmp_path / "val.tar", picture, range(33))
    given = options(tmp_path, tiny_tcl(), "image", f"--data.val={val}", "--probe.folds=fold")
    alone = probed(given, tmp_path / "out")
    done = launch("-m", "tcl", "evaluate", *given, f"--output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert found_in(tmp_path / "two") == alone and done.stdout.count("accuracy on 33 samples") == 1


def test_an_encoder_that_no_loss_had_a_part_of_is_told(tmp_path, capsys):
    deaf = tiny_clips(objective=ClipsObjectiveConfig(va_weight=0))
    files = [shard(tmp_path / f"{name}.tar", sound, range(9)) for name in ("train", "val")]
    probed(options(tmp_path, deaf, "audio", f"--probe.train={files[0]}", f"--data.val={files[1]}"), tmp_path / "out")
    assert "had a part of 'audio', whose encoder is as it began" in capsys.readouterr().out


def unlabelled(i: int) -> Sample:
    return {"png": picture(i)["png"], "json": b"{}"}


def of_one_fold(i: int) -> Sample:
    return picture(i) | {"json": said(i, fold="a")}


def of_a_list(i: int) -> Sample:
    return picture(i) | {"json": said(i, fold=[1])}


def of_no_fold(i: int) -> Sample:
    return picture(i) | {"json": said(i)}


def of_a_lonely_bird(i: int) -> Sample:
    return picture(i) | {"json": json.dumps({"label": "bird" if i == 0 else NAMES[i % 2], "fold": i % 3}).encode()}


REFUSED = {
    "nothing to learn from": (
        [],
        picture,
        r"^probe\.train: none; give labelled shards to learn from, or as probe\.folds",
    ),
    "both": (
        ["--probe.train={val}", "--probe.folds=fold"],
        picture,
        r"^probe\.folds: 'fold', but there is probe\.train",
    ),
    "no labels": (
        ["--probe.train={val}"],
        unlabelled,
        r"^data\.val: '.*val\.tar' holds no usable labelled sample: 12 missing label",
    ),
    "a class with one sample": (
        ["--probe.train={val}"],
        of_a_lonely_bird,
        r"^probe\.train: class 'bird' has 1 sample\(s\) to learn from; give two or more of each$",
    ),
    "a class with none outside of a fold": (
        ["--probe.folds=fold"],
        of_a_lonely_bird,
        r"^probe\.folds: outside of fold '0': class 'bird' has 0 sample\(s\) to learn from",
    ),
    "no folds": (["--probe.folds=fold"], of_no_fold, r"no usable labelled sample: 12 missing 'fold', its fold"),
    "folds that are none": (["--probe.folds=fold"], of_a_list, r"12 'fold', its fold, is no whole number and no name"),
    "one fold": (
        ["--probe.folds=fold"],
        of_one_fold,
        r"^probe\.folds: 'fold' is 'a' in all 12 samples of data\.val; give a",
    ),
    "C": (["--probe.train={val}", "--probe.C=0"], picture, r"^probe\.C: 0.0 is not possible; accepted: a number > 0"),
    "passes": (["--probe.train={val}", "--probe.passes=-1"], picture, r"^probe\.passes: -1"),
    "windows": (["--probe.train={val}", "--probe.windows=0"], picture, r"^probe\.windows: 0"),
    "features": (
        ["--probe.train={val}", "--probe.features=text"],
        picture,
        r"^probe\.features is 'text'; accepted: video, audio, image",
    ),
    "no such shards": (["--probe.train={val}x"], picture, r"val\.tarx does not exist"),
    "no such encoder": (
        ["--probe.train={val}", "--probe.features=audio"],
        picture,
        r"^probe\.features: 'audio', but .*model holds no weights of its encoder, audio_encoder; give --init",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_refused(case, tmp_path):
    more, sample, message = REFUSED[case]
    val = shard(tmp_path / "val.tar", sample, range(12))
    given = options(tmp_path, tiny_tcl(), "image", f"--data.val={val}", *(one.format(val=val) for one in more))
    with pytest.raises(InputError, match=message) as refused:
        probed(given, tmp_path / "out")
    assert "\n" not in str(refused.value)


def test_one_class_is_none(tmp_path):
    val = shard(tmp_path / "val.tar", picture, range(6))
    given = options(tmp_path, tiny_tcl(), "image", f"--data.val={val}", f"--probe.train={val}")
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.raises(InputError, match=r"^classes: .*classes\.txt holds 1 class; give two or more"):
        probed(given, tmp_path / "out")


def test_no_classes_no_model_and_no_training(tmp_path):
    val = shard(tmp_path / "val.tar", picture, range(6))
    given = options(tmp_path, tiny_tcl(), "image", f"--data.val={val}", f"--probe.train={val}")
    with pytest.raises(InputError, match=r"^task: linear_probe trains no model; evaluate with `tcl evaluate"):
        parse_finetune(given)
    with pytest.raises(InputError, match=r"^classes: none; give a file"):
        parse_finetune([*given, "--classes=null"], trains=False)
    with pytest.raises(InputError, match=r"^init: none"):
        probed([*given, "--init=null"], tmp_path / "out")


def test_without_scikit_learn_one_line_says_what_to_install(tmp_path, monkeypatch):
    val = shard(tmp_path / "val.tar", picture, range(6))
    given = options(tmp_path, tiny_tcl(), "image", f"--data.val={val}", f"--probe.train={val}")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(InputError, match=r"^sklearn: not installed; run pip install 'tcl-vlp\[probe\]'$"):
        probed(given, tmp_path / "out")
