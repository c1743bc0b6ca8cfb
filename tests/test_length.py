"""How long runs are, in samples, whatever batch they have."""

import json
import zlib
from collections import Counter
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from small_run import SAMPLES, contents, rows, small_run, train

from tcl.config.optim import OptimConfig
from tcl.errors import Preempted
from tcl.runs.length import Length
from tcl.training import run
from tcl.training.optimiser import learning_rate, soft_target_share


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    return small_run(tmp_path_factory.mktemp("small"))


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def seen(monkeypatch) -> Counter[str]:
    """How often each key was trained on."""
    keys: Counter[str] = Counter()
    original = run.train_step

    def count(engine, teacher, batches, **rest):
        keys.update(key for batch in batches for key in batch.keys)
        return original(engine, teacher, batches, **rest)

    monkeypatch.setattr(run, "train_step", count)
    return keys


def batch_of(changed: str) -> int:
    """Samples of a step with that option instead of batches of 4."""
    return {"--train.accumulate_steps=2": 8}.get(changed) or int(changed[-1])


def stop_after(monkeypatch, steps: int) -> None:
    """The next run is told to stop in its step number `steps`."""
    original, done = run.StopRequest.anywhere, Counter()

    def anywhere(request, device):
        done["steps"] += 1
        return original(request, device) or done["steps"] == steps

    monkeypatch.setattr(run.StopRequest, "anywhere", anywhere)


@pytest.mark.parametrize(
    ("stopped_after", "changed", "last"),
    [
        (10, "--train.batch_size=8", 15),
        (10, "--train.accumulate_steps=2", 15),
        (7, "--train.batch_size=2", 33),
        (7, "--train.batch_size=8", 14),  # 52 samples are left: 7 steps of 8 reach 4 into a third pass
    ],
)
def test_a_run_that_goes_on_with_another_batch_sees_every_sample_as_often_as_it_has_epochs(
    options, tmp_path, monkeypatch, seen, stopped_after, changed, last
):
    with monkeypatch.context() as patch:
        stop_after(patch, stopped_after)
        with pytest.raises(Preempted):
            train(options, tmp_path)
    assert seen.total() == 4 * stopped_after
    assert train(options, tmp_path, changed).name == f"step_{last:08d}"
    too_many = 4 * stopped_after + (last - stopped_after) * batch_of(changed) - 2 * SAMPLES
    assert len(seen) == SAMPLES and Counter(seen.values()) == Counter({2: SAMPLES - too_many, 3: too_many}) - Counter()
    assert [row["step"] for row in rows(tmp_path) if "loss" in row] == list(range(1, last + 1))
    assert [row["step"] for row in rows(tmp_path) if "samples_seen" in row][-1] == last
    assert [row for row in rows(tmp_path) if "loss" in row][-1]["epoch"] == pytest.approx(seen.total() / SAMPLES)


def test_samples_that_do_not_fill_a_step_are_seen_too(options, tmp_path, seen):
    """40 = 3 x 12 + 4: what was left of each epoch never came."""
    train(options, tmp_path, "--train.batch_size=12")
    assert len(seen) == SAMPLES and min(seen.values()) == 2 and seen.total() == 7 * 12


def test_steps_stay_steps(options, tmp_path):
    assert train(options, tmp_path, "--train.steps=3").name == "step_00000003"
    assert train(options, tmp_path, "--train.steps=5", "--train.batch_size=8").name == "step_00000005"


def test_a_checkpoint_without_a_count_of_samples_goes_on(options, tmp_path, monkeypatch, seen):
    """As runs of before left them: the count is that of its steps and of its config.yaml."""
    stop_after(monkeypatch, 10)
    with pytest.raises(Preempted):
        train(options, tmp_path)
    (checkpoint,) = (tmp_path / "checkpoints").glob("step_*")
    progress = json.loads((checkpoint / "progress.json").read_text())
    assert progress.pop("samples") == 40
    for state in progress["loaders"]:
        del state["data"]["digests"]
    rewrite_json(checkpoint, progress)
    train(options, tmp_path, "--train.batch_size=8")
    assert set(seen.values()) == {2}


def rewrite_json(checkpoint: Path, progress: dict) -> None:
    """Another progress.json, and a manifest that says so."""
    text = json.dumps(progress, indent=1)
    (checkpoint / "progress.json").write_text(text)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["progress.json"] = {"bytes": len(text), "crc32": f"{zlib.crc32(text.encode()):08x}"}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest, indent=1))


@pytest.mark.parametrize(("given", "way_on"), [((), "--train.epochs 3"), (("--train.steps=5",), "--train.steps 10")])
def test_a_run_with_nothing_left_to_do_says_so_and_changes_no_file(options, tmp_path, capsys, given, way_on):
    last = train(options, tmp_path, *given)
    before = contents(tmp_path)
    capsys.readouterr()
    assert train(options, tmp_path, *given, "--train.log_every=7") == last
    printed = capsys.readouterr().out
    assert printed.startswith("nothing left to do: ") and way_on in printed and printed.count("\n") == 1
    assert contents(tmp_path) == before
    name, _, value = way_on.partition(" ")
    assert train(options, tmp_path, f"{name}={value}") != last


@pytest.mark.parametrize(("samples", "batch", "epochs"), [(192, 16, 3), (40, 4, 30), (512, 512, 7), (1000, 8, 11)])
def test_a_run_that_never_changes_its_batch_has_the_rates_that_steps_alone_would_give(samples, batch, epochs):
    """Bit by bit, by the formulas in steps."""
    per_epoch, optim = samples // batch, OptimConfig(lr=1e-3, warmup_steps=5)
    length = Length(samples, batch, first_batch=batch, epochs=epochs, steps=None)
    assert length.last_step(0, 0) == epochs * per_epoch
    for step in range(epochs * per_epoch):
        seen = step * batch
        by_steps = learning_rate(step, epochs * per_epoch, 5, optim)
        assert learning_rate(*length.schedule(step, seen, 5), optim) == by_steps
        for ramp in (0.0, 0.3, 1.0, 6.0):
            assert soft_target_share(*length.ramp(seen, ramp), 0.4) == soft_target_share(step, ramp * per_epoch, 0.4)
        assert length.ends_epoch(seen + batch) == ((step + 1) % per_epoch == 0)


def test_the_learning_rate_of_a_run_that_changed_its_batch_ends_where_it_should():
    optim = OptimConfig(lr=1.0, warmup_lr=0.5, min_lr=0.1, warmup_steps=2)
    length = Length(samples=100, batch=30, first_batch=7, epochs=3, steps=None)
    last = length.last_step(10, 70)
    assert last == 10 + 8  # 230 samples are left
    assert learning_rate(*length.schedule(last - 1, 70 + 7 * 30, 2), optim) == pytest.approx(0.1)
    assert length.last_step(10, 300) == length.last_step(10, 999) == 10


@pytest.mark.parametrize(("first", "then"), [(4, 8), (4, 64), (64, 4), (10, 15)])
@pytest.mark.parametrize("stopped_after", [3, 5, 8, 20])
def test_the_learning_rate_does_not_jump_where_the_batch_changes(first, then, stopped_after):
    """Not even within the warm-up, which neither begins again nor ends at once; all of it is linear in samples."""
    optim = OptimConfig(lr=1.0, warmup_lr=0.1, min_lr=0.0, warmup_steps=8)
    rates = [
        learning_rate(*Length(100_000, batch, first, 2, None).schedule(stopped_after, stopped_after * first, 8), optim)
        for batch in (first, then)
    ]
    assert rates[0] == pytest.approx(rates[1], abs=1e-5)
    if stopped_after < 8:
        assert rates[1] == pytest.approx(0.1 + 0.9 * stopped_after / 8)


def test_a_run_resumed_twice_keeps_the_warm_up_with_which_it_began(options, tmp_path, monkeypatch):
    for batch, steps in ((4, 1), (8, 1), (2, 2)):
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(Preempted):
                train(options, tmp_path, f"--train.batch_size={batch}", "--optim.warmup_steps=5")
    rates = [row["learning_rate"] for row in rows(tmp_path) if "loss" in row]
    assert rates == pytest.approx([1e-5 + 9e-5 * samples / 20 for samples in (0, 4, 12, 14)])
