"""`tcl rescore`: what it tries, what it makes of the gains, and what it says."""

import json
import math

import numpy as np
import pytest
import torch
from data_files import encode, noise, pair, write_tar
from rescoring import inverted_softmax
from tiny_pretrained import tiny_tcl

from tcl.commands.main import run
from tcl.errors import InputError
from tcl.evaluation import choose_rescoring
from tcl.evaluation.choose_rescoring import Trial, best_trial, try_rescorings
from tcl.evaluation.recall import rank_metrics
from tcl.search.rescorings import METHODS

WIDTH = 8


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def hubs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and texts, pair by pair; three of ten lie near the middle of all others."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.ones(WIDTH)
    images = torch.randn(count, WIDTH, generator=generator) + middle
    images[::3] = images[::3] * 0.3 + middle
    texts = images + 0.9 * torch.randn(count, WIDTH, generator=generator) + middle
    return unit(images), unit(texts)


def tried(images, texts, bank, temperatures=(0.02, 0.1)) -> list[Trial]:
    pairs = [(i, i) for i in range(len(images))]
    return list(try_rescorings(images, texts, pairs, bank, temperatures, iterations=3))


def test_every_method_at_every_temperature_is_tried_and_a_sure_gain_chosen():
    images, texts = hubs(300, 0)
    trials = tried(images, texts, hubs(400, 1))
    names = [("none", None), *((method, temperature) for method in METHODS for temperature in (0.02, 0.1))]
    assert [(trial.method, trial.temperature) for trial in trials] == names
    chosen = best_trial(trials)
    assert chosen.method != "none" and chosen.gain > chosen.margin
    assert chosen.metrics["mean"] == max(trial.metrics["mean"] for trial in trials)


def test_recalls_are_those_of_numpy(monkeypatch):
    """Of the inverted softmax, from whole matrices."""
    monkeypatch.setattr("rescoring.TEMPERATURE", 0.1)
    images, texts = hubs(60, 0)
    bank = hubs(50, 1)
    (trial,) = [one for one in tried(images, texts, bank) if (one.method, one.temperature) == ("inverted_softmax", 0.1)]
    ranks = []
    for queries, candidates, stored in ((images, texts, bank[0]), (texts, images, bank[1])):
        scores = inverted_softmax(stored.numpy())(queries, candidates)(queries @ candidates.T).numpy()
        own = np.diag(scores)
        later = np.arange(60)[None, :] > np.arange(60)[:, None]
        ranks.append(torch.from_numpy(1 + ((scores > own[:, None]) | ((scores == own[:, None]) & later)).sum(axis=1)))
    assert trial.metrics == rank_metrics(*ranks)


def test_a_gain_is_paired_and_as_sure_as_its_queries_are_many():
    before = (torch.tensor([1, 2, 30, 4]), torch.tensor([1, 1]))
    after = (torch.tensor([1, 1, 6, 4]), torch.tensor([2, 1]))
    gain, margin = choose_rescoring._gain(after, before)
    by_image, by_text = np.array([0, 100 / 3, 100 / 3, 0]), np.array([-100 / 3, 0])
    assert gain == pytest.approx((by_image.mean() + by_text.mean()) / 2)
    variance = (by_image.var(ddof=1) / 4 + by_text.var(ddof=1) / 2) / 4
    assert margin == pytest.approx(1.96 * math.sqrt(variance))


def test_none_is_chosen_where_no_gain_is_sure():
    plain = Trial("none", None, {"mean": 50.0})
    unsure = Trial("dsl", 0.1, {"mean": 51.0}, gain=1.0, margin=1.5)
    sure = Trial("sinkhorn", 0.1, {"mean": 50.5}, gain=0.5, margin=0.2)
    assert best_trial([plain, unsure]) == plain
    assert best_trial([plain, sure]) == sure


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_tcl().save_pretrained("model")
    for name, first in (("dev", 0), ("bank", 100)):
        entries = [e for i in range(6) for e in pair(f"{name}{i}", f"number {name} {i}", encode(noise(first + i)))]
        write_tar(tmp_path / f"{name}.tar", entries)
    return tmp_path


def rescore(*options: str) -> None:
    run(["rescore", "model", "--device=cpu", "--precision=fp32", "--val=dev.tar", *options])


def test_the_command_shows_all_and_says_what_is_best(folder, capsys):
    rescore("--bank=bank.tar", "--temperatures=0.05,0.2", "--out=found.json")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["none", *(method for method in METHODS for _ in range(2))]
    assert lines[-1].startswith("best: ")
    found = json.loads((folder / "found.json").read_text())
    assert len(found["tried"]) == 9 and found["chosen"] in found["tried"]
    assert lines[1].split()[1:] == [
        f"{found['tried'][0]['metrics'][name]:.1f}"
        for name in ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--bank=dev.tar"],
            r"^bank: 'dev\.tar' holds 6 of the images that are evaluated \(dev\.tar/dev0, ",
        ),
        (["--bank=bank.tar", "--temperatures=0.1,x"], r"^temperatures: 'x' is no number; give some > 0, separated by"),
        (["--bank=bank.tar", "--temperatures=0"], r"^temperatures: 0\.0 is not possible; accepted: numbers > 0$"),
        (["--bank=bank.tar", "--iterations=0"], r"^iterations: 0 is not possible; accepted: 1 or more$"),
        (["--bank=bank.tar", "--out=none/found.json"], r"^out: none/found\.json cannot be written \(No such file or"),
    ],
)
def test_what_cannot_be_is_one_line(folder, options, message):
    with pytest.raises(InputError, match=message):
        rescore(*options)
