"""The package by itself: what a wheel holds, and that its commands run where there is no checkout."""

import re
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
import yaml
from data_files import encode, noise, write_tar
from launching import ENVIRONMENT

import tcl
from tcl.commands.presets import with_presets
from tcl.errors import InputError
from tcl.presets import FOLDER, preset_file, preset_names

ROOT = Path(__file__).parents[1]


def test_presets_become_config_files_in_their_places():
    file = str(preset_file("pretrain", "tcl_4m", "preset"))
    assert with_presets("pretrain", ["--preset", "tcl_4m", "--train.steps=3"]) == ["--config", file, "--train.steps=3"]
    assert with_presets("pretrain", ["--seed", "1", "--preset=tcl_4m"]) == ["--seed", "1", "--config", file]
    assert with_presets("finetune", ["--config", "x.yaml"]) == ["--config", "x.yaml"]


@pytest.mark.parametrize("name", ["nowhere", "../pretrain/demo", "demo.yaml", "*", "__init__"])
def test_a_name_is_no_path(name):
    with pytest.raises(
        InputError,
        match=r"^preset: there is no preset .*accepted: albef_4m, demo, easy_vqa, flickr8k_cpu, "
        r"flickr8k_text_assignment, mmv, nlvr2_text_assignment, siglip_4m, tcl_4m, video_text$",
    ):
        with_presets("pretrain", ["--preset", name])


def test_presets_are_the_configurations_of_a_checkout():
    for kind in ("pretrain", "finetune"):
        assert preset_names(kind) == sorted(path.stem for path in (ROOT / "configs" / kind).glob("*.yaml"))
        for name in preset_names(kind):
            assert "train" in yaml.safe_load(preset_file(kind, name, "preset").read_text())
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} - {"__pycache__"} == {
        "accelerate",
        "deepspeed",
        "finetune",
        "pretrain",
    }


def test_links_of_the_readme_lead_somewhere_from_anywhere():
    """Package indexes show it without the files beside it."""
    source = re.search(r'^Source = "(.+)"$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)[1]
    page = (ROOT / "README.md").read_text()
    named = dict(re.findall(r"^\[(\w+)\]: (\S+)$", page, flags=re.MULTILINE))
    assert named and set(re.findall(r"\]\[(\w+)\]", page)) <= named.keys()
    for link in [*named.values(), *re.findall(r"\]\(([^)]+)\)", page)]:
        assert link.startswith(f"{source}/blob/main/") and (ROOT / link.removeprefix(f"{source}/blob/main/")).is_file()
    pictures = re.findall(r'src(?:set)?="([^"]+)"', page)
    assert len(pictures) == 2
    for link in pictures:
        assert link.startswith(f"{source}/raw/main/") and (ROOT / link.removeprefix(f"{source}/raw/main/")).is_file()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves its work beside the sources, and takes old work for new."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, source / name)
    copytree(ROOT / "tcl", source / "tcl", ignore=ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "."]
    subprocess.run([*build, "--wheel-dir", source / "dist"], cwd=source, check=True)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_package_and_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        said = message_from_string(content.read(f"{info}/METADATA").decode())
        entry_points = content.read(f"{info}/entry_points.txt").decode()
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tcl").rglob("*") if path.is_file()}
    expected = {name for name in files if "__pycache__" not in name}
    assert {name for name in names if not name.startswith(info)} == expected
    assert {"tcl/py.typed", "tcl/presets/pretrain/tcl_4m.yaml", "tcl/presets/deepspeed/zero2.json"} <= names
    assert {
        "tcl/evaluation/gallery.html.jinja",
        "tcl/evaluation/page.css",
        "tcl/evaluation/filter.js",
        "tcl/exports/model_card.md.jinja",
    } <= names
    assert f"{info}/licenses/LICENSE" in names
    assert said["Version"] == tcl.__version__ and said["License-Expression"] == "Apache-2.0"
    assert "Typing :: Typed" in said.get_all("Classifier")
    assert {url.split(",")[0] for url in said.get_all("Project-URL")} >= {"Source", "Documentation", "Issues"}
    assert said["Description-Content-Type"] == "text/markdown"
    bounded = [name for name in said.get_all("Requires-Dist") if "extra ==" not in name]
    assert bounded and all("<" in name for name in bounded), "the next major version of each is unknown"
    assert "tcl = tcl.commands.main:main" in entry_points


@pytest.mark.slow
def test_an_unpacked_wheel_runs_without_a_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / "site")
    here = tmp_path / "elsewhere"
    here.mkdir()
    (here / "demo" / "data").mkdir(parents=True)
    samples = [
        (f"{i}.{extension}", content)
        for i in range(12)
        for extension, content in (
            ("png", encode(noise(i, (48, 48)), "PNG")),
            ("json", b'{"caption": "a red dog on a mat", "question": "what is it?", "answers": ["dog"]}'),
        )
    ]
    for split in ("train", "val", "vqa_train", "vqa_val"):
        (here / "demo" / "data" / split).mkdir()
        write_tar(here / "demo" / "data" / split / "000000.tar", samples)
    noise(3).save(here / "dog.png")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path / "site")}

    def run(line: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *line.split()], cwd=here, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
        return done.stdout

    small = "--train.steps 1 --train.batch_size 4 --data.workers 0 --eval.every 1"
    assert run("tcl --version") == f"tcl {tcl.__version__}\n"
    run("tcl tokenizer --shards demo/data/train/*.tar --out demo/tokenizer --vocab_size 100")
    assert "first key" in run(f"tcl pretrain --preset demo {small} --dry_run")
    run(f"tcl pretrain --preset demo {small}")
    run(f"tcl finetune --preset demo_vqa {small}")
    assert "accuracy" in run("tcl evaluate --preset demo_vqa --init demo/vqa_run --data.workers 0")
    run("tcl plot demo/run")
    run("tcl export demo/run exported")
    assert run("tcl match exported --images dog.png --texts dog").endswith("dog.png  dog\n")
    assert (here / "demo" / "run" / "curves.png").is_file()
