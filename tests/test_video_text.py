"""TCL of video and text: a still clip is its image, and what is new of moving ones against slow versions."""

from dataclasses import replace

import pytest
import torch
from launching import launch
from tiny import MODEL, random_batch, tiny_models
from tiny_video_text import T, Tokenizer, video_text_batch, video_text_model, video_text_models
from torch import Tensor

from tcl.config.model import FusionConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig
from tcl.config.video_text_objective import VideoTextObjectiveConfig, check_video_text_objective
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.errors import InputError
from tcl.objectives import tcl, video_text
from tcl.objectives.hard_negatives import Negatives
from tcl.objectives.objective import Losses
from tcl.objectives.pair_objective import PairSizes

OBJECTIVE = VideoTextObjectiveConfig(queue_size=12)
B = 5


def negatives_of(size: int) -> Negatives:
    own, valid = torch.arange(size), torch.ones(size, dtype=torch.bool)
    return Negatives((own + 1) % size, (own + 2) % size, valid, valid)


def learn(student, teacher, batch: Batch) -> tuple[Losses, dict[str, Tensor]]:
    """Losses and gradients of a step, whose negatives of ITM are given."""
    targets = teacher(batch, {"temperature": student.temperature.detach()}, 0.4)
    losses = student(batch, targets, negatives_of(len(batch)))
    losses.total.backward()
    return losses, {name: p.grad for name, p in student.named_parameters() if p.grad is not None}


def as_clips(batch: Batch, frames: int) -> Batch:
    """Its images, standing still."""
    images = batch.inputs["image"]
    views = (view[:, None].expand(-1, frames, -1, -1, -1) for view in (images.view, images.other_view))
    return replace(batch, inputs=batch.inputs | {"image": Images(*views)})


def of_frames(name: str) -> str:
    return name.replace("encoders.image_encoder.", "encoders.image_encoder.video.image_encoder.")


def test_a_clip_of_one_frame_costs_what_its_image_costs_to_the_bit():
    """Losses, gradients, and what the queues get, from the same seed and from the image model's weights."""
    image_student, image_teacher = tiny_models(ObjectiveConfig(queue_size=12))
    expected, expected_gradients = learn(image_student, image_teacher, random_batch(B))
    student, teacher = video_text_models(OBJECTIVE, video_text_model(1, "none"))
    given = video_text.weights_from(image_student.state_dict())
    assert {name: tensor.tolist() for name, tensor in student.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in given.items()
    }
    losses, gradients = learn(student, teacher, as_clips(random_batch(B), 1))
    assert losses.each.keys() == expected.each.keys() and len(losses.each) == 8
    for name, loss in expected.each.items():
        assert losses.each[name].equal(loss), name
    assert losses.total.equal(expected.total)
    assert gradients.keys() == {of_frames(name) for name in expected_gradients}
    assert all(gradients[of_frames(name)].equal(gradient) for name, gradient in expected_gradients.items())


@pytest.mark.parametrize("temporal", ["none", "shift", "attention"])
def test_a_clip_that_stands_still_is_compared_as_its_image_is(temporal):
    """Its embedding and its regions are the image's. Where it is fused, each patch is there four times, [CLS] once."""
    alone = {"itm_weight": 0.0, "mlm_weight": 0.0}
    image_student, image_teacher = tiny_models(ObjectiveConfig(queue_size=12, **alone))
    student, _ = video_text_models(replace(OBJECTIVE, **alone), video_text_model(4, temporal))
    student.load_state_dict(student.state_dict() | video_text.weights_from(image_student.state_dict()))
    teacher = video_text.OBJECTIVE.build_teacher(student, video_text_model(4), 0, False)
    expected, expected_gradients = learn(image_student, image_teacher, random_batch(B))
    losses, gradients = learn(student, teacher, as_clips(random_batch(B), 4))
    assert len(losses.each) == 6
    for name, loss in expected.each.items():
        torch.testing.assert_close(losses.each[name], loss, rtol=1e-4, atol=1e-5)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[of_frames(name)], gradient, rtol=1e-3, atol=1e-4)


def slow_tokens(encoder, clip: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Of one clip [T, 3, H, W]: the mean [CLS], and of each frame its patches."""
    tokens = encoder.video(clip[None])[0]
    return sum(tokens[t, 0] for t in range(len(tokens))) / len(tokens), [tokens[t, 1:] for t in range(len(tokens))]


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


@torch.no_grad()
def test_lmi_is_that_of_regions_over_all_frames():
    """Region by region, frame by frame; 2 x 2 regions are the 2 x 2 patches of each frame."""
    student, teacher = video_text_models(OBJECTIVE, video_text_model(T))
    batch = video_text_batch(B)
    losses = student(batch, teacher(batch, {"temperature": student.temperature}, 0.4), negatives_of(B))
    encoders, averaged, views = student.encoders, teacher.encoders, batch.inputs["image"]
    ours, theirs = [], []
    for clip in views.view:
        ours.append(unit(encoders.vision_proj(slow_tokens(encoders.image_encoder, clip)[0])))
    for clip in views.other_view:
        frames = [unit(averaged.vision_proj(frame)) for frame in slow_tokens(averaged.image_encoder, clip)[1]]
        theirs.append([sum(frame[place] for frame in frames) / T for place in range(4)])
    total = 0.0
    for b in range(B):
        scores = [[(ours[b] @ region / 0.07).exp() for region in regions] for regions in theirs]
        others = sum(sum(one) for c, one in enumerate(scores) if c != b)
        total += sum(-torch.log(own / (own + others)) for own in scores[b]) / 4
    torch.testing.assert_close(losses.each["lmi_image"], total / B, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_itm_reads_the_patches_of_all_frames():
    """Pair by pair, each clip's tokens put together by hand."""
    student, teacher = video_text_models(OBJECTIVE, video_text_model(T, "attention"))
    batch, encoders, drawn = video_text_batch(B), student.encoders, negatives_of(B)
    losses = student(batch, teacher(batch, {"temperature": student.temperature}, 0.4), drawn)
    texts, fusion = batch.inputs["text"], encoders.fusion_encoder
    states = encoders.text_encoder(texts.ids, texts.mask)

    def cost(clip: int, text: int, label: int) -> Tensor:
        cls, frames = slow_tokens(encoders.image_encoder, batch.inputs["image"].view[clip])
        seen = torch.cat([cls[None], *frames])[None]
        assert seen.shape[1] == 1 + 4 * T
        pair = slice(text, text + 1)
        logits = student.itm_head(fusion(states[pair], texts.mask[pair], fusion.image_keys_values(seen))[0, 0])
        return -logits.log_softmax(dim=0)[label]

    costs = [cost(b, b, 1) for b in range(B)]
    costs += [cost(drawn.images[b], b, 0) for b in range(B)] + [cost(b, drawn.texts[b], 0) for b in range(B)]
    torch.testing.assert_close(losses.each["itm"], torch.stack(costs).mean(), rtol=1e-4, atol=1e-5)


def test_frames_in_another_order_are_another_clip_where_they_see_each_other():
    batch = video_text_batch(B)
    for temporal in ("none", "shift"):
        student, _ = video_text_models(OBJECTIVE, video_text_model(T, temporal))
        clips = batch.inputs["image"].view
        with torch.no_grad():
            one, other = (student.encoders.image_encoder(some)[:, 0] for some in (clips, clips.flip(1)))
        assert torch.allclose(one, other, atol=1e-5) == (temporal == "none")


@pytest.mark.parametrize("positives", ["twice", "once"])
@pytest.mark.parametrize("graph", ["fac", "shared"])
def test_sound_is_contrasted_with_the_clips_that_have_it(graph, positives):
    """NCE by hand; a clip without sound is a negative, and no more."""
    objective = replace(OBJECTIVE, va_weight=0.5, va_positives=positives)
    student, teacher = video_text_models(objective, video_text_model(T, graph=graph))
    student.eval()
    batch = video_text_batch(6)
    targets = teacher(batch, {"temperature": student.temperature.detach()}, 0.4)
    losses = student(batch, targets, negatives_of(6))
    tokens, there = student.encoders.image_encoder(batch.inputs["image"].view), batch.present["audio"]
    clips, sounds = student.sound.embed_clips(tokens), student.sound.embed_sounds(batch.inputs["audio"])
    scores = (unit(clips) @ unit(sounds).T / 0.07).exp()
    total = 0.0
    for i in there.nonzero().flatten().tolist():
        row, column = scores[i][there].sum(), scores[:, i].sum()
        total -= torch.log(scores[i, i] / (row + column - (scores[i, i] if positives == "once" else 0)))
    torch.testing.assert_close(losses.each["va"], total / there.sum(), rtol=1e-4, atol=1e-5)
    weights = tcl.loss_weights(objective)
    of_tcl = sum(weights[name] * loss for name, loss in losses.each.items() if name != "va")
    torch.testing.assert_close(losses.total, of_tcl + 0.5 * losses.each["va"])
    assert losses.metrics["with_audio"] == there.float().mean()


def test_a_sound_that_is_missing_may_hold_anything():
    found = []
    for filling in (0.0, 7.0):
        student, teacher = video_text_models(replace(OBJECTIVE, va_weight=1.0), video_text_model())
        batch = video_text_batch(8)
        batch.inputs["audio"].log_mel[~batch.present["audio"]] = filling
        losses, gradients = learn(student, teacher, batch)
        found.append([losses.total.detach(), *gradients.values(), *student.buffers()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_batch_without_sound_costs_what_tcl_costs():
    student, teacher = video_text_models(replace(OBJECTIVE, va_weight=1.0), video_text_model())
    batch = video_text_batch(4)
    batch.present["audio"].fill_(False)
    losses, gradients = learn(student, teacher, batch)
    assert losses.each["va"] == 0 and torch.isfinite(losses.total)
    assert all(gradients[name].count_nonzero() == 0 for name in gradients if name.startswith("sound."))


@pytest.mark.parametrize("options", [{}, {"va_weight": 1.0}, {"mlm_weight": 0.0, "itm_weight": 0.0, "va_weight": 1.0}])
def test_every_parameter_that_is_trained_has_a_gradient(options):
    """DDP waits for each. The last layers of attention over frames start as zero: what comes before them gets zeros."""
    student, teacher = video_text_models(replace(OBJECTIVE, **options), video_text_model(T, "attention"))
    _, gradients = learn(student, teacher, video_text_batch(4))
    assert gradients.keys() == {name for name, p in student.named_parameters() if p.requires_grad}
    assert any(name.startswith("sound.") for name in gradients) == ("va_weight" in options)


def test_weights_of_clips_and_of_pairs_are_taken_over():
    of_clips = {
        "encoders.video_encoder.image_encoder.vit.x": "encoders.image_encoder.video.image_encoder.vit.x",
        "encoders.video_encoder.mixers.0.y": "encoders.image_encoder.video.mixers.0.y",
        "encoders.audio_encoder.vit.z": "sound.audio_encoder.vit.z",
        "encoders.text_encoder.bert.w": "encoders.text_encoder.bert.w",
    }
    one = torch.ones(1)
    given = dict.fromkeys((*of_clips, "encoders.spaces.heads.video_va.layers.0.weight"), one)
    assert video_text.weights_from(given).keys() == set(of_clips.values())
    student, _ = video_text_models(OBJECTIVE, video_text_model())
    assert video_text.weights_from(student.state_dict()).keys() == student.state_dict().keys()


@pytest.mark.parametrize("va_weight", [0.0, 2.0])
def test_a_described_student_is_built_again(va_weight):
    model = video_text_model(graph="shared")
    student, _ = video_text_models(replace(OBJECTIVE, va_weight=va_weight), model)
    kind = video_text.KIND
    again = kind.build(model, kind.parts_of(student), Tokenizer())
    again.load_state_dict(student.state_dict())


def test_memory_of_one_frame_is_that_of_an_image_and_grows_with_frames():
    sizes = PairSizes(8, 7, MODEL.lmi_regions, 1, checkpointing=False, bf16=False)

    def estimate(frames: int, temporal: str = "shift", **options) -> float:
        student, _ = video_text_models(replace(OBJECTIVE, **options), video_text_model(frames, temporal))
        return video_text.OBJECTIVE.activation_bytes(student, student.objective, sizes)

    image_student, _ = tiny_models()
    assert estimate(1) == tcl.OBJECTIVE.activation_bytes(image_student, image_student.objective, sizes)
    more_frames = estimate(3) - estimate(2)
    # Four patches of each clip more: in two blocks of the ViT, and as keys and values, of negatives, too.
    assert more_frames == 4 * (8 * 4 * (2 * 24 * 12) + 2 * 8 * 4 * (2 * 2 * 16))
    assert estimate(2, va_weight=1.0) > estimate(2)
    by_attention = estimate(3, temporal="attention") - estimate(3)
    assert by_attention == 4 * 8 * 3 * 5 * 2 * 24 * 6, "of five tokens of three frames in two blocks"


@torch.no_grad()
def test_a_frozen_image_encoder_is_shared_with_a_teacher_that_comes_first():
    """Frames see each other in its blocks from the first batch on."""
    model = replace(video_text_model(), image=replace(MODEL.image, frozen=True))
    student, teacher = video_text_models(OBJECTIVE, model)
    clips = video_text_batch(2).inputs["image"].view
    found = teacher.encoders.image_encoder(clips)
    assert found.equal(student.encoders.image_encoder(clips))


def test_tokens_of_all_frames_are_compressed_together():
    model = replace(video_text_model(T), fusion=FusionConfig(image_tokens=2))
    student, teacher = video_text_models(OBJECTIVE, model)
    losses, _ = learn(student, teacher, video_text_batch(4))
    assert torch.isfinite(losses.total)
    with pytest.raises(InputError, match=r"^model\.fusion\.image_tokens: 14 is not possible; accepted: 1 to 13"):
        video_text_models(OBJECTIVE, replace(video_text_model(T), fusion=FusionConfig(image_tokens=14)))


@pytest.mark.parametrize(
    "options, batch_size, line",
    [
        ({"va_weight": -1.0}, 4, r"objective\.va_weight: -1\.0"),
        ({"va_weight": 1.0, "va_temperature": 0.0}, 4, r"objective\.va_temperature: 0\.0 is not possible; accepted: "),
        ({"va_weight": 1.0, "itm_weight": 0.0}, 1, r"train\.batch_size: 1 is not possible; accepted: at least 2, or "),
        (
            {"va_weight": 1.0} | {f"{one}_weight": 0.0 for one in ("cma", "imc", "lmi", "itm", "mlm")},
            4,
            r"objective\.va_weight: 1\.0 is not possible; accepted: 0, where no loss reads text; --objective clips",
        ),
        ({"queue_size": 0}, 4, r"objective\.queue_size: 0"),
    ],
)
def test_values_are_checked(options, batch_size, line):
    with pytest.raises(InputError, match=rf"^{line}"):
        check_video_text_objective(VideoTextObjectiveConfig(**options), TrainConfig(batch_size=batch_size))


def test_frames_that_see_each_other_need_a_vit():
    image = replace(MODEL.image, name="resnet18", overrides={})
    with pytest.raises(InputError, match=r"^model\.video\.temporal: 'shift' needs a ViT"):
        video_text_models(OBJECTIVE, replace(video_text_model(T), image=image))
    student, teacher = video_text_models(OBJECTIVE, replace(video_text_model(2, "none"), image=image))
    losses, _ = learn(student, teacher, video_text_batch(2, frames=2))
    assert torch.isfinite(losses.total)


@pytest.mark.slow
@pytest.mark.parametrize("temporal", ["shift", "attention"])
def test_two_processes_with_half_the_batch_each_are_one_with_all(tmp_path, temporal):
    """Losses, gradients after DDP's mean, and what the norms have seen."""
    done = launch("tests/video_text_step.py", str(tmp_path), temporal)
    assert done.returncode == 0, done.stderr
    alone, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("alone", 0, 1))
    assert alone.keys() == first.keys() == second.keys() and "va" in alone
    for name, expected in alone.items():
        error = ((first[name] + second[name]) / 2 - expected).float().norm()
        # Of a bias before a norm the gradient is 0 but for rounding.
        assert error <= 1e-3 * expected.float().norm() + 1e-3 * name.endswith("bias"), name
        if name.startswith(("seen/", "gradient/")):
            torch.testing.assert_close(first[name], second[name])
