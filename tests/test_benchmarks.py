"""What the benchmarks share, the report in README, and the guard against lost speed."""

import json
from pathlib import Path

import pytest

from benchmarks.check import lost
from benchmarks.measure import ratio, slope
from benchmarks.report import in_readme, newest_results, render
from benchmarks.sides import PeakMemory, Sides


def test_the_ratio_is_taken_round_by_round():
    """A round in which the machine was twice as slow counts as any other."""
    found = ratio({"slow": [4.0, 8.0, 9.0], "fast": [2.0, 4.0, 3.0]}, "slow", "fast")
    assert found == {"median": 2.0, "least": 2.0, "most": 3.0}


def test_slope_of_powers():
    sizes = [1, 2, 4, 8]
    assert slope(sizes, [3 * size for size in sizes]) == pytest.approx(1)
    assert slope(sizes, [5 * size**2 for size in sizes]) == pytest.approx(2)
    assert slope(sizes, [7.0] * 4) == pytest.approx(0)


def counting_side(start: int):
    count = start

    def side(command: str) -> int:
        nonlocal count
        if command == "fail":
            raise ValueError("as asked")
        count += 1
        return count

    return side


def test_sides_take_turns_and_tell_of_their_failures():
    with Sides({"a": counting_side, "b": counting_side}, 10) as sides:
        assert sides.in_turn("count", 2) == {"a": [11, 12], "b": [11, 12]}
        with pytest.raises(RuntimeError, match=r"b, asked for fail, failed:(.|\n)*as asked"):
            sides.ask("b", "fail")
        assert sides.ask("b", "count") == 13


def test_peak_memory_is_that_of_what_came_after():
    first = bytearray(b"x") * (200 * 2**20)
    del first
    memory = PeakMemory()
    second = bytearray(b"x") * (100 * 2**20)
    del second
    assert 95 * 2**20 < memory.bytes() < 150 * 2**20


def test_lost_speed_is_named():
    assert lost({"step": 4.0, "loader": 2.0}, {"step": 3.3, "loader": 1.5}) == [
        "loader: 1.50 times as fast as the textbook, was 2.00"
    ]
    assert lost({"step": 4.0}, {}) == ["step: 0.00 times as fast as the textbook, was 4.00"]


def test_the_report_takes_the_newest_result_of_each_kind(tmp_path):
    for day, speed in (("2026-01-02", 5.0), ("2026-01-01", 3.0)):
        result = {
            "machine": {"threads": 1, "torch": "2"},
            "options": {"answers": 3128, "k": 128},
            "seconds": {"plain": [10.0], "ours": [10 / speed]},
            "ratios": {"ours": {"median": speed, "least": speed, "most": speed}},
        }
        (tmp_path / f"box-{day}-vqa.json").write_text(json.dumps(result))
    report = render(newest_results(tmp_path))
    assert (
        "| ranking 3,128 answers, k 128 | 10.0 s | 2.0 s | **5.0** (5.0 to 5.0) | |" in report and "3.3 s" not in report
    )
    assert "No GPU was at hand" in report


def test_readme_quotes_the_committed_results():
    assert in_readme(Path("README.md").read_text()) == render(newest_results())
