"""`tcl completion`: what bash and zsh offer after the words so far."""

import shutil
import subprocess

import pytest

from tcl.commands import COMMANDS
from tcl.commands.completion import options_of
from tcl.commands.main import run

BASH = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_tcl
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { : }
compadd() { shift; print -l -- ${(M)@:#${PREFIX}*} }
_files() { print }
source $1
shift
words=("$@") CURRENT=$# PREFIX=$words[$#]
_tcl
"""
"""zsh's own functions stand for what they would offer."""


@pytest.fixture(scope="module", params=["bash", "zsh"])
def complete(request, tmp_path_factory):
    """The words offered for the last of some words; none: the shell offers files."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    folder = tmp_path_factory.mktemp("completion")
    with pytest.MonkeyPatch.context() as patch, (folder / "script").open("w") as out:
        patch.setattr("sys.stdout", out)
        run(["completion", shell])
    (folder / "ask").write_text({"bash": BASH, "zsh": ZSH}[shell])

    def offered(*words: str) -> list[str]:
        plain = {"bash": "--norc", "zsh": "-f"}[shell]
        command = [shell, plain, str(folder / "ask"), str(folder / "script"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    return offered


def test_commands(complete):
    assert complete("tcl", "") == list(COMMANDS)
    assert {"tokenizer", "answers", "plot"} <= set(complete("tcl", ""))
    assert complete("tcl", "e") == ["evaluate", "export", "encode", "explain"]


def test_options(complete):
    assert complete("tcl", "match", "model", "--im") == ["--images"]
    assert complete("tcl", "shards", "--shard_") == ["--shard_size", "--shard_bytes"]
    assert complete("tcl", "pretrain", "--train.st") == ["--train.steps"]
    assert complete("tcl", "pretrain", "--dry") == ["--dry_run"]
    assert set(complete("tcl", "finetune", "--")) == set(options_of("finetune"))


def test_values(complete):
    assert complete("tcl", "shards", "--from", "vq") == ["vqa", "vqa_v2"]
    assert complete("tcl", "encode", "m", "--precision", "") == ["auto", "bf16", "fp32"]
    assert complete("tcl", "completion", "") == ["bash", "zsh"]
    assert complete("tcl", "pretrain", "--preset", "t") == ["tcl_4m"]
    assert (
        complete("tcl", "finetune", "--preset", "vqa") == complete("tcl", "evaluate", "--preset", "vqa") == ["vqa_v2"]
    )


def test_files_where_nothing_is_known(complete):
    assert complete("tcl", "encode", "runs/") == complete("tcl", "encode", "m", "--images", "ph") == []


def test_options_are_those_of_the_parsers_and_of_both_tasks():
    assert {"--help", "--debug", "--config", "--data.train", "--dry_run", "--preset"} <= set(options_of("pretrain"))
    assert {"--answers.max_tokens", "--objective.queue_size", "--eval_only"} <= set(options_of("finetune"))
    assert "--eval_only" not in options_of("evaluate")
    assert options_of("export") == ["--help", "--debug", "--revision", "--with_teacher"]
