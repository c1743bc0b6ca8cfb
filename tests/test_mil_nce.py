"""MIL-NCE against its formula, one term at a time, and what it does where little or nothing is there."""

import math

import pytest
import torch
from torch import Tensor

from tcl.losses.mil_nce import mil_nce, nce, unit

TAU = 0.2


def by_hand(clips: Tensor, captions: Tensor, exist: Tensor, positives: str) -> float:
    """clips [B, D], captions [B, K, D], exist [B, K]."""
    B, K, _ = captions.shape

    def e(v: int, c: int, k: int) -> float:
        return math.exp(clips[v] @ captions[c, k] / TAU)

    there = [(c, k) for c in range(B) for k in range(K) if exist[c, k]]
    losses = []
    for i in range(B):
        own = [k for k in range(K) if exist[i, k]]
        if not own:
            continue
        right = sum(e(i, i, k) for k in own)
        rows = sum(e(i, c, k) for c, k in there)
        columns = sum(e(v, i, k) for v in range(B) for k in own)
        losses.append(-math.log(right / (rows + columns - (right if positives == "once" else 0))))
    return sum(losses) / max(1, len(losses))


def random(B: int, K: int, D: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B + K)
    clips, captions = torch.randn(B, D, generator=generator), torch.randn(B, K, D, generator=generator)
    exist = torch.rand(B, K, generator=generator) < 0.6
    exist[1] = False
    return unit(clips.double()), unit(captions.double()), exist


@pytest.mark.parametrize("positives", ["twice", "once"])
@pytest.mark.parametrize("B, K", [(2, 1), (5, 3), (7, 4)])
@pytest.mark.parametrize("elements", [1, 9, 2**20])
def test_formula(B, K, positives, elements, monkeypatch):
    monkeypatch.setattr("tcl.losses.mil_nce.ELEMENTS", elements)
    clips, captions, exist = random(B, K)
    loss = mil_nce(clips, captions, exist, TAU, positives)
    assert loss.item() == pytest.approx(by_hand(clips, captions, exist, positives), rel=1e-9)


@pytest.mark.parametrize("positives", ["twice", "once"])
def test_gradients_are_those_of_small_steps(positives, monkeypatch):
    monkeypatch.setattr("tcl.losses.mil_nce.ELEMENTS", 9)
    clips, captions, exist = random(4, 3)
    clips, captions = clips.requires_grad_(), captions.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, t: mil_nce(v, t, exist, TAU, positives), (clips, captions))


@pytest.mark.parametrize("positives", ["twice", "once"])
def test_shares_of_a_batch_make_the_whole(positives):
    """What processes do: each its clips, with the captions of all; the log-sums over all clips are put together."""
    clips, captions, exist = random(6, 3)
    halves = clips.split(3)

    def sums(share: int) -> Tensor:
        seen = []
        mil_nce(halves[share], captions, exist, TAU, positives, 3 * share, lambda own: seen.append(own) or own)
        return seen[0]

    def together(_: Tensor) -> Tensor:
        return torch.stack([sums(0), sums(1)]).logsumexp(dim=0)

    losses = [mil_nce(half, captions, exist, TAU, positives, 3 * i, together) for i, half in enumerate(halves)]
    whole = mil_nce(clips, captions, exist, TAU, positives)
    assert torch.stack(losses).mean().item() == pytest.approx(whole.item(), rel=1e-9)


def test_nce_is_one_caption_and_the_least_loss_is_log_2():
    clips = torch.eye(4).double()
    exist = torch.tensor([True, True, False, True])
    loss = nce(clips, clips, exist, 0.01)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    assert nce(clips, clips, exist, 0.01, positives="once").item() == pytest.approx(0, abs=1e-6)
    assert loss == mil_nce(clips, clips[:, None], exist[:, None], 0.01)


@pytest.mark.parametrize("positives", ["twice", "once"])
def test_no_captions_at_all_give_no_loss_and_gradients_of_zero(positives):
    clips, captions, exist = random(3, 2)
    clips, captions = clips.requires_grad_(), captions.requires_grad_()
    loss = mil_nce(clips, captions, exist & False, TAU, positives)
    loss.backward()
    assert loss == 0
    assert clips.grad.count_nonzero() == 0 and captions.grad.count_nonzero() == 0


@pytest.mark.parametrize("positives", ["twice", "once"])
def test_a_batch_of_one_clip_has_no_negatives(positives):
    clips, captions, _ = random(2, 2)
    clips, captions = clips[:1].requires_grad_(), captions[:1]
    loss = mil_nce(clips, captions, torch.ones(1, 2, dtype=torch.bool), TAU, positives)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) if positives == "twice" else 0, abs=1e-9)
    assert torch.isfinite(clips.grad).all()


def test_logits_that_overflow_stay_finite():
    clips = (100 * torch.randn(3, 4)).requires_grad_()
    captions = (100 * torch.randn(3, 2, 4)).requires_grad_()
    mil_nce(clips, captions, torch.ones(3, 2, dtype=torch.bool), 0.001).backward()
    assert torch.isfinite(clips.grad).all() and torch.isfinite(captions.grad).all()


@pytest.mark.parametrize("positives", ["twice", "once"])
def test_missing_clips_are_as_if_left_out(positives):
    """Sounds in the place of clips: theirs is no row, and they are no negatives."""
    clips, captions, exist = random(6, 3)
    there = torch.tensor([1, 1, 0, 1, 0, 1]).bool()
    clips = clips.requires_grad_()
    loss = mil_nce(clips, captions, exist & there[:, None], TAU, positives, there=there)
    loss.backward()
    assert loss.item() == pytest.approx(mil_nce(clips[there], captions[there], exist[there], TAU, positives).item())
    assert clips.grad[~there].count_nonzero() == 0


def test_where_no_clip_is_there_all_stays_finite():
    clips, captions, exist = random(3, 2)
    clips = clips.requires_grad_()
    loss = mil_nce(clips, captions, exist & False, TAU, there=torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and clips.grad.count_nonzero() == 0
