"""The encoder of clips: still ones are their image, moving ones are seen in their order."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import MODEL
from torch import Tensor

from tcl.config.video import VideoConfig, check_video
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.frame_mixing import FrameAttention, shift_frames
from tcl.encoders.video import VideoEncoder, build_video_encoder, clip_features
from tcl.errors import InputError

T = 5
IMAGE = MODEL.image


def encoder(temporal: str = "shift", ends: str = "repeat", frames: int = T, **image: object) -> VideoEncoder:
    torch.manual_seed(0)
    config = VideoConfig(frames=frames, temporal=temporal, ends=ends)
    return build_video_encoder(replace(MODEL, image=replace(IMAGE, **image), video=config)).eval()


def learned(made: VideoEncoder) -> VideoEncoder:
    """As if attention over frames had learned something."""
    for mixer in made.mixers:
        if isinstance(mixer, FrameAttention):
            torch.nn.init.normal_(mixer.last.weight, std=0.5)
    return made


def clips(B: int = 2, frames: int = T) -> Tensor:
    return torch.randn(B, frames, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("temporal", ["none", "shift", "attention"])
@pytest.mark.parametrize("frames", [1, 3, T])
def test_a_still_clip_is_its_image(temporal, frames):
    """With the weights of an image encoder, whose names the video encoder's keep."""
    torch.manual_seed(1)
    alone = build_image_encoder(IMAGE).eval()
    made = encoder(temporal)
    made.image_encoder.load_state_dict(alone.state_dict())
    image = clips(2, 1)
    with torch.no_grad():
        tokens, expected = made(image.expand(-1, frames, -1, -1, -1)), alone(image[:, 0])
    for frame in range(frames):
        torch.testing.assert_close(tokens[:, frame], expected)
    torch.testing.assert_close(clip_features(tokens), expected[:, 0])


def test_zeros_beyond_the_ends_are_seen_in_a_still_clip():
    with torch.no_grad():
        tokens = encoder(ends="zero")(clips(2, 1).expand(-1, T, -1, -1, -1))
        expected = encoder("none")(clips(2, 1))
    middle, first = (tokens[:, frame] - expected[:, 0] for frame in (2, 0))
    assert middle.abs().max() < 1e-5, "two blocks look two frames far"
    assert first.abs().max() > 1e-3


def slow_shift(x: Tensor, ends: str) -> Tensor:
    B, frames, C = x.shape
    result, n = x.clone(), C // 8
    for b in range(B):
        for t in range(frames):
            for c in range(C):
                other = t + 1 if c < n else t - 1 if c >= C - n else t
                if ends == "repeat":
                    other = min(max(other, 0), frames - 1)
                result[b, t, c] = x[b, other, c] if 0 <= other < frames else 0
    return result


@pytest.mark.parametrize("ends", ["repeat", "zero"])
@pytest.mark.parametrize("frames, channels", [(1, 16), (4, 16), (3, 20), (2, 7)])
def test_shift(ends, frames, channels):
    x = torch.randn(2, frames, channels)
    assert shift_frames(x, ends).equal(slow_shift(x, ends))


def test_only_frames_that_see_each_other_know_their_order():
    """A mean over frames is the same of a clip and of its reverse."""
    given = clips()
    for temporal in ("none", "shift", "attention"):
        made = learned(encoder(temporal))
        with torch.no_grad():
            forwards, backwards = (clip_features(made(one)) for one in (given, given.flip(1)))
        told_apart = (forwards - backwards).abs().max() > 1e-3
        assert told_apart == (temporal != "none")


def test_attention_over_frames_by_hand():
    torch.manual_seed(0)
    mixer = FrameAttention(width=6, heads=2, longest=T)
    torch.nn.init.normal_(mixer.last.weight)
    x = torch.randn(3, T, 4, 6)
    found = mixer(x.flatten(0, 1)).unflatten(0, (3, T))
    for b in range(3):
        for place in range(4):
            seen = mixer.norm(x[b, :, place]) + mixer.positions
            q, k, v = mixer.queries_keys_values(seen).split(6, dim=1)
            heads = []
            for h in (slice(0, 3), slice(3, 6)):
                heads.append((q[:, h] @ k[:, h].T / 3**0.5).softmax(dim=1) @ v[:, h])
            expected = x[b, :, place] + mixer.last(torch.cat(heads, dim=1))
            torch.testing.assert_close(found[b, :, place], expected)


def test_clips_of_other_lengths():
    made = learned(encoder("attention"))
    with torch.no_grad():
        assert made(clips(2, 8)).shape[:2] == (2, 8)
        assert torch.isfinite(made(clips(2, 1))).all()


@pytest.mark.parametrize("temporal", ["shift", "attention"])
def test_a_copy_is_another_encoder(temporal):
    """Its blocks have mixers of their own."""
    made = learned(encoder(temporal))
    other = copy.deepcopy(made)
    with torch.no_grad():
        expected = other(clips())
        made(clips(1, 2))
        for parameter in made.parameters():
            parameter.zero_()
        assert other(clips()).equal(expected)
        torch.testing.assert_close(other(clips(1, 2)).shape, made(clips(1, 2)).shape)


@pytest.mark.parametrize("temporal", ["shift", "attention"])
def test_layers_that_are_computed_again_give_the_same_gradients(temporal):
    gradients = []
    for checkpointing in (False, True):
        made = learned(encoder(temporal)).train()
        made.image_encoder.configure_layers(activation_checkpointing=checkpointing, fused_attention=True)
        clip_features(made(clips())).square().sum().backward()
        gradients.append([p.grad for p in made.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_pixels_are_prepared_frame_by_frame():
    made = encoder()
    pixels = torch.randint(0, 256, (2, T, 3, 32, 32), dtype=torch.uint8)
    assert made.prepare(pixels)[1, 2].equal(made.image_encoder.prepare(pixels[1])[2])


def test_a_convolutional_network_sees_frames_alone():
    with torch.no_grad():
        made = encoder("none", name="resnet10t", overrides={}, image_size=64)
        assert made(torch.randn(1, 2, 3, 64, 64)).shape == (1, 2, 1 + 4, made.width)
    with pytest.raises(InputError, match=r"^model\.video\.temporal: 'shift' needs a ViT .* accepted here: 'none'$"):
        encoder("shift", name="resnet10t", overrides={}, image_size=64)


@pytest.mark.parametrize(
    "temporal, image, named",
    [
        ("shift", {"patch_drop": 0.5}, "patch_drop"),
        ("shift", {"frozen": True, "remember": 10}, "remember"),
        ("attention", {"frozen": True}, "frozen"),
    ],
)
def test_what_frames_alone_can_have(temporal, image, named):
    with pytest.raises(InputError, match=rf"^model\.video\.temporal: '{temporal}' is not possible .*{named}"):
        encoder(temporal, **image)


@pytest.mark.parametrize("name, value", [("frames", 0), ("frames", 2000), ("fps", 0.0), ("fps", 1000.0)])
def test_values_are_checked(name, value):
    with pytest.raises(InputError, match=rf"^model\.video\.{name}: {value} is not possible; accepted: "):
        check_video(VideoConfig(**{name: value}))
