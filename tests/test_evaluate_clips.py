"""Retrieval among the modalities of clips held out: loops by hand, chance by counting, one process and two."""

import json
import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from clips_run import sample
from data_files import write_tar
from launching import launch
from tiny_pretrained import tiny_clips

from tcl import TCLForClips
from tcl.commands.task_options import parse_finetune
from tcl.config.clips_objective import ClipsObjectiveConfig
from tcl.errors import InputError
from tcl.evaluation.chance import found_by_chance
from tcl.training.evaluate_only import evaluate_only

CLIPS = 18


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def shards(tmp_path) -> Path:
    for shard in range(2):
        entries = [entry for i in range(shard * CLIPS // 2, (shard + 1) * CLIPS // 2) for entry in sample(i)]
        write_tar(tmp_path / f"{shard:06d}.tar", entries)
    return tmp_path


def options(folder: Path, model: TCLForClips, *more: str) -> list[str]:
    model.save_pretrained(folder / "model")
    return [
        *("--task=retrieval", "--objective=clips", f"--init={folder / 'model'}", f"--data.val={folder}/*.tar"),
        *("--data.workers=0", "--data.max_tokens=12", "--eval.batch_size=5", "--train.precision=fp32", *more),
    ]


def evaluated(given: list[str], out: Path) -> dict[str, float]:
    evaluate_only(*parse_finetune([*given, f"--output_dir={out}"], trains=False))
    return json.loads((out / "results" / "metrics.json").read_text())


def by_hand(model: TCLForClips, one: str, other: str) -> dict[str, float]:
    """Of the clips that have both, query by query."""
    files = [{name.split(".")[1]: content for name, content in sample(i)} for i in range(CLIPS)]
    items = {
        "video": [[clip["jpg"]] for clip in files],
        "audio": [[clip["wav"]] if "wav" in clip else [] for clip in files],
        "text": [json.loads(clip["json"])["captions"] if "json" in clip else [] for clip in files],
    }
    encode = {"video": model.encode_video, "audio": model.encode_audio, "text": model.encode_text}
    both = [i for i in range(CLIPS) if items[one][i] and items[other][i]]
    queries = [(i, encode[one](item, to=other)[0]) for i in both for item in items[one][i]]
    candidates = [(i, encode[other](item, to=one)[0]) for i in both for item in items[other][i]]
    ranks, chances = [], []
    for owner, query in queries:
        cosines = [float(query @ candidate) for _, candidate in candidates]
        right = [cosine for cosine, (of, _) in zip(cosines, candidates, strict=True) if of == owner]
        ranks.append(1 + sum(cosine > max(right) for cosine in cosines))
        count, wrong = len(cosines), len(cosines) - len(right)
        chances.append([1 - math.comb(wrong, r) / math.comb(count, r) for r in range(1, count + 1)])
    name, chance = f"{one}2{other}", np.mean(chances, axis=0)
    return {
        **{f"{name}_r{k}": 100 * np.mean([rank <= k for rank in ranks]) for k in (1, 5, 10)},
        **{f"{name}_chance_r{k}": 100 * chance[k - 1] for k in (1, 5, 10)},
        f"{name}_median_rank": np.median(ranks),
        f"{name}_chance_median_rank": 1 + next(r for r, found in enumerate(chance) if found >= 0.5),
        f"{name}_candidates": len(candidates),
    }


@pytest.mark.parametrize(("graph", "at_weight"), [("fac", 0), ("disjoint", 0), ("disjoint", 1)])
def test_it_agrees_with_loops_by_hand(graph, at_weight, shards, capsys):
    """All pairs that have a space: with disjoint ones, sound and text have none where training did not compare them."""
    model = tiny_clips(graph=graph, objective=ClipsObjectiveConfig(at_weight=at_weight))
    pairs = [("video", "audio"), ("video", "text")]
    pairs += [("audio", "text")] if graph == "fac" or at_weight else []
    expected = {}
    for one, other in pairs:
        expected |= by_hand(model, one, other) | by_hand(model, other, one)
    found = evaluated(options(shards, model, f"--objective.at_weight={at_weight}"), shards / "out")
    assert found == pytest.approx(expected, rel=1e-5)
    shown = f"video2text_r1 {found['video2text_r1']:.1f} (chance {expected['video2text_chance_r1']:.1f})"
    assert shown in capsys.readouterr().out


def test_what_was_not_trained_on_is_not_judged(shards):
    deaf = tiny_clips(objective=ClipsObjectiveConfig(va_weight=0))
    found = evaluated(options(shards, deaf, "--objective.va_weight=0"), shards / "out")
    assert found == pytest.approx(by_hand(deaf, "video", "text") | by_hand(deaf, "text", "video"), rel=1e-5)


def test_clips_of_one_modality_have_nothing_to_find(tmp_path):
    write_tar(tmp_path / "000000.tar", [entry for i in range(3) for entry in sample(i)[:1]])
    with pytest.raises(InputError, match=r"^data\.val: '.*\.tar' holds no clip with sound or text that can be used"):
        evaluated(options(tmp_path, tiny_clips()), tmp_path / "out")


def test_two_processes_find_what_one_finds(shards):
    given = options(shards, tiny_clips())
    done = launch("-m", "tcl", "evaluate", *given, f"--output_dir={shards / 'two'}")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((shards / "two" / "results" / "metrics.json").read_text())
    assert found == pytest.approx(evaluated(given, shards / "one"), rel=1e-6)
    assert done.stdout.count("retrieval among the modalities of clips") == 1


def test_chance_is_what_all_orders_find_on_average():
    right = torch.tensor([1, 3, 1, 2])
    orders = list(permutations(range(5)))
    firsts = [[1 + min(order.index(place) for place in range(count)) for order in orders] for count in right.tolist()]
    expected = [np.mean([first <= r for of_query in firsts for first in of_query]) for r in range(1, 6)]
    np.testing.assert_allclose(found_by_chance(right, 5).numpy(), expected, rtol=1e-12)
