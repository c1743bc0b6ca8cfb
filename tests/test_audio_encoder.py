"""The encoder of sound: what it looks at, and what it does not."""

import pytest
import timm
import torch

from tcl.config.audio import AudioConfig, SpectrogramConfig, check_audio
from tcl.encoders.audio import AudioEncoder, build_audio_encoder
from tcl.errors import InputError

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2}
CONFIG = AudioConfig(overrides=TINY)


def encoder(frames: int, config: AudioConfig = CONFIG) -> AudioEncoder:
    torch.manual_seed(0)
    return build_audio_encoder(config, frames).eval()


@pytest.mark.parametrize("frames, rows", [(1, 1), (16, 1), (17, 2), (150, 10)])
def test_80_bins_are_five_patches(frames, rows):
    with torch.no_grad():
        tokens = encoder(frames)(torch.randn(2, frames, 80), torch.ones(2, frames, dtype=torch.bool))
    assert tokens.shape == (2, 1 + 5 * rows, 24)


def test_it_is_the_vit_on_the_whole_spectrogram():
    sound = torch.randn(2, 32, 80)
    made = encoder(32)
    with torch.no_grad():
        expected = made.vit((sound[:, None] + 4) / 5)
        torch.testing.assert_close(made(sound, torch.ones(2, 32, dtype=torch.bool)), expected)


@pytest.mark.parametrize("fused", [True, False])
def test_what_was_not_heard_is_not_seen(fused):
    """Patches that hold nothing of the sound may hold anything."""
    made = encoder(48)
    made.configure_layers(activation_checkpointing=False, fused_attention=fused)
    sound = torch.randn(1, 48, 80)
    heard = (torch.arange(48) < 20)[None]
    other = sound.clone()
    other[:, 32:] = 100
    with torch.no_grad():
        one, two = made(sound, heard), made(other, heard)
        torch.testing.assert_close(one[:, 0], two[:, 0])
        torch.testing.assert_close(one[:, 1:11], two[:, 1:11])
        assert (made(sound, heard | True)[:, 0] - one[:, 0]).abs().max() > 1e-4


def test_weights_of_an_image_network(tmp_path):
    """Colours are averaged, positions interpolated."""
    network = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0, **TINY)
    torch.save(network.state_dict(), tmp_path / "image.pth")
    made = encoder(32, AudioConfig(overrides=TINY, pretrained=str(tmp_path / "image.pth")))
    own, given = made.vit.state_dict(), network.state_dict()
    assert own["blocks.0.attn.qkv.weight"].equal(given["blocks.0.attn.qkv.weight"])
    torch.testing.assert_close(own["patch_embed.proj.weight"][:, 0], given["patch_embed.proj.weight"].sum(dim=1))
    assert own["pos_embed"].shape == (1, 1 + 2 * 5, 24)


@pytest.mark.parametrize(
    "config, message",
    [
        (AudioConfig(name="resnet18"), r"^model\.audio\.name: 'resnet18' is no plain ViT with \[CLS\]"),
        (AudioConfig(name="nothing"), r"^model\.audio: timm cannot build 'nothing'"),
        (
            AudioConfig(spectrogram=SpectrogramConfig(mel_bins=70)),
            r"^model\.audio\.spectrogram\.mel_bins: 70 is not a multiple of the patch size 16 .*use e\.g\. 64$",
        ),
        (
            AudioConfig(overrides={"embed_dim": 3 * 2**16, "depth": 2}),
            r"^model\.audio: a network of these sizes takes",
        ),
    ],
)
def test_what_cannot_be_built(config, message):
    with pytest.raises(InputError, match=message):
        build_audio_encoder(config, 32)


@pytest.mark.parametrize(
    "field, value",
    [
        ("sample_rate", 10),
        ("window", 1),
        ("hop", 4096),
        ("hop", 0),
        ("mel_bins", 0),
        ("low_hz", -1.0),
        ("low_hz", 8000.0),
        ("high_hz", 24001.0),
    ],
)
def test_values_are_checked(field, value):
    spectrogram = SpectrogramConfig(**{field: value})
    with pytest.raises(InputError, match=rf"^model\.audio\.spectrogram\.{field}: {value} is not possible; accepted: "):
        check_audio(AudioConfig(spectrogram=spectrogram))


def test_seconds_are_checked():
    with pytest.raises(InputError, match=r"^model\.audio\.seconds: 0 is not possible; accepted: more than 0"):
        check_audio(AudioConfig(seconds=0))
