"""Contrast of video, sound and text: what counts, what is trained, and that two processes are as one."""

from itertools import combinations

import pytest
import torch
from clips_step import CASES
from launching import launch
from tiny_clips import K, clips_batch, clips_model, clips_student

from tcl.config.clips_objective import ClipsObjectiveConfig, check_clips_objective
from tcl.config.train import TrainConfig
from tcl.data.batch import Batch
from tcl.errors import InputError
from tcl.losses.mil_nce import mil_nce, unit
from tcl.models.no_teacher import NoTargets
from tcl.objectives.clips import KIND, PAIRS, ClipsStudent, weights_from
from tcl.objectives.objective import Losses


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    done = launch("tests/clips_step.py", str(folder))
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{name}.pt") for name in ("alone", 0, 1)]


@pytest.mark.parametrize("case", CASES, ids=["-".join(map(str, one)) for one in CASES.values()])
def test_two_processes_with_half_the_batch_each_are_one_with_all(two_processes, case):
    """Losses, gradients after DDP's mean, and what the norms have seen."""
    alone, first, second = (found[case] for found in two_processes)
    assert alone.keys() == first.keys() == second.keys()
    for name, expected in alone.items():
        error = ((first[name] + second[name]) / 2 - expected).float().norm()
        # Of a bias before a norm the gradient is 0 but for rounding.
        assert error <= 1e-3 * expected.float().norm() + 1e-3 * name.endswith("bias"), name
        if name.startswith(("seen/", "gradient/")):
            torch.testing.assert_close(first[name], second[name])


def forward(student: ClipsStudent, batch: Batch) -> Losses:
    return student(batch, NoTargets())


@pytest.mark.parametrize("graph", ["fac", "disjoint", "shared"])
def test_losses_are_those_of_the_pairs_in_their_spaces(graph):
    student = clips_student(ClipsObjectiveConfig(at_weight=0.5, vt_weight=3.0, positives="once"), clips_model(graph))
    student.eval()
    batch = clips_batch(6)
    losses, encoders = forward(student, batch), student.encoders
    video, sound = encoders.embed_clips(batch.inputs["video"]), encoders.embed_sounds(batch.inputs["audio"])
    has_sound, captions = batch.present["audio"], batch.inputs["text"].exist & batch.present["text"][:, None]
    text = encoders.embed_captions(batch.inputs["text"], captions)
    with_both, at = captions & has_sound[:, None], {"fac": "vat", "shared": "vat", "disjoint": "at"}[graph]

    def contrast(ours, theirs, exist):
        theirs = theirs[:, None] if theirs.ndim == 2 else theirs
        return mil_nce(unit(ours), unit(theirs), exist, 0.07, "once")

    expected = {
        "va": contrast(video["va"], sound["va"], has_sound[:, None]),
        "vt": contrast(video["vat"], text["vat"], captions),
        "at": contrast(sound[at][has_sound], text[at][has_sound], with_both[has_sound]),
    }
    assert losses.each.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(losses.each[name], loss)
    torch.testing.assert_close(losses.total, expected["va"] + 3 * expected["vt"] + 0.5 * expected["at"])
    assert losses.metrics["with_audio"] == has_sound.float().mean()


def test_what_is_missing_may_hold_anything():
    """Neither losses nor gradients nor the norms' averages depend on it."""
    found = []
    for filling in (0.0, 7.0):
        student = clips_student(ClipsObjectiveConfig(at_weight=1.0), clips_model("shared"))
        batch = clips_batch(8)
        captions, exist = batch.inputs["text"], batch.inputs["text"].exist & batch.present["text"][:, None]
        batch.inputs["audio"].log_mel[~batch.present["audio"]] = filling
        captions.ids[~exist] = int(filling) + 3
        losses = forward(student, batch)
        losses.total.backward()
        gradients = [p.grad.clone() for p in student.parameters() if p.grad is not None]
        found.append([losses.total.detach(), *gradients, *student.buffers()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("graph", ["fac", "disjoint", "shared"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_parameter_that_is_trained_has_a_gradient(graph, count):
    """DDP waits for each."""
    for names in combinations(PAIRS, count):
        weights = {f"{name}_weight": float(name in names) for name in PAIRS}
        if names != ("at",):
            student = clips_student(ClipsObjectiveConfig(**weights), clips_model(graph, "attention"))
            forward(student, clips_batch(4)).total.backward()
            trained = {name for name, p in student.named_parameters() if p.requires_grad}
            assert trained == {name for name, p in student.named_parameters() if p.grad is not None}
            assert any("audio_encoder" in name for name in trained) == (names != ("vt",))


def test_a_batch_without_sound_or_text_costs_nothing():
    student, batch = clips_student(ClipsObjectiveConfig(), clips_model()), clips_batch(4)
    for there in batch.present.values():
        there.fill_(False)
    losses = forward(student, batch)
    losses.total.backward()
    assert losses.total == 0
    assert all(p.grad.count_nonzero() == 0 for p in student.parameters() if p.grad is not None)


def test_a_described_student_is_built_again():
    for at_weight in (0.0, 1.0):
        student = clips_student(ClipsObjectiveConfig(at_weight=at_weight), clips_model("disjoint"))
        parts = KIND.parts_of(student)

        class Tokenizer:
            pad_token_id = 0

            def __len__(self) -> int:
                return 50

        KIND.build(clips_model("disjoint"), parts, Tokenizer()).load_state_dict(student.state_dict())


def test_weights_of_pairs_become_those_of_frames():
    given = {
        "encoders.image_encoder.vit.cls_token": torch.zeros(1),
        "encoders.text_encoder.bert.x": torch.ones(1),
        "encoders.fusion_encoder.y": torch.ones(1),
        "temperature": torch.ones(1),
    }
    names = {"encoders.video_encoder.image_encoder.vit.cls_token", "encoders.text_encoder.bert.x"}
    assert weights_from(given).keys() == names
    own = {"encoders.video_encoder.z": torch.zeros(1), "encoders.spaces.z": torch.zeros(1)}
    assert weights_from(own) == own


@pytest.mark.parametrize(
    "options, batch_size, field",
    [
        ({"va_weight": -1.0}, 4, r"objective\.va_weight: -1\.0"),
        ({"at_weight": -1.0}, 4, r"objective\.at_weight: -1\.0"),
        ({"va_weight": 0.0, "vt_weight": 0.0, "at_weight": 1.0}, 4, r"objective\.va_weight: 0\.0"),
        ({"temperature": 0.0}, 4, r"objective\.temperature: 0\.0"),
        ({}, 1, r"train\.batch_size: 1"),
    ],
)
def test_values_are_checked(options, batch_size, field):
    with pytest.raises(InputError, match=rf"^{field} is not possible; accepted: "):
        check_clips_objective(ClipsObjectiveConfig(**options), TrainConfig(batch_size=batch_size))


def test_batches_have_as_many_captions_as_any():
    assert clips_batch(4).inputs["text"].ids.shape[1] == K
