"""What the benchmarks of scale make of what they measure."""

import json

import pytest
from accelerate.state import AcceleratorState

from benchmarks.long_run import Window, kept_speed, run, windows_of
from benchmarks.pretraining_models import Size, build_models
from benchmarks.process_steps import BLOCK, Measured
from benchmarks.processes import Launch, costs, joined, launch
from benchmarks.scale import Point, measure, slopes


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    """accelerate refuses another precision in the same process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_slopes_are_the_powers_by_which_time_and_memory_grow():
    """The median counts: one slow step changes nothing."""
    points = {n: Point([0.5 * n**2, 0.5 * n**2, 99.0], bytes=7 * n) for n in (8, 16, 64)}
    assert slopes(points) == pytest.approx({"seconds": 2, "bytes": 1})
    flat = {n: Point([3.0], bytes=5) for n in (8, 16, 64)}
    assert slopes(flat) == pytest.approx({"seconds": 0, "bytes": 0})


def test_memory_of_a_point_has_room_for_what_training_holds():
    """fp32 student, its gradients and AdamW's two moments, and the teacher with its queues."""
    sizes = {queue: Size("half-Ti", batch=2, queue=queue, image_size=32) for queue in (64, 65536)}
    points = measure(sizes, repeats=2)
    for queue, point in points.items():
        student, teacher = build_models(sizes[queue])
        held = 16 * sum(p.numel() for p in student.parameters())
        held += sum(t.numel() * t.element_size() for t in teacher.state_dict().values())
        assert len(point.seconds) == 2 and min(point.seconds) > 0
        assert held < point.bytes < 4 * held
    # The rows of both queues; a process' peak varies by some MiB from one start to the next.
    assert points[65536].bytes - points[64].bytes > 0.8 * 65536 * 2 * 256 * 4


def measured(seconds: float) -> Measured:
    """Blocks of `seconds` that a checkpoint lengthens by 3, and by 1 where a thread writes it."""
    return Measured([seconds] * 2, [seconds + 3] * 2, [seconds + 1] * 2, [2.5], [0.5], [0.25], 1000, 100)


def test_costs_are_medians_over_the_repeats_of_all_rounds():
    found = costs(joined([measured(10.0), measured(10.0), measured(40.0)]), pairs=16)
    assert found.step == pytest.approx(10.0 / BLOCK)
    assert found.pairs_per_second == pytest.approx(16 * BLOCK / 10.0)
    assert (found.added, found.added_with_thread) == (3, 1)
    assert (found.save, found.hand_over, found.resume) == (2.5, 0.5, 0.25)
    assert (found.peak_bytes, found.checkpoint_bytes) == (1000, 100)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "zero3"])
def test_two_processes_measure_themselves(mode):
    """The checkpoint holds weights, moments and teacher in fp32, whatever the mode."""
    found = launch(Launch(2, 1, mode), pairs=4, repeats=2)
    assert len(found.steps) == len(found.steps_and_save) == len(found.steps_and_thread) == len(found.resume) == 2
    assert all(block > call for block, call in zip(found.steps_and_save, found.save, strict=True))
    parameters, queues = 4_436_331, 2 * 4096 * 256  # as counted in docs/scaling.md
    assert found.checkpoint_bytes == pytest.approx(4 * (4 * parameters + queues), rel=0.01)
    assert found.peak_bytes > found.checkpoint_bytes / 2


def test_a_launch_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"train.deepspeed: configs/deepspeed/ddp9\.json cannot be read"):
        launch(Launch(1, 1, "ddp9"), pairs=2, repeats=1)


def test_a_short_run_reports_its_windows(tmp_path, capsys):
    windows = run(tmp_path, steps=30, window=10)
    assert [window.last_step for window in windows] == [10, 20, 30]
    assert all(window.steps_per_second > 0 for window in windows)
    assert all(window.process_mib > 50 and window.loaders_mib > 50 for window in windows)
    assert "30/30" in capsys.readouterr().out


def test_speed_of_a_window_is_its_steps_over_its_seconds_without_the_first_row():
    """Rows every 2 steps of 8 samples; the seconds of each row are known."""
    seconds = [100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 1.0, 1.0, 2.0]
    rows = [{"step": 2 * i, "samples_per_second": 16 / took} for i, took in enumerate(seconds, 1)]
    rows += [{"step": s, "eval_process_mib": 100.0 + s, "eval_loaders_mib": 7.0} for s in (0, 10, 20)]
    rows.append({"step": 20, "pass": 1, "samples_seen": 160})
    first, second = windows_of(json.loads(json.dumps(rows)), steps=20, window=10)
    assert (first.last_step, first.process_mib, first.loaders_mib) == (10, 110.0, 7.0)
    assert first.steps_per_second == pytest.approx(8 / 10)
    assert second.steps_per_second == pytest.approx(10 / 10)


def test_kept_speed_compares_the_ends_and_passes_over_one_odd_window():
    speeds = [10.0, 99.0, 10.0, 3.0, 3.0, 5.0, 1.0, 5.0]
    windows = [Window(i, speed, 0.0, 0.0) for i, speed in enumerate(speeds)]
    assert kept_speed(windows) == pytest.approx(0.5)
