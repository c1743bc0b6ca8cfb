"""`tcl compare`: a table and a picture of several runs."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tcl.commands.main import run
from tcl.errors import InputError
from tcl.runs import curves
from tcl.runs.comparison import compare, run_names
from tcl.runs.curves import plot_runs

PLAIN = [
    {"step": 10, "loss": 3.0, "i2t": 2.0, "t2i": 1.0},
    {"step": 20, "loss": 2.0, "i2t": 1.5, "t2i": 0.5},
    {"step": 20, "eval_i2t_r1": 12.5, "eval_t2i_r10": 50.0},
]
OTHER = [
    {"step": 10, "loss": 4.0, "i2t": 2.0, "t2i": 1.0, "circle": 7.0},
    {"step": 30, "eval_i2t_r1": 25.0, "eval_rerank_i2t_r1": 30.0},
]
CONFIGS = {"plain": {"objective": {"alpha": 0.4, "circle_weight": 0}}, "other": {"objective": {"alpha": 0.4}}}


@pytest.fixture
def runs(tmp_path) -> dict[str, Path]:
    for name, rows in (("plain", PLAIN), ("other", OTHER)):
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        said = CONFIGS[name] | {"output_dir": str(folder), "seed": 1}
        (folder / "config.yaml").write_text(json.dumps(said))
    return {name: tmp_path / name / "run" for name in ("plain", "other")}


def test_what_differs_and_what_each_has_come_to(runs):
    assert run_names(list(runs.values())) == runs
    found = compare(runs, {"plain": PLAIN, "other": OTHER})
    assert found.options == {"objective.circle_weight": {"plain": 0, "other": None}}
    assert found.training == {
        "step": {"plain": 20, "other": 10},
        "loss": {"plain": 2.0, "other": 4.0},
        "i2t": {"plain": 1.5, "other": 2.0},
        "t2i": {"plain": 0.5, "other": 1.0},
        "circle": {"plain": None, "other": 7.0},
    }
    assert found.evaluation["eval_i2t_r1"] == {"plain": 12.5, "other": 25.0}
    assert found.evaluation["eval_rerank_i2t_r1"] == {"plain": None, "other": 30.0}


def test_a_run_without_a_configuration_is_compared_by_its_numbers(runs):
    (runs["other"] / "config.yaml").unlink()
    found = compare(runs, {"plain": PLAIN, "other": OTHER})
    assert found.options["seed"] == {"plain": 1, "other": None} and found.training["step"]["other"] == 10


def test_the_command(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(["compare", *map(str, runs.values())])
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split() for line in lines]
    assert cells[0] == ["plain", "other"] and lines[-1] == "comparison.png"
    assert ["objective.circle_weight", "0", "-"] in cells and ["loss", "2", "4"] in cells
    assert ["i2t_r1", "12.5", "25"] in cells and not any("alpha" in line for line in lines)
    with Image.open("comparison.png") as picture:
        assert picture.width > 500
    run(["compare", *map(str, runs.values()), "--json", "--out=c.svg"])
    assert json.loads(capsys.readouterr().out)["evaluation"]["eval_i2t_r1"] == {"plain": 12.5, "other": 25.0}


def test_lines_that_are_the_same_are_all_seen(monkeypatch, tmp_path):
    """Earlier runs are drawn wider; a run has one colour in all panels, and no two runs the same."""
    drawn = {}

    def look(figure: curves.Figure, *_: object, **__: object) -> None:
        for axes in figure.axes:
            drawn[axes.get_title()] = [(line.get_color(), line.get_linewidth()) for line in axes.lines]

    monkeypatch.setattr(curves.Figure, "savefig", look)
    plot_runs({"one": PLAIN, "same": PLAIN, "other": OTHER}, tmp_path / "a.png")
    for title in ("loss", "cma"):
        (first, wide), *_, (last, thin) = drawn[title]
        assert wide > thin and first != last
        assert len({color for color, _ in drawn[title]}) == 3
    assert {"loss", "cma", "circle", "R@1, %", "R@10, %", "R@1 re-ranked, %"} <= set(drawn)
    assert len(drawn["R@10, %"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plain/run"], r"^run: there is one; give two or more, or draw it with `tcl plot`$"),
        (["plain/run", "plain/../plain/run"], r"^run: plain/\.\./plain/run is there twice; name different ones$"),
        (["plain/run", "nowhere"], r"^run: nowhere/metrics\.jsonl does not exist; name the output_dir of a run$"),
        (["plain/run", "other/run", "--out=a.gif"], r"^out: a\.gif ends in \.gif; accepted: \.png, \.svg, \.pdf$"),
    ],
)
def test_what_cannot_be_compared(runs, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        run(["compare", *arguments])


def test_runs_within_each_other_have_names(tmp_path):
    assert list(run_names([tmp_path / "a", tmp_path / "a" / "b"])) == ["a", "a/b"]
