"""A run, an export or a configuration that somebody else wrote: nothing that it names is run, fetched or opened.

Every field of free form gets every exploit, and every command that reads the folder is asked; what Python itself
reports to an audit hook is the witness.
"""

import dataclasses
import json
import shutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from data_files import TOKENIZER, write_shards
from launching import ENVIRONMENT
from tiny import MODEL

from tcl.checkpoints.checkpoint_store import CheckpointStore, Files
from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.initial import model_of_run
from tcl.config.command_line import save_config
from tcl.config.data import DataConfig, SourceConfig
from tcl.errors import InputError
from tcl.exports.describe import build_student, write_model
from tcl.exports.pretrained import load_pretrained
from tcl.objectives.tcl import KIND, TCLStudent
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.training.checkpoint import read_progress

DRIVER = """
import json, sys, warnings
warnings.simplefilter("ignore")
from tcl.commands.main import run
from tcl.commands.one_line import end_with_one_line
import tcl.exports.pretrained, tcl.exports.convert_published
import tcl.tasks.vqa, tcl.tasks.retrieval, tcl.training.evaluate_only

jobs, marker = json.load(open(sys.argv[1])), sys.argv[2]
done = []

def witness(event, arguments):
    said = event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn", "socket.connect",
                     "socket.getaddrinfo")
    if said or (event == "open" and marker in str(arguments[0])):
        done.append(f"{event} {arguments[0]!r}")

sys.addaudithook(witness)
for where, write, commands in jobs:
    open(where, "w").write(write)
    for command in commands:
        status = 0
        try:
            end_with_one_line(run, command)
        except SystemExit as ended:
            status = ended.code
        if status not in (0, 2) or done:
            print("BROKEN", status, done, command, write[-400:], flush=True)
            done.clear()
print("END")
"""


def free_fields(kind: type, prefix: str = "") -> list[str]:
    """Fields that take a text, or values of any kind."""
    found = []
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found += free_fields(hint, f"{prefix}{name}.")
        elif hint is str or str in typing.get_args(hint) or typing.get_origin(hint) in (dict, list):
            found.append(f"{prefix}{name}")
    return found


def exploits(marker: Path) -> list[Any]:
    touch = ["touch", str(marker)]
    return [
        {"class_path": "subprocess.Popen", "init_args": {"args": touch}},
        {"embed_dim": {"class_path": "subprocess.Popen", "init_args": {"args": touch}}},
        {"checkpoint_path": str(marker)},
        {"pretrained_cfg_overlay": {"file": str(marker)}},
        {"cache_dir": str(marker)},
        {"trust_remote_code": True},
        [{"class_path": "os.system", "init_args": {"command": f"touch {marker}"}}],
        f"pipe:touch {marker}",
        f"hf-hub:{marker.name}/x",
        f"local-dir:{marker}",
        str(marker),
        "os.system",
    ]


def with_value(config: dict, field: str, value: Any) -> dict:
    said = json.loads(json.dumps(config))
    *sections, last = field.split(".")
    place = said
    for name in sections:
        place = place[name]
    place[last] = value
    return said


@pytest.fixture
def run(tmp_path) -> Path:
    """As runs were left before they wrote model.json."""
    folder = tmp_path / "run"
    folder.mkdir()
    data = DataConfig(train=[SourceConfig("cc3m/*.tar")], max_tokens=12, max_words=9)
    save_config(PretrainConfig(model=MODEL, data=data), folder / "config.yaml")
    TOKENIZER.save_pretrained(folder / "tokenizer")
    tensors = {"student.safetensors": student().state_dict(), "teacher.safetensors": {"x": torch.zeros(1)}}
    files = Files(tensors, {"progress.json": {"step": 2}})
    CheckpointStore(folder / "checkpoints", keep=5, asynchronous=False).write(2, files)
    return folder


def student() -> TCLStudent:
    torch.manual_seed(5)
    return build_student(ExportConfig("tcl", MODEL), TOKENIZER)


def witnessed(jobs: list, marker: Path) -> None:
    """Nothing was run, connected to or opened, and every command ended with status 0 or 2."""
    (marker.parent / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-c", DRIVER, str(marker.parent / "jobs.json"), marker.name]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=marker.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in done.stdout.splitlines() if line.startswith("BROKEN")] == []
    assert done.stdout.splitlines()[-1] == "END"
    assert not marker.exists()


def commands_of(run: Path, shards: str) -> list[list[str]]:
    out = run.parent / "out"
    plain = [f"--data.train={shards}", f"--data.val={shards}", "--data.workers=0", f"--output_dir={out}"]
    return [
        ["export", str(run), str(run.parent / "export")],
        ["convert", "--to", "tcl", str(run), str(run.parent / "x.pth")],
        ["encode", str(run), "--texts", str(run.parent / "texts.txt"), "--out", str(run.parent / "x.npy")],
        ["evaluate", "--task=retrieval", f"--init={run}", *plain, "--eval.rerank_k=0"],
        ["finetune", "--task=vqa", f"--init={run}", *plain, "--dry_run"],
    ]


def jobs_of(run: Path, kind: type, path: Path, commands: list[list[str]], marker: Path, section: str = "") -> list:
    said = yaml.safe_load(path.read_text())
    fields = [field for field in free_fields(kind) if field.startswith(section)]
    return [
        (str(path), yaml.safe_dump(with_value(said, field, value)), commands)
        for field in fields
        for value in exploits(marker)
    ]


@pytest.mark.slow
def test_exploits_in_a_foreign_run(run, tmp_path):
    (tmp_path / "texts.txt").write_text("a dog\n")
    commands = commands_of(run, write_shards(tmp_path / "shards", [4]))
    witnessed(jobs_of(run, PretrainConfig, run / "config.yaml", commands, tmp_path / "MARKER"), tmp_path / "MARKER")


def test_exploits_in_the_model_of_a_foreign_run(run, tmp_path):
    """In config.yaml, and then in the model.json of a run that has one."""
    marker, commands = tmp_path / "MARKER", commands_of(run, "x")[:1]
    fields = ["model.image.overrides", "model.text.name", "model.text.overrides"]
    jobs = [
        job for field in fields for job in jobs_of(run, PretrainConfig, run / "config.yaml", commands, marker, field)
    ]
    write_model(KIND, MODEL, student(), run, max_tokens=12, max_words=9, answers=None)
    said = (run / "model.json").read_text()
    (run / "model.json").unlink()
    for field in fields:
        for value in exploits(marker):
            jobs.append((str(run / "model.json"), json.dumps(with_value(json.loads(said), field, value)), commands))
    assert len(jobs) == 72
    witnessed(jobs, marker)


def test_exploits_in_overrides_of_a_configuration(run, tmp_path):
    """What the user's own file names is followed, but overrides are plain values there too."""
    shards = write_shards(tmp_path / "shards", [4])
    path = tmp_path / "mine.yaml"
    jobs = []
    for value in exploits(tmp_path / "MARKER"):
        if isinstance(value, dict) and not value.keys() & {"class_path", "embed_dim"}:
            continue
        for part in ("image", "text"):
            text = yaml.safe_dump({"model": {part: {"overrides": value}}})
            options = [f"--data.train={shards}", "--dry_run", f"--model.text.tokenizer={run / 'tokenizer'}"]
            inline = f"--model.{part}.overrides={json.dumps(value)}"
            jobs.append((str(path), text, [["pretrain", f"--config={path}", *options], ["pretrain", inline, *options]]))
    for text in ("!!python/object/apply:os.system ['touch MARKER']", "seed: !!python/name:os.system"):
        jobs.append((str(path), text, [["pretrain", f"--config={path}"], ["finetune", f"--config={path}"]]))
    witnessed(jobs, tmp_path / "MARKER")


def test_a_run_loads_from_its_description_alone(run, tmp_path):
    """Its config.yaml may name whatever the user had."""
    expected = load_pretrained(str(run)).student.state_dict()
    write_model(KIND, MODEL, student(), run, max_tokens=12, max_words=9, answers=["yes", "no"])
    said = yaml.safe_load((run / "config.yaml").read_text())
    said["model"]["text"] |= {"name": "someone/bert", "pretrained": True, "overrides": {}, "tokenizer": "someone/else"}
    said["model"]["image"] |= {"pretrained": True, "overrides": {"checkpoint_path": "/nowhere"}}
    (run / "config.yaml").write_text(yaml.safe_dump(said))
    loaded = load_pretrained(str(run))
    assert all(expected[name].equal(tensor) for name, tensor in loaded.student.state_dict().items())
    assert (loaded.max_tokens, loaded.max_words) == (12, 9)
    assert (run / "answers.txt").read_text() == "yes\nno\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "someone/bert"}, r"model\.text\.name 'someone/bert' .* not followed; set it to bert, roberta"),
        ({"name": "/somewhere/bert"}, r"model\.text\.name '/somewhere/bert' .* not followed"),
    ],
)
def test_an_older_run_that_names_a_bert_says_the_way_out(change, message, run):
    said = yaml.safe_load((run / "config.yaml").read_text())
    said["model"]["text"] |= change
    (run / "config.yaml").write_text(yaml.safe_dump(said))
    with pytest.raises(InputError, match=message):
        load_pretrained(str(run))
    with pytest.raises(InputError, match=message):
        model_of_run(str(run))
    assert model_of_run(str(run), names_text_encoder=True)["text"]["name"] == "bert"


def test_a_run_without_its_tokenizer_is_refused(run):
    shutil.rmtree(run / "tokenizer")
    with pytest.raises(InputError, match=r"has no folder `tokenizer`.*not followed; put the run's tokenizer there"):
        load_pretrained(str(run))


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b"{}", b"[]", b'{"step": "x"}', b'{"step": NaN}', b"\xff", b'{"step": true}']
)
def test_progress_that_no_run_left(content, run):
    path = run / "checkpoints" / "step_00000002"
    (path / "progress.json").write_bytes(content)
    with pytest.raises(InputError, match=r"progress\.json") as refused:
        read_progress(path)
    assert "\n" not in str(refused.value)
