"""Every command of docs/command_line.md and docs/search.md runs, on tiny models and generated pictures; `tcl serve`,
which does not end by itself, in tests/test_serve.py. Those of README.md and docs/data.md: tests/test_readme.py."""

import contextlib
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from accelerate.state import AcceleratorState
from clips_run import sample
from data_files import JPEG, encode, noise, pair, write_tar
from media_files import film, tone, wav
from safetensors.numpy import load_file
from tiny_foreign import save_blip, save_clip
from tiny_pretrained import tiny_clips, tiny_compressed, tiny_entailment, tiny_nlvr, tiny_tcl, tiny_vqa

from tcl.commands import COMMANDS
from tcl.commands.main import run

ROOT = Path(__file__).parents[1]
PHOTOS = ("dog.jpg", "cat.jpg", "deeper/street.jpg")


def commands_of(page: str) -> list[str]:
    """Lines of ```bash blocks, and indented ones, that start with `tcl`; not those that show what a mistake gets."""
    return re.findall(r"^(?: {4,7})?(tcl [^`\n]+)$", (ROOT / page).read_text(), flags=re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with what the pages speak of."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate((*PHOTOS, "street.jpg")):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        noise(i, (40, 30)).save(Path("photos", name))
    rows = [{"image": name, "captions": ["a dog on mat", "a cat"]} for name in PHOTOS] * 3
    Path("train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    Path("queries.txt").write_text("a dog\na cat\n")
    for place in ("questions", "dev"):
        Path("data", place).mkdir(parents=True)
    write_tar(
        Path("data/dev/000000.tar"), [entry for i in range(3) for entry in pair(str(i), "a cat", encode(noise(20 + i)))]
    )
    asked = json.dumps({"question": "what is it?", "answers": ["Dog", "cat", "dog"]}).encode()
    write_tar(Path("data/questions/000000.tar"), [("1.jpg", JPEG), ("1.json", asked)])
    Path("answers.txt").write_text("red\nblue\n")
    Path("boxes.json").write_text("[[0, 0, 20, 30], [10, 5, 20, 20]]")
    Path("media").mkdir()
    frames = [np.asarray(noise(i, (48, 32))) for i in range(8)]
    Path("media/dog.mp4").write_bytes(film(frames, sound=tone(1, 24_000)))
    Path("media/bark.wav").write_bytes(wav(tone(0.5, 16_000), 16_000))
    Path("media/cat.jpg").write_bytes(JPEG)
    Path("data/clips").mkdir()
    write_tar(Path("data/clips/000000.tar"), [entry for i in range(8) for entry in sample(i)])
    Path("data/labelled").mkdir()
    labels = (b"dog", b"1", b"dog", b"1")
    labelled = [((f"{i}.jpg", encode(noise(i))), (f"{i}.cls", label)) for i, label in enumerate(labels)]
    write_tar(Path("data/labelled/000000.tar"), [entry for sample in labelled for entry in sample])
    Path("classes.txt").write_text("dog\ncat\n")
    Path("templates.txt").write_text("a photo of a {}.\na {}\n")
    tiny_tcl().save_pretrained("runs/pretrain")
    tiny_vqa().save_pretrained("runs/vqa")
    tiny_compressed().save_pretrained("runs/compressed")
    tiny_clips().save_pretrained("runs/clips")
    save_clip(Path("models/clip"))
    save_blip(Path("models/blip"))
    tiny_entailment().save_pretrained("runs/entailment")
    tiny_nlvr().save_pretrained("runs/nlvr")
    sizes = json.loads(Path("runs/pretrain/config.json").read_text())["model"]
    sizes["text"]["tokenizer"] = "runs/pretrain"
    shared = {
        "data": {"train": [{"shards": "data/train/*.tar"}], "val": "data/train/*.tar", "workers": 0},
        "objective": {"queue_size": 8},
        "train": {"batch_size": 4, "steps": 1},
        "eval": {"rerank_k": 2, "every": 1},
    }
    Path("pretrain.yaml").write_text(yaml.safe_dump(shared | {"model": sizes}))
    Path("retrieval.yaml").write_text(yaml.safe_dump(shared | {"task": "retrieval"}))
    of_labels = {"train": [{"shards": "data/labelled/*.tar"}], "val": "data/labelled/*.tar", "workers": 0}
    classified = {"task": "classification", "classes": {"list": "classes.txt"}, "data": of_labels}
    Path("classification.yaml").write_text(yaml.safe_dump(classified | {"train": {"batch_size": 2, "steps": 1}}))
    yield tmp_path
    AcceleratorState._reset_state(reset_partial_state=True)


def run_line(line: str) -> None:
    """As a shell would: comments, quotes, and > into a file."""
    words = shlex.split(line, comments=True)[1:]
    if words[0] == "serve":
        from tcl.commands.serve import parser

        assert parser().parse_args(words[1:]).index.exists()
        return
    if ">" not in words:
        run(words)
        return
    with Path(words[-1]).open("w") as out, contextlib.redirect_stdout(out):
        run(words[:-2])


def test_the_page_about_the_command_line(folder, capsys):
    lines = commands_of("docs/command_line.md")
    assert {line.split()[1] for line in lines} == set(COMMANDS)
    said = []
    for line in lines:
        run_line(line)
        AcceleratorState._reset_state(reset_partial_state=True)
        said += capsys.readouterr().out.splitlines()
    for place in ("exports/mine", "exports/again", "exports/images"):
        assert Path(place, "model.safetensors").is_file()
    for name in ("retrieval", "classification", "zero_shot", "probed", "on_tokens", "judged"):
        assert Path("runs", name, "results/metrics.json").is_file()
    assert json.loads(Path("photos.ids.json").read_text()) == ["cat.jpg", "deeper/street.jpg", "dog.jpg", "street.jpg"]
    assert np.load("photos.npy").shape == (4, 8) and np.load("captions.npy").shape == (18, 8)
    train = load_file("train.safetensors")
    assert len(json.loads(train["ids"].tobytes())) == len(train["embeddings"]) == 9
    assert Path("data/tokenizer/tokenizer.json").is_file() and Path("curves.png").is_file()
    assert Path("data/answers.txt").read_text() == "dog\ncat\n"
    assert np.load("clips.npy").shape == (2, 8) and np.load("sounds.npy").shape == (2, 8)
    assert np.load("heard.npy").shape == (6, 12)  # every fifth sample lacks sound
    assert np.load("for_sounds.npy").shape == (2, 8) and any(line.endswith("/media/dog.mp4") for line in said)
    assert np.load("queries.npy").shape == (2, 8) and Path("where.png").is_file()
    assert "_tcl" in Path("tcl.bash").read_text() and "compdef" in Path("_tcl").read_text()
    assert Path("box.png").is_file() and any(line.startswith(("0.0 0.0 20.0 30.0  box 0", "10.0 5.0")) for line in said)
    assert any(line.startswith("0.") and line.endswith("  photos/cat.jpg  a cat") for line in said)
    assert len([line for line in said if line in ("red", "blue")]) == 2
    assert len([line for line in said if line.partition(" ")[0] in ("contradiction", "neutral", "entailment")]) == 2
    assert len([line for line in said if line.partition(" ")[0] in ("True", "False")]) == 2
    assert np.load("photos.hubness.npy").shape == (4,) and any(line.startswith("best: ") for line in said)


def test_the_page_about_search(folder, capsys):
    Path("runs/pretrain").rename("runs/mine")
    run_line("tcl shards --from jsonl --annotations train.jsonl --images photos --out data/train")
    lines = [line for line in commands_of("docs/search.md") if "openai/" not in line]  # which is on the hub
    assert len(lines) == 16
    capsys.readouterr()
    for line in lines:
        run_line(line)
    said = capsys.readouterr().out.splitlines()
    photos = [line for line in said if line.endswith("/photos/dog.jpg")]
    assert any(line.startswith("+1.000") for line in photos)
    assert sum(line.startswith("photos.index: 4 images (") for line in said) == 2
    assert "engine              faiss, flat" in said and Path("photos.db").exists()
    assert any(line.startswith("media.index: 3 clips and sounds (3 encoded") for line in said)
    assert any(line.startswith("+1.000") and line.endswith("/media/bark.wav") for line in said)
