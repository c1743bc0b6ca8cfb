"""What the benchmarks share, the report in docs/performance.md, and the guard against lost speed."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from benchmarks import check
from benchmarks.check import Baseline, lost
from benchmarks.measure import ratio, slope
from benchmarks.operation_kinds import kind_of, products_of, seconds_by_kind
from benchmarks.report import newest_results, on_page, render
from benchmarks.sides import PeakMemory, Sides


@pytest.mark.parametrize("path", sorted(Path("benchmarks").rglob("*.py")), ids=str)
def test_every_benchmark_can_be_imported(path):
    importlib.import_module(".".join(path.with_suffix("").parts))


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


def side_with_peaks(mib: int):
    first = bytearray(b"x") * (2 * mib * 2**20)
    del first
    memory = PeakMemory()
    second = bytearray(b"x") * (mib * 2**20)
    del second
    return lambda command: memory.bytes()


def test_peak_memory_is_that_of_what_came_after():
    """In a process of its own: where a training has run, freed memory is kept, and taking it again adds nothing."""
    with Sides({"a": side_with_peaks}, 100) as sides:
        assert 95 * 2**20 < sides.ask("a", "memory") < 150 * 2**20


def saved_baseline(folder: Path, name: str, **said) -> Path:
    path = folder / name
    path.write_text(json.dumps({"ratios": {"loader": 2.0, "retrieval, default": 8.4}} | said))
    return path


def test_a_baseline_of_this_processor_comes_before_one_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "device_name", lambda: "box")
    monkeypatch.setattr(check, "processor", lambda: "ours")
    assert check.find_baseline(tmp_path) is None
    saved_baseline(tmp_path, "box_bf16-quick.json", date="2027-01-01")
    assert check.find_baseline(tmp_path) is None
    old = saved_baseline(tmp_path, "box-quick.json")
    assert check.find_baseline(tmp_path) == Baseline(old, {"loader": 2.0, "retrieval, default": 8.4}, None)
    newer = saved_baseline(tmp_path, "box-an_other-quick.json", date="2026-01-01", bf16_gain=5.0)
    assert check.find_baseline(tmp_path).path == newer and check.find_baseline(tmp_path).gain is None
    own = saved_baseline(tmp_path, "box-ours-quick.json", date="2025-01-01", bf16_gain=4.5)
    assert check.find_baseline(tmp_path) == Baseline(own, {"loader": 2.0, "retrieval, default": 8.4}, 4.5)


@pytest.mark.parametrize(
    ("saved_gain", "gain", "told", "status"),
    [
        (None, 5.0, "is not known to be of this processor", 0),  # another machine
        (5.0, 4.0, "was saved where bf16 was 5.0 times as fast as fp32, here it is 4.0", 0),
        (5.0, 5.1, None, 1),
        (None, None, None, 1),  # nothing is in bf16 here
    ],
)
def test_rows_in_bf16_are_judged_where_they_can_be(saved_gain, gain, told, status, capsys):
    baseline = Baseline(Path("saved.json"), {"loader": 2.0, "retrieval, default": 8.4}, saved_gain)
    assert check.compare(baseline, {"loader": 1.9, "retrieval, default": 6.2}, gain) == status
    said = capsys.readouterr()
    lines = [line for line in said.out.splitlines() if "nothing can be told" in line]
    assert len(lines) == (told is not None) and all(f"saved.json {told}; " in line for line in lines)
    assert ("6.20 times as fast as the textbook, was 8.40" in said.out) == (status == 1)
    assert ("lost more than a fifth: retrieval, default" in said.err) == (status == 1)
    assert check.compare(baseline, {"loader": 1.5, "retrieval, default": 9.0}, gain) == 1
    assert "lost more than a fifth: loader: 1.50" in capsys.readouterr().err


def test_a_processor_is_what_is_said_of_the_first(tmp_path):
    said = "processor : 0\nmodel name : A\ncpu MHz : 1\nflags : x y\n\nprocessor : 1\nmodel name : B\n"
    (tmp_path / "cpuinfo").write_text(said)
    assert check._cpu_facts(tmp_path / "cpuinfo") == ["flags : x y", "model name : A"]
    assert check._cpu_facts(tmp_path / "none") == []


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


def test_what_has_no_other_side_follows_the_table(tmp_path):
    comparison = {
        "options": {"answers": 10, "k": 2},
        "seconds": {"plain": [2.0], "ours": [1.0]},
        "ratios": {"ours": {"median": 2.0, "least": 2.0, "most": 2.0}},
    }
    costs = {"pairs_per_second": 33.0, "peak_bytes": 2**30, "added": 0.5, "added_with_thread": 0.25, "resume": 1.5}
    points = {"8": {"seconds": [1.0, 2.0, 3.0], "bytes": 2**30}, "64": {"seconds": [9.0], "bytes": 2**32}}
    results = {
        "vqa": comparison,
        "parts-Ti-64": {"options": {"name": "Ti", "batch": 64}, "whole": 4.0, "parts": {"text": 1.0, "image": 2.0}},
        "scale": {"series": {"pairs": {"points": points, "slopes": {"seconds": 0.98, "bytes": 1.02}}}},
        "processes": {"pairs": 16, "runs": {"2, DDP": {"costs": costs}}},
        "long_run": {"options": {"steps": 5000}, "kept_speed": 0.987, "grown_mib": 1.5, "loaders_grown_mib": -0.5},
        "loader_scale": {
            "options": {"shards": 10000},
            "start_up_seconds": {"with_sizes": {"listed": 0.5, "first_batch": 0.25}},
            "memory": [{"samples": 100_000}],
            "grown_mib": -1.0,
        },
        "search": {
            "rows": [
                {"images": 1_000_000, "embeddings": "int8", "resident_mib": 900.0, "recall": 0.9871}
                | {name: [0.01, 0.02, 0.03] for name in ("text", "search", "read", "match", "query", "from_images")}
                | {"times_as_fast_as_from_images": 20.04}
            ],
            "indexing": {
                "rates": {"encoder": [50.0], "index": [45.0]},
                "share": {"median": 0.9},
                "bytes_of_an_image": 12_345.6,
            },
            "engines": {"images": 1000, "seconds": {"faiss": [0.001], "milvus": [0.002]}, "same": "5 of 5"},
        },
        "unknown": {},
    }
    for name, result in results.items():
        (tmp_path / f"box-2026-01-01-{name}.json").write_text(
            json.dumps({"machine": {"threads": 1, "torch": "2"}} | result)
        )
    report = render(newest_results(tmp_path))
    places = [
        report.find(piece)
        for piece in (
            "**2.0**",
            "image 50%; text 25%.",
            "| pairs | 8 to 64 | 2.00 to 9.00 | 0.98 | 1.00 to 4.00 | 1.02 |",
            "| 2, DDP | 33.0 | 1024 | 0.50 | 0.25 | 1.50 |",
            "Over 5,000 steps of a tiny model the last windows ran at 0.99 of the speed of the first",
            "10,000 shards in 0.50 s and has a batch 0.25 s later; over 100,000 samples its memory changed by -1.0 MiB",
            "| 1,000,000 | int8 | 20.0 | 20.0 | 20.0 | 20.0 | 20.0 | 20.0 | **20.0** | 900 | 0.987 |",
            "Indexing runs at 0.90 of the encoder's own 50.0 images a second and leaves 12,346 bytes an image.",
            "A search in 1,000 takes 1.00 ms in faiss and 2.00 ms in milvus; the same answers: 5 of 5.",
            "No GPU was at hand",
        )
    ]
    assert places[0] > 0 and min(places) == places[0] and max(places) == places[-1]


def test_the_page_quotes_the_committed_results():
    assert on_page(Path("docs/performance.md").read_text()) == render(newest_results())


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::addmm", "products"),
        ("aten::mkldnn_convolution", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "products"),
        ("aten::_softmax", "softmax"),
        ("aten::native_layer_norm_backward", "norms and activations"),
        ("aten::random_", "random numbers"),
        ("aten::index_select", "copies and casts"),
        ("aten::mul", "the rest"),
    ],
)
def test_operations_are_told_apart_by_their_names(operation, kind):
    assert kind_of(operation) == kind


def test_what_a_call_takes_is_told_by_kind():
    a = torch.randn(400, 400)
    seconds = seconds_by_kind(lambda: [(a @ a) for _ in range(20)])
    assert seconds["products"] > 0 and seconds["softmax"] == 0
    assert products_of(lambda: a @ a) == 2 * 400**3
