"""The command `tcl`: its help, what its subcommands print and write, and the one line that each mistake gets."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import noise, pairs, write_tar
from launching import ENVIRONMENT, launch
from PIL import Image
from tiny_pretrained import tiny_tcl, tiny_vqa

import tcl
from tcl import TCL, TCLForVQA
from tcl.commands import COMMANDS
from tcl.commands.main import run
from tcl.commands.one_line import end_with_one_line

ROOT = Path(__file__).parents[1]
PLAIN = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two models and two photos."""
    folder = tmp_path_factory.mktemp("commands")
    tiny_tcl().save_pretrained(folder / "tcl")
    tiny_vqa().save_pretrained(folder / "vqa")
    for i, name in enumerate(("dog.jpg", "cat.jpg")):
        noise(i, (40, 30)).save(folder / name)
    return folder


@pytest.fixture
def here(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_the_help_fits_a_screen_and_names_every_command(capsys):
    run(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)
    run([])
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_said_once(option, capsys):
    run([option])
    assert capsys.readouterr().out == f"tcl {tcl.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", tcl.__version__)


def test_every_command_has_help(capsys):
    for name in COMMANDS:
        if name in ("finetune", "evaluate"):
            run([name, "--help"])
        else:
            with pytest.raises(SystemExit) as ended:
                run([name, "--help"])
            assert ended.value.code == 0
        assert f"tcl {name} " in capsys.readouterr().out


def imported_by(code: str, cwd: Path) -> str:
    """Which of the slow packages a fresh process has imported after `code`."""
    code += "; import sys; print(sorted({'torch', 'transformers', 'webdataset'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=True
    )
    return done.stdout.splitlines()[-1]


def test_help_parsers_and_making_shards_need_no_torch(tmp_path):
    noise().save(tmp_path / "a.jpg")
    (tmp_path / "rows.jsonl").write_text('{"image": "a.jpg", "caption": "a dog"}\n')
    shards = "['shards', '--from', 'jsonl', '--annotations', 'rows.jsonl', '--images', '.', '--out', 'out']"
    small = [name for name in COMMANDS if name not in ("pretrain", "finetune", "evaluate")]
    parsers = f"import importlib; [importlib.import_module('tcl.commands.' + name).parser() for name in {small}]"
    code = f"from tcl.commands.main import run; run(['--help']); run({shards}); {parsers}"
    assert imported_by(code, tmp_path) == "[]"
    assert (tmp_path / "out" / "000000.tar").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("pretrian", "tcl: there is no command 'pretrian'; did you mean pretrain?"),
        ("--vresion", "tcl: there is no command '--vresion'; accepted: pretrain, "),
        ("pretrain --train.stepz 3", "config: there is no option --train.stepz; did you mean --train.steps?"),
        ("pretrain --preset tcl_4n", "preset: there is no preset 'tcl_4n'; did you mean tcl_4m? accepted: albef_4m, "),
        ("finetune --preset=vqa_v3 --init x", "preset: there is no preset 'vqa_v3'; did you mean vqa_v2? accepted: "),
        ("evaluate --preset", "preset: which one? accepted: compress, compressed_retrieval, daquar, demo_grounding, "),
        (
            "pretrain --preset --dry_run",
            "preset: which one? accepted: albef_4m, demo, easy_vqa, flickr8k_cpu, ",
        ),
        ("tokenizer --shards nowhere/*.tar --out t", "shards 'nowhere/*.tar': no file matches nowhere/*.tar"),
        (
            "tokenizer --shards x.tar --out t --vocab_size 3",
            "vocab_size: 3 is not possible; accepted: an integer >= 100",
        ),
        (
            "tokenizer --shards x.tar --out tcl",
            "out: tcl exists and is not a tokenizer alone; remove it or name another",
        ),
        ("answers --shards nowhere.tar --out a.txt", "shards 'nowhere.tar': "),
        ("answers --shards x.tar --out a.txt --size 0", "size: 0 is not possible; accepted: an integer >= 1"),
        (
            "answers --shards x.tar --out a.txt --size many",
            "size: invalid int value: 'many'; `tcl answers --help` lists",
        ),
        ("plot tcl", "run: tcl/metrics.jsonl does not exist; name the output_dir of a run"),
        ("plot tcl --out a.jpeg", "out: a.jpeg ends in .jpeg; accepted: .png, .svg, .pdf"),
        (
            "finetune --task vga",
            "task: 'vga' is not possible; accepted: classification, compress, compressed_retrieval, entailment,",
        ),
        ("evaluate --task vqa --inti x", "config: there is no option --inti; did you mean --init?"),
        ("shards --from xml", "from: invalid choice: 'xml' "),
        ("shards --from json --annotation x", "the following arguments are required: --images, --out"),
        (f"match {'x' * 5000} --images a.jpg --texts b", "source: "),
        (f"plot {'x' * 5000}", f"{'x' * 200}...: no path can be that long"),
        (f"export {'y/' * 3000}z out", "source: "),
        (f"shards --from jsonl --annotations {'a' * 5000} --images . --out out", "annotations: "),
        (f"shards --from folder --images {'a' * 5000} --out out", f"{'a' * 200}...: no path can be that long"),
        ("convert a.pth out", "one of the arguments --from --to is required; `tcl convert --help`"),
        ("convert --from tcl nowhere.pth out", "source: nowhere.pth cannot be read"),
        ("export ./nowhere out", "source: './nowhere' is not there; accepted: an export, "),
        ("export dog.jpg out", "source: dog.jpg is a file; accepted: an export, "),
        ("encode ./tlc --texts x --out x.npy", "source: './tlc' is not there"),
        ("match ./tlc --images dog.jpg --texts dog", "source: './tlc' is not there"),
        ("export tcl out --revision v1", "revision: 'v1', but tcl is a folder; revisions are of models on the hub"),
        ("match tcl --images dog.jpg --texts dog --revision v1", "revision: 'v1', but tcl is a folder"),
        ("vqa vqa --image dog.jpg --questions dog --revision v1", "revision: 'v1', but vqa is a folder"),
        ("explain tcl --image dog.jpg --text dog --out a.png --revision v1", "revision: 'v1', but tcl is a folder"),
        ("encode tcl --images . --out a.npy --revision v1", "revision: 'v1', but tcl is a folder"),
        ("match tcl --images dgo.jpg --texts dog", "images[0]: 'dgo.jpg' is no file; give a JPEG, "),
        ("match tcl --images dog.jpg --text dog", "the following arguments are required: --texts"),
        ("match tcl --images dog.jpg --texts dog --batch_size 0", "batch_size: 0 is not possible"),
        ("match tcl --images dog.jpg --texts dog --device gpu", "device: 'gpu' cannot be used"),
        ("vqa tcl --image dog.jpg --questions what", "a tcl model is no TCLForVQA; load it with TCL"),
        ("vqa vqa --image dog.jpg --questions what --answers nowhere.txt", "answers: nowhere.txt is no file; give one"),
        ("explain vqa --image dog.jpg --text dog --out a.png", "a vqa model is no TCL; load it with TCLForVQA"),
        ("explain ./tlc --image dog.jpg --text dog --out a.jpg", "out: a.jpg is no PNG; give a name that ends in .png"),
        ("explain tcl --image dog.jpg --text dog --out a.png --word 1", "word: 1 of 1; accepted: 0 to 0"),
        ("explain tcl --image dog.jpg --text dog --out no/a.png", "path: 'no/a.png' cannot be written"),
        ("completion fish", "shell: invalid choice: 'fish' "),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(arguments, said, here, capsys):
    before = sorted(here.iterdir())
    with pytest.raises(SystemExit) as ended:
        end_with_one_line(run, arguments.split())
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {said}")
    assert sorted(here.iterdir()) == before


def test_debug_shows_the_traceback_before_the_line(here, capsys):
    with pytest.raises(SystemExit) as ended:
        end_with_one_line(run, ["match", "tcl", "--images", "dgo.jpg", "--debug", "--texts", "dog"])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):" and any("in match_grid" in line for line in lines)
    assert lines[-1].startswith("error: images[0]: 'dgo.jpg' is no file")


def test_news_of_a_dead_loader_process_is_one_line_wherever_it_comes(capsys):
    def working(arguments):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore")

    with pytest.raises(SystemExit) as ended:
        end_with_one_line(working, [])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: a loader process died: DataLoader worker (pid 7) is killed by signal: Killed. If memory ran out, use "
        "fewer workers or smaller batches\n"
    )


def test_other_errors_of_a_program_keep_their_traceback():
    def working(arguments):
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        end_with_one_line(working, [])


def test_the_module_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "tcl", "shrads"], capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: tcl: there is no command 'shrads'; did you mean shards?\n"


def test_match_prints_the_whole_grid(here, capsys):
    images, texts = ["dog.jpg", "cat.jpg"], ["a dog", "a red cat", "a mat"]
    expected = TCL.from_pretrained("tcl", device="cpu", precision="fp32").match_grid(images, texts)
    run(["match", "tcl", "--images", *images, "--texts", *texts, *PLAIN, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [(pair["image"], pair["text"]) for pair in found] == [(image, text) for image in images for text in texts]
    np.testing.assert_allclose([pair["match"] for pair in found], expected.flatten(), rtol=1e-6)
    run(["match", "tcl", "--images", *images, "--texts", *texts, *PLAIN])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{expected[0, 1]:.3f}  dog.jpg  a red cat" and len(lines) == 6


def test_vqa_answers_each_question(here, capsys, tmp_path):
    asked, answers = ["what is it", "what colour is the dog"], ["red", "blue", "dog"]
    model = TCLForVQA.from_pretrained("vqa", device="cpu", precision="fp32")
    run(["vqa", "vqa", "--image", "dog.jpg", "--questions", *asked, *PLAIN])
    assert capsys.readouterr().out.splitlines() == model.answer("dog.jpg", asked)
    (tmp_path / "answers.txt").write_text("\n".join(answers))
    options = ["--answers", str(tmp_path / "answers.txt"), *PLAIN]
    run(["vqa", "vqa", "--image", "dog.jpg", "--questions", *asked, *options])
    assert capsys.readouterr().out.splitlines() == model.answer("dog.jpg", asked, answers)


def test_explain_writes_the_picture_and_names_the_words(here, capsys, tmp_path):
    heat = TCL.from_pretrained("tcl", device="cpu", precision="fp32").explain("dog.jpg", "a red dog", layer=0)
    heat.save(tmp_path / "expected.png", word=1)
    out = tmp_path / "where.png"
    options = ["--out", str(out), "--word", "1", "--layer", "0", *PLAIN]
    run(["explain", "tcl", "--image", "dog.jpg", "--text", "A red dog", *options])
    assert capsys.readouterr().out == f"{out}: 0:a 1:red 2:dog\n"
    np.testing.assert_array_equal(*(np.asarray(Image.open(path)) for path in (out, tmp_path / "expected.png")))


def test_export_is_what_save_pretrained_writes(here, capsys, tmp_path):
    run(["export", "vqa", str(tmp_path / "export")])
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'export'}: a vqa model of ")
    wrote, expected = ({path.name for path in place.iterdir()} for place in (tmp_path / "export", here / "vqa"))
    assert wrote == expected
    weights = [(place / "model.safetensors").read_bytes() for place in (tmp_path / "export", here / "vqa")]
    assert weights[0] == weights[1]


def test_a_mistake_of_all_processes_is_told_once_and_last():
    done = launch("-m", "tcl", "pretrain", "--train.batchsize=3")
    said = "error: config: there is no option --train.batchsize; did you mean --train.batch_size?"
    lines = done.stderr.splitlines()
    assert done.returncode != 0 and lines.count(said) == 1
    assert any(line.strip() == f"traceback : {said}" for line in lines[-4:])
    assert "usage:" not in done.stderr


def test_a_mistake_of_one_process_is_told_by_it():
    """Rank 0 goes on as long as the other is there to be asked."""
    code = "import os, sys, time\nfrom tcl.commands import ranks\nfrom tcl.errors import InputError\n"
    code += "from datetime import timedelta\nranks.PATIENCE = timedelta(seconds=1)\n"
    code += "from tcl.commands.one_line import end_with_one_line\n"
    code += "def command(arguments):\n    if os.environ['RANK'] == '1':\n        raise InputError('of rank 1')\n"
    done = launch("--no_python", sys.executable, "-c", code + "end_with_one_line(command, [])")
    assert done.stderr.splitlines().count("error: of rank 1") == 1


@pytest.mark.parametrize("ending", ["pass", "raise InputError('of both')", "raise Preempted('saved')"])
def test_no_process_ends_while_it_still_communicates(ending, tmp_path):
    """One that does aborts now and then."""
    code = "import atexit, os, pathlib\nfrom torch import distributed\nfrom tcl.errors import InputError, Preempted\n"
    code += "from tcl.commands.one_line import end_with_one_line\n"
    code += f"left = pathlib.Path({str(tmp_path)!r}, os.environ['RANK'])\n"
    code += "atexit.register(lambda: left.write_text(str(distributed.is_initialized())))\n"
    code += f"def command(arguments):\n    distributed.init_process_group('gloo')\n    {ending}\n"
    launch("--no_python", sys.executable, "-c", code + "end_with_one_line(command, [])")
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["False", "False"]


@pytest.mark.slow
def test_accelerate_launches_the_module(tmp_path, here):
    write_tar(tmp_path / "0.tar", pairs("a", 8))
    launched = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=1", "--cpu", "-m", "tcl"]
    model = {"image": {"name": "vit_tiny_patch16_224", "image_size": 32}, "text": {"tokenizer": str(here / "tcl")}}
    model["image"]["overrides"] = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    model["text"]["overrides"] = {
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    (tmp_path / "run.yaml").write_text(json.dumps({"model": model}))  # JSON is YAML
    options = [f"--config={tmp_path / 'run.yaml'}", f"--data.train=[{{'shards': '{tmp_path / '0.tar'}'}}]"]
    options += ["--train.steps=1", "--train.batch_size=4", "--data.workers=0", "--objective.queue_size=8"]
    options += [f"--output_dir={tmp_path / 'run'}"]
    done = subprocess.run([*launched, "pretrain", *options], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    run(["export", str(tmp_path / "run"), str(tmp_path / "export")])
    assert (tmp_path / "export" / "model.safetensors").is_file()
