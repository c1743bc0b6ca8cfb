"""What commands print of names and texts from outside is one line each and does nothing to a terminal."""

import ast
import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState
from data_files import encode, noise, write_tar
from launching import ENVIRONMENT
from tiny_pretrained import tiny_tcl, tiny_vqa

from tcl.commands.main import run

ROOT = Path(__file__).parents[1]
EVIL = "\x1b[2J\n\u202egpj\u2028\x85\x07"
"""Clears the screen, breaks the line, turns the writing direction, breaks the line twice more, rings."""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder that is called so, with a model, a picture, shards and texts that are."""
    folder = tmp_path / f"in{EVIL}"
    folder.mkdir()
    monkeypatch.chdir(folder)
    tiny_tcl().save_pretrained(f"tcl{EVIL}")
    tiny_vqa(answers=[f"red{EVIL}", f"blue{EVIL}"]).save_pretrained("vqa")
    Path(f"photos{EVIL}").mkdir()
    noise().save(f"photos{EVIL}/dog{EVIL}.png", "PNG")
    Path(f"photos{EVIL}/broken{EVIL}.png").write_bytes(b"no image")
    samples = []
    for i in range(6):
        said = {"captions": [f"a red dog {EVIL}"], "question": f"what {EVIL}", "answers": [f"red{EVIL}"]}
        samples += [(f"{i}{EVIL}.png", encode(noise(i), "PNG")), (f"{i}{EVIL}.json", json.dumps(said).encode())]
    write_tar(Path(f"0{EVIL}.tar"), samples)
    Path("answers.txt").write_text("red\x1b[2J\nblue\u202e\n")
    Path("rows.jsonl").write_text(json.dumps({"image": f"dog{EVIL}.png", "caption": f"a {EVIL}"}) + "\n")
    for folder in (Path("."), Path(f"run{EVIL}")):
        folder.mkdir(exist_ok=True)
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0, "i2t": 2.0}\n')
    yield folder
    AcceleratorState._reset_state(reset_partial_state=True)


def acting(text: str) -> list[str]:
    return [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


MODEL, PHOTO, SHARDS = f"tcl{EVIL}", f"photos{EVIL}/dog{EVIL}.png", f"0{EVIL}.tar"
LINES = {
    "match": (["match", MODEL, "--images", PHOTO, PHOTO, "--texts", f"a dog {EVIL}", "a red cat"], 4),
    "explain": (["explain", MODEL, "--image", PHOTO, "--text", f"a dog {EVIL}", "--out", f"w{EVIL}.png"], 1),
    "encode a folder": (["encode", MODEL, "--images", f"photos{EVIL}", "--out", f"o{EVIL}.npy", "--workers", "0"], 2),
    "encode captions": (["encode", MODEL, "--shards", SHARDS, "--captions", "--out", f"o{EVIL}.npy"], 1),
    "index": (["index", MODEL, "--images", f"photos{EVIL}", "--out", f"i{EVIL}", "--workers", "0"], 3),
    "vqa": (["vqa", "vqa", "--image", PHOTO, "--questions", f"what {EVIL}", "where"], 2),
    "vqa of a list": (["vqa", "vqa", "--image", PHOTO, "--questions", "what", "--answers", "answers.txt"], 1),
    "export": (["export", MODEL, f"export{EVIL}"], 1),
    "convert": (["convert", "--to", "tcl", MODEL, f"export{EVIL}.pth"], 1),
    "tokenizer": (["tokenizer", "--shards", SHARDS, "--out", f"tok{EVIL}"], 1),
    "answers": (["answers", "--shards", SHARDS, "--out", f"list{EVIL}.txt"], 1),
    "plot": (["plot", ".", "--out", f"curves{EVIL}.png"], 1),
    "compare": (["compare", ".", f"run{EVIL}", "--out", f"curves{EVIL}.png"], 7),
    "shards": (
        [
            "shards",
            "--from=jsonl",
            "--annotations=rows.jsonl",
            f"--images=photos{EVIL}",
            f"--out=s{EVIL}",
            "--workers=1",
        ],
        1,
    ),
}


@pytest.mark.parametrize(("arguments", "lines"), LINES.values(), ids=LINES.keys())
def test_a_command_prints_lines_and_nothing_that_acts(arguments, lines, here, capfd):
    run(arguments)
    said = capfd.readouterr().out
    assert said.count("\n") == lines and said.endswith("\n"), said
    assert acting(said) == []


def test_a_search_too(here, capfd):
    run(["index", MODEL, "--images", f"photos{EVIL}", "--out", f"i{EVIL}", "--workers", "0"])
    run(["index", "--info", f"i{EVIL}"])
    run(["search", f"i{EVIL}", f"a dog {EVIL}", "--json"])
    run(["search", f"i{EVIL}", f"a dog {EVIL}"])
    said = capfd.readouterr().out
    assert acting(said) == [] and said.splitlines()[-1].endswith(".png")


def test_json_is_as_harmless_and_loses_nothing(here, capsys):
    run(["match", MODEL, "--images", PHOTO, "--texts", f"a dog {EVIL}", "--json"])
    said = capsys.readouterr().out
    assert acting(said) == []
    assert [(pair["image"], pair["text"]) for pair in json.loads(said)] == [(PHOTO, f"a dog {EVIL}")]


def test_a_dry_run_names_its_first_key(here, capsys):
    sizes = yaml.safe_load(Path(MODEL, "config.json").read_text())["model"]
    sizes["text"]["tokenizer"] = MODEL
    Path("run.yaml").write_text(yaml.safe_dump({"model": sizes, "objective": {"queue_size": 8}}))
    source = json.dumps([{"shards": SHARDS}])
    options = ["--config", "run.yaml", f"--data.train={source}", "--train.batch_size=2", "--train.steps=1"]
    run(["pretrain", *options, "--data.workers=0", "--dry_run"])
    said = capsys.readouterr().out
    assert "first key" in said and acting(said) == []
    assert [line for line in said.splitlines() if line.startswith("source ")] == [said.splitlines()[-1]]


def test_a_name_of_bytes_that_are_no_text_and_a_terminal_of_few_letters(tmp_path):
    tiny_tcl().save_pretrained(tmp_path / "tcl")
    name = os.fsencode(tmp_path) + b"/d\xff\xe6\x9d\xb1.png"
    stream = io.BytesIO()
    noise().save(stream, "PNG")
    Path(os.fsdecode(name)).write_bytes(stream.getvalue())
    command = [sys.executable, "-m", "tcl", "match", tmp_path / "tcl", "--images", name, "--texts", "a dog", "ä 東"]
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    first, second = done.stdout.decode("ascii").splitlines()
    assert first.endswith(r"/d\udcff\u6771.png  a dog") and second.endswith(r"\xe4 \u6771")


def test_whatever_is_printed_goes_through_shown():
    """Bare prints are of what this project says itself."""
    own = {"HELP", "__doc__"}
    for path in (
        *ROOT.glob("tcl/**/*.py"),
        ROOT / "tools" / "make_demo_data.py",
        ROOT / "tools" / "easy_vqa_captions.py",
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                said = [ast.unparse(argument) for argument in node.args]
                spelt = all(
                    text in own
                    or "shown(" in text
                    or text.startswith(("shtab.complete(", "'complete ", "json.dumps(", "f'tcl {__version__}"))
                    for text in said
                )
                assert spelt or path.name in ("one_line.py", "command_line.py"), f"{path.name}: print({said})"
