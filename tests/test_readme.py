"""Every command of README.md and docs/data.md runs, taken from the page, on photographs of noise and tiny models; what
cannot run here is read by the parser that it is meant for, and stands in READ with the reason."""

import argparse
import fnmatch
import json
import re
import shlex
import subprocess
from functools import partial
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState
from data_files import noise, pair, write_tar
from launching import ENVIRONMENT, TORCHRUN
from serving import served
from tiny import BERT
from tiny_foreign import save_blip, save_clip

import tools.demo
from tcl.commands import COMMANDS, finetune, pretrain
from tcl.commands.main import run
from tcl.commands.serve import parser as serve_parser
from tcl.commands.task_options import parse_pretrain
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.index.index import Index
from tcl.presets import preset_names
from tools.demo_pictures import draw_pictures
from tools.make_demo_data import make_demo_data

ROOT = Path(__file__).parents[1]
PHOTOS = ("dog.jpg", "cat.jpg", "street.jpg", "deeper/mat.jpg", "deeper/still/more.jpg")
READ = {
    "make": "installs an environment of its own; what `make demo` runs is in a slow test, `make test` is these tests",
    "pytest": "names tests of this folder, which run beside this one",
    "accelerate": "wants eight GPUs and a bucket",
}
SHORT = ["--data.workers=0", "--train.steps=1", "--train.batch_size=4", "--eval.every=1", "--eval.rerank_k=2"]
SMALL = [
    "--model.image.pretrained=false",
    "--model.image.name=vit_tiny_patch16_224",
    "--model.image.image_size=32",
    "--model.image.overrides={embed_dim: 24, depth: 2, num_heads: 2}",
    "--model.text.pretrained=false",
    f"--model.text.overrides={json.dumps(BERT)}",
    "--model.text.tokenizer=tokenizer",
    "--model.embed_dim=8",
    "--model.lmi_regions=2",
    "--objective.queue_size=8",
]
ADDED = {
    "tcl pretrain --preset demo": SHORT,
    "tcl pretrain --config my.yaml": [*SHORT, *SMALL],
    "tcl finetune": ["--objective.queue_size=8", *SHORT],
    "tcl evaluate": ["--data.workers=0"],
}
"""What makes a run a tiny one, by how its line begins."""


def commands_of(page: str) -> list[str]:
    """All that is indented and not within a list or a fence, lines that end in \\ joined, without comments."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^ {4}(\S.*)$", text.replace("\\\n", ""), flags=re.MULTILINE)
    return [re.sub(r" {2,}#.*", "", line) for line in lines]


def added(line: str) -> list[str]:
    return next((options for begins, options in ADDED.items() if line.startswith(begins)), [])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a reader has: photographs, captions, my.yaml of the page, and what `make demo` left."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(PHOTOS):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        noise(i, (40, 30)).save(Path("photos", name))
    rows = [{"image": name, "captions": ["a dog on a mat", "a cat"]} for name in PHOTOS] * 2
    for split in ("train", "val"):
        Path(f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (my_yaml,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    Path("my.yaml").write_text(my_yaml)
    write_tar(Path("words.tar"), [entry for i in range(4) for entry in pair(str(i), "a dog on a mat and a red cat")])
    train_tokenizer("words.tar", Path("tokenizer"), vocab_size=100)
    save_clip(Path("openai/clip-vit-base-patch32"))
    save_blip(Path("Salesforce/blip-itm-base-coco"))
    make_demo_data(Path("demo/data"), train=8, val=4, vqa_train=8, vqa_val=4, workers=1)
    train_tokenizer("demo/data/train/*.tar", Path("demo/tokenizer"))
    yield tmp_path
    AcceleratorState._reset_state(reset_partial_state=True)


def run_tcl(line: str) -> None:
    """In this process; `tcl serve`, which does not end by itself, as far as its options and its index."""
    words = shlex.split(line)
    if words[1] == "serve":
        with Index.open(serve_parser().parse_args(words[2:]).index) as index:
            assert len(index.search("red", k=1)) == 1
        return
    run([*words[1:], *added(line)])
    AcceleratorState._reset_state(reset_partial_state=True)


def run_line(line: str) -> None:
    program = Path(shlex.split(line)[0]).name
    if program == "tcl":
        run_tcl(line)
    elif program == "curl":
        ask(line)
    elif program in READ:
        read(line)
    else:
        assert program == "torchrun"  # below


def ask(line: str) -> None:
    """To a service of the index that the line before it served."""
    curl = argparse.ArgumentParser()
    curl.add_argument("url")
    curl.add_argument("-H")
    curl.add_argument("-d", type=json.loads)
    given = curl.parse_args(shlex.split(line)[1:])
    port = serve_parser().get_default("port")
    path = given.url.removeprefix(f"http://127.0.0.1:{port}")
    assert path.startswith("/") and given.H == "Content-Type: application/json"
    with served(Path("candidates.index").absolute(), f"--model={Path('runs/mine').absolute()}") as service:
        answer = service.ask(path, given.d)
    assert answer.status == 200
    ranked = answer.json["results"]
    assert len(ranked) == given.d["top_n"] and ranked[0]["relevance_score"] >= ranked[1]["relevance_score"]


def what_make_runs(*targets: str) -> str:
    """Without the variables of a `make` that runs this test: it would print more."""
    done = subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "make":
        what_make_runs(*words)
    elif program == "pytest":
        assert all((ROOT / word).is_file() for word in words)
    else:
        given = launch_command_parser().parse_args(words[1:])
        assert given.module and given.training_script == "tcl"
        command, *options = given.training_script_args
        config = parse_pretrain([*options, *SMALL])
        assert command == "pretrain" and str(config.output_dir) == "runs/mine"


def test_the_readme(folder, capsys):
    run_tcl("tcl pretrain --preset demo")
    draw_pictures(Path("demo/scenes"), 3)
    run_tcl("tcl index demo/run --images demo/scenes --out demo/index")
    for line in commands_of("README.md"):
        run_line(line)
    for place in ("comparison.png", "runs/mine/curves.png", "exports/mine/manifest.json"):
        assert Path(place).is_file()
    assert json.loads(Path("runs/retrieval/results/metrics.json").read_text()).keys() >= {"i2t_r1", "rerank_t2i_r1"}
    said = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["objective.lmi_weight", "1", "0"] for line in said)
    assert any(re.fullmatch(r"0\.\d+  photos/cat.jpg  a cat", line) for line in said)
    assert len([line for line in said if line.endswith("photos/dog.jpg")]) == 1


def test_the_page_about_data(folder):
    for line in commands_of("docs/data.md"):
        run_line(line)
    assert Path("data/mine/tokenizer/tokenizer.json").is_file() and list(Path("runs/mine/checkpoints").iterdir())


@pytest.mark.parametrize("page", ["README.md", "docs/data.md", "docs/options.md"])
def test_what_the_text_names(page):
    """Commands, targets of make, extras and presets within a line."""
    text = (ROOT / page).read_text()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"`tcl\s([a-z]\w*)", text)) <= {*COMMANDS}
    assert set(re.findall(r"`make\s([\w-]+)", text)) <= {*targets}
    extras = re.findall(r"tcl-vlp\[(\w+)\]", text)
    assert all(f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text() for extra in extras)
    for preset in re.findall(r"--preset\s(\w+)", text):
        assert preset in {*preset_names("pretrain"), *preset_names("finetune")}


def test_options_people_change_first():
    """Each is one; `.image_size` is in the section that the option before it is in."""
    section, named = "", []
    for row in re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/options.md").read_text(), flags=re.MULTILINE):
        for option in re.findall(r"`([\w.*]+)`", row):
            section = section if option.startswith(".") else option.rpartition(".")[0]
            named.append(section + option if option.startswith(".") else option)
    known = {action.dest for action in (*pretrain.parser()._actions, *finetune.parser("retrieval")._actions)}
    assert len(named) > 40 and [option for option in named if not fnmatch.filter(known, option)] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/data.md"])
def test_two_processes(page, folder):
    lines = commands_of(page)
    (line,) = (line for line in lines if line.startswith("torchrun "))
    for making in lines[: lines.index(line)]:
        if making.startswith("tcl shards "):
            run_tcl(making)
    _, *words = shlex.split(line)
    assert words[:2] == TORCHRUN[3:5]
    own = [*words[2:], *added("tcl pretrain --config my.yaml")]
    done = subprocess.run([*TORCHRUN, *own], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "world: 2 process(es)" in done.stdout and list(Path("runs/mine/checkpoints").iterdir())


@pytest.mark.slow
def test_what_make_demo_runs(tmp_path, monkeypatch, capsys):
    """All stages, of a few scenes and steps; its last line is the second command of the README."""
    demo, serve = commands_of("README.md")[:2]
    assert what_make_runs(*demo.split()[1:]).rstrip().endswith("-m tools.demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    for script in ("pretrain.py", "finetune.py"):
        Path(script).symlink_to(ROOT / script)
    for config in (tools.demo.PRETRAIN, tools.demo.FINETUNE):
        config.parent.mkdir(parents=True)
        made = yaml.safe_load((ROOT / config).read_text())
        made["train"] |= {"steps": 4, "batch_size": 8, "log_every": 2, "save_every": 4}
        config.write_text(yaml.safe_dump(made | {"eval": made["eval"] | {"every": 2}}))
    monkeypatch.setattr(tools.demo, "SCENES", 40)
    monkeypatch.setattr(tools.demo, "HELD_OUT", 20)
    monkeypatch.setattr(tools.demo, "QUESTIONS", 40)
    monkeypatch.setattr(tools.demo, "PICTURES", 5)
    monkeypatch.setattr(tools.demo, "make_demo_data", partial(make_demo_data, vqa_val=20))
    tools.demo.main()
    assert capsys.readouterr().out.rstrip().endswith(serve.removeprefix(".venv/bin/"))
    for place in ("run/curves.png", "run/results/gallery.html", "vqa_run/results/answers.json"):
        assert Path("demo", place).is_file()
    run_tcl("tcl serve demo/index")
