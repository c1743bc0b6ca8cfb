"""The other side of the benchmarks computes what ours computes: the same losses, weights and queues."""

import pytest
import torch
from tiny import BERT, random_batch, tiny_models
from torch.nn import functional as F

from benchmarks.losses import our_losses, random_features, textbook_losses
from benchmarks.textbook.mil_nce import log_mel as textbook_log_mel
from benchmarks.textbook.mil_nce import mil_nce as textbook_mil_nce
from benchmarks.textbook.pretraining import TextbookTCL, build_textbook_optimizer, textbook_step
from tcl.config.audio import SpectrogramConfig
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.optim import OptimConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.audio.log_mel import log_mel, mel_filters
from tcl.losses.mil_nce import mil_nce, unit
from tcl.objectives.hard_negatives import Negatives
from tcl.training.full_weights import full_weights
from tcl.training.optimiser import build_optimizer

MODEL = ModelConfig(
    image=ImageEncoderConfig("vit_tiny_patch16_224", image_size=32, overrides={"embed_dim": 16, "num_heads": 2}),
    text=TextEncoderConfig(overrides=BERT),
    embed_dim=8,
    lmi_regions=2,
)
B, ALPHA, OPTIM = 4, 0.4, OptimConfig(lr=1e-2)


@pytest.mark.parametrize("which", ["contrast", "lmi"])
def test_losses_and_their_gradients(which):
    ours, textbook = random_features(3, queue=20), random_features(3, queue=20)
    loss, expected = our_losses(ours, which), textbook_losses(textbook, which)
    torch.testing.assert_close(loss.squeeze(), expected.squeeze())
    found = torch.autograd.grad(loss, (ours.image, ours.text, ours.temperature))
    right = torch.autograd.grad(expected, (textbook.image, textbook.text, textbook.temperature))
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-6)


def test_mil_nce_and_its_gradients():
    clips, captions = torch.randn(6, 5), torch.randn(6, 3, 5)
    exist, found = torch.ones(6, 3, dtype=torch.bool), []
    for loss in (lambda v, t: mil_nce(v, t, exist, 0.07), lambda v, t: textbook_mil_nce(v, t, 0.07)):
        given = [clips.clone().requires_grad_(), captions.clone().requires_grad_()]
        value = loss(*map(unit, given))
        found.append([value, *torch.autograd.grad(value, given)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_log_mel():
    wave, sizes = torch.randn(2, 5000), SpectrogramConfig()
    expected = textbook_log_mel(wave, mel_filters(sizes), sizes.window, sizes.hop)
    torch.testing.assert_close(log_mel(wave, sizes), expected, rtol=1e-4, atol=1e-4)


def test_three_steps_of_the_textbook_are_three_of_ours():
    student, teacher = tiny_models(ObjectiveConfig(queue_size=12), MODEL)
    textbook = TextbookTCL(student, teacher)
    optimizer = build_optimizer(student, OPTIM)
    their_optimizer = build_textbook_optimizer(textbook, OPTIM.lr, OPTIM.weight_decay)
    student.eval()
    teacher.eval()
    textbook.eval()
    yes, own = torch.ones(B, dtype=torch.bool), torch.arange(B)
    for step in range(3):
        batch = random_batch(B, seed=step)
        negatives = Negatives((own + 1) % B, (own + 2) % B, yes, yes)
        teacher.update(full_weights(student.encoders))
        targets = teacher(batch, {"temperature": student.temperature.detach()}, ALPHA)
        losses = student(batch, targets, negatives)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), OPTIM.clip_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        teacher.enqueue(targets.to_enqueue(B))

        theirs = textbook(batch, ALPHA, negatives)
        textbook_step(textbook, their_optimizer, theirs, OPTIM.clip_grad_norm)
        for name, value in theirs.items():
            torch.testing.assert_close(losses.each[name].squeeze(), value.squeeze(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(textbook.image_queue.T, teacher.image_queue.features, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(textbook.text_queue.T, teacher.text_queue.features, rtol=1e-3, atol=1e-4)
    ours = student.encoders.text_encoder.bert.state_dict()
    for name, weight in textbook.online.text_encoder.state_dict().items():
        torch.testing.assert_close(weight, ours[name], rtol=1e-2, atol=1e-3)


def test_the_textbook_draws_no_pair_of_its_own():
    student, teacher = tiny_models(ObjectiveConfig(queue_size=12), MODEL)
    logits = 20 * torch.eye(B) + F.normalize(torch.randn(B, B))
    for _ in range(20):
        images, texts = TextbookTCL(student, teacher).draw(logits, logits)
        assert (images != torch.arange(B)).all() and (texts != torch.arange(B)).all()
