"""`tcl plot`: the values of metrics.jsonl against their steps, whatever else is in it."""

import json

import pytest
from PIL import Image

from tcl.commands.main import run
from tcl.errors import InputError
from tcl.runs import curves
from tcl.runs.curves import read_rows

ROWS = [
    {"step": 10, "loss": 3.0, "i2t": 2.0, "itm": 0.7, "itm_accuracy": 0.6, "itm_prior": 0.667},
    {"step": 20, "loss": 2.0, "i2t": 1.5, "itm_accuracy": 0.7, "itm_prior": 0.667},
    {"step": 20, "eval_i2t_r1": 12.5, "eval_rerank_i2t_r1": 25.0},
]
DAMAGED = ['{"step": 30, "loss": ', "[1, 2]", '{"loss": 1.0}', '{"step": "forty", "i2t": 1.0}', "[" * 100_000, ""]


@pytest.fixture
def drawn(monkeypatch) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The lines of what is drawn, by the titles of the panels and their labels, instead of a picture."""
    lines = {}

    def look(figure: curves.Figure, *_: object, **__: object) -> None:
        for axes in figure.axes:
            points = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
            lines[axes.get_title()] = points

    monkeypatch.setattr(curves.Figure, "savefig", look)
    return lines


def write(folder, lines: list[str]) -> None:
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_every_value_is_drawn_at_its_step(tmp_path, drawn):
    write(tmp_path, [json.dumps(row) for row in ROWS])
    run(["plot", str(tmp_path)])
    assert drawn["cma"] == {"image to text": [(10, 2.0), (20, 1.5)]} and drawn["itm"] == {"itm": [(10, 0.7)]}
    told = drawn["told right in training"]
    assert told["itm accuracy"] == [(10, 0.6), (20, 0.7)] and "itm, nothing learned" in told
    assert drawn["R@1, %"] == {"image to text": [(20, 12.5)]}
    assert drawn["R@1 re-ranked, %"] == {"image to text": [(20, 25.0)]}
    assert "mlm" not in drawn


def test_numbers_that_are_the_same_are_all_seen(monkeypatch, tmp_path):
    """Of one run, too: earlier ones are drawn wider, in another colour."""
    looks = {}

    def look(figure: curves.Figure, *_: object, **__: object) -> None:
        for axes in figure.axes:
            looks[axes.get_title()] = [(line.get_linewidth(), line.get_color()) for line in axes.lines]

    monkeypatch.setattr(curves.Figure, "savefig", look)
    write(tmp_path, ['{"step": 5, "eval_i2t_r10": 90.0, "eval_t2i_r10": 90.0}'])
    run(["plot", str(tmp_path)])
    (wide, below), (thin, above) = looks["R@10, %"]
    assert wide > 2 * thin and below != above


def test_a_run_on_questions_is_drawn_too(tmp_path, drawn):
    write(tmp_path, ['{"step": 5, "loss": 1.0, "answer": 1.0}', '{"step": 5, "eval_accuracy": 40.0}'])
    run(["plot", str(tmp_path)])
    assert drawn["answer"] == {"answer": [(5, 1.0)]} and drawn["evaluation: accuracy"] == {"accuracy": [(5, 40.0)]}


def test_damaged_lines_are_left_out_and_counted(tmp_path, capsys):
    write(tmp_path, [json.dumps(ROWS[0]), *DAMAGED, json.dumps({**ROWS[1], "i2t": "much", "itm": 10**400})])
    rows, damaged = read_rows(tmp_path)
    assert ([row["step"] for row in rows], damaged) == ([10, 20], len(DAMAGED) - 1)  # a blank line is none
    run(["plot", str(tmp_path), "--out", str(tmp_path / "curves.png")])
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "curves.png"),
        f"left out: {len(DAMAGED) - 1} lines of metrics.jsonl that are no rows of a run",
    ]
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > picture.height


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"^run: .*metrics\.jsonl does not exist; name the output_dir of a run$"),
        (b"", r"^run: .*metrics\.jsonl holds no row of a run; let the run take a few steps first$"),
        (b"\xff\xfe{}\n[]\n", r"^run: .*metrics\.jsonl holds no row of a run"),
    ],
)
def test_nothing_to_draw(tmp_path, content, said):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=said):
        run(["plot", str(tmp_path)])


def test_a_picture_that_cannot_be_written(tmp_path):
    write(tmp_path, [json.dumps(ROWS[0])])
    with pytest.raises(
        InputError, match=r"^out: .*curves\.png cannot be written \(No such file or directory\); name an"
    ):
        run(["plot", str(tmp_path), "--out", str(tmp_path / "no" / "curves.png")])
