"""`tcl completion`: what bash and zsh offer after the words so far."""

import re
import shutil
import subprocess

import pytest

from tcl.commands import COMMANDS
from tcl.commands.main import run
from tcl.presets import preset_names

ASK = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
$(complete -p tcl | sed 's/.* -F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does when somebody asks for the completion of the last of some words."""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """What the command prints for each shell, as files."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh"):
        with pytest.MonkeyPatch.context() as patch, (folder / shell).open("w") as out:
            patch.setattr("sys.stdout", out)
            run(["completion", shell])
    return folder


@pytest.fixture(scope="module")
def complete(scripts):
    """The words that bash offers for the last of some words; none: it offers files."""
    (scripts / "ask").write_text(ASK)

    def offered(*words: str) -> list[str]:
        command = ["bash", "--norc", str(scripts / "ask"), str(scripts / "bash"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    return offered


def test_commands(complete):
    assert complete("tcl", "") == list(COMMANDS)
    assert {"tokenizer", "answers", "plot"} <= set(complete("tcl", ""))
    assert complete("tcl", "e") == ["evaluate", "export", "encode", "entail", "explain"]


def test_options(complete):
    assert complete("tcl", "match", "model", "--im") == ["--images"]
    assert complete("tcl", "shards", "--shard_") == ["--shard_size", "--shard_bytes"]
    assert complete("tcl", "pretrain", "--train.st") == ["--train.steps"]
    assert complete("tcl", "pretrain", "--dry") == ["--dry_run"]
    assert complete("tcl", "match", "--images", "a.jpg", "b.jpg", "--te") == ["--texts"]


def test_values(complete):
    assert complete("tcl", "shards", "--from", "vq") == ["vqa", "vqa_v2"]
    assert complete("tcl", "encode", "m", "--precision", "") == ["auto", "bf16", "fp32"]
    assert complete("tcl", "completion", "") == ["bash", "zsh"]
    assert complete("tcl", "pretrain", "--preset", "t") == ["tcl_4m"]
    assert (
        complete("tcl", "finetune", "--preset", "vqa") == complete("tcl", "evaluate", "--preset", "vqa") == ["vqa_v2"]
    )


def test_files_where_nothing_is_known(complete, scripts):
    assert complete("tcl", "encode", "runs/") == complete("tcl", "encode", "m", "--images", "ph") == []
    assert (scripts / "bash").read_text().splitlines()[-1].startswith("complete -o default -F ")


def test_options_are_those_of_the_parsers_and_of_both_tasks(complete):
    options = {name: set(complete("tcl", name, "--")) for name in COMMANDS}
    assert {"--help", "--debug", "--config", "--data.train", "--dry_run", "--preset"} <= options["pretrain"]
    assert {"--answers.max_tokens", "--objective.queue_size", "--eval_only"} <= options["finetune"]
    assert options["finetune"] - {"--eval_only"} == options["evaluate"]
    assert options["export"] == {"--help", "--debug", "--revision", "--with_code", "--with_teacher"}
    assert all({"--help", "--debug"} <= found for found in options.values())


def test_zsh_is_told_the_same(scripts):
    """Read as text: what zsh makes of it is shtab's affair."""
    said = (scripts / "zsh").read_text()
    assert said.startswith("#compdef tcl\n")
    of = {name: said.split(f"_shtab_tcl_{name}_options=(")[1].split("\n)")[0] for name in COMMANDS}
    assert ':shell:(bash zsh)"' in of["completion"] and '"--with_teacher[' in of["export"]
    assert f'"--preset[--preset]:--preset:({" ".join(preset_names("pretrain"))})"' in of["pretrain"]
    assert '"--answers.max_tokens[' in of["finetune"] and '"--objective.queue_size[' in of["finetune"]
    assert re.search(r'"--images\[.*:_files"', of["encode"])
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n", str(scripts / "zsh")], check=True)
