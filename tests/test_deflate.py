"""A model of clips becomes one of images: exact where it can be, nearer where it cannot."""

import pytest
import torch
from data_files import noise
from tiny_clips import clips_model
from tiny_pretrained import tiny_clips, tiny_tcl

from tcl import load_model
from tcl.commands.main import run
from tcl.encoders.video import clip_features
from tcl.errors import InputError
from tcl.exports.pretrained import Pretrained, load_pretrained
from tcl.inference.deflate import deflate, of_images
from tcl.models.deflate import norm_parameters


def pixels(n: int) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(n))


def fit(given: Pretrained, steps: int = 60):
    return deflate(given, pixels(16), pixels(5), steps=steps, batch_size=8, lr=0.003, seed=0)


def test_repeated_ends_are_exact_from_the_start():
    _, found = fit(tiny_clips(ends="repeat").pretrained, steps=0)
    assert found.before == found.after < 1e-6 * found.size


@pytest.mark.parametrize("temporal", ["shift", "attention"])
def test_fitted_norms_come_nearer_on_other_images(temporal):
    given = tiny_clips(temporal).pretrained
    before = {name: tensor.clone() for name, tensor in given.student.state_dict().items()}
    deflated, found = fit(given)
    assert found.after < 0.7 * found.before
    assert deflated.model.video.frames == 1
    network = deflated.student.averaged.video_encoder
    norms = {id(parameter) for parameter in norm_parameters(network)}
    for name, parameter in deflated.student.named_parameters():
        same = parameter.shape == before[name].shape and parameter.equal(before[name])
        assert same == (id(parameter) not in norms) or name.endswith("positions"), name
    assert all(tensor.equal(before[name]) for name, tensor in given.student.state_dict().items())


def test_exactness_by_hand():
    given = tiny_clips().pretrained
    deflated, found = fit(given, steps=2)
    held_out = pixels(5)
    with torch.no_grad():
        wanted = clip_features(given.student.averaged.video_encoder(held_out[:, None].expand(-1, 4, -1, -1, -1)))
        ours = clip_features(deflated.student.averaged.video_encoder(held_out[:, None]))
    assert found.after == pytest.approx((ours - wanted).abs().mean().item(), rel=1e-4)
    assert found.size == pytest.approx(wanted.abs().mean().item(), rel=1e-4)


def test_shift_is_left_out_and_attention_kept():
    assert of_images(clips_model(temporal="shift")).video.temporal == "none"
    assert of_images(clips_model(temporal="attention")).video.temporal == "attention"


def test_command(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for i in range(12):
        noise(i, (40, 30)).save(tmp_path / "photos" / f"{i}.jpg")
    tiny_clips().save_pretrained(tmp_path / "clips")
    photos, out = f"--images={tmp_path / 'photos'}", tmp_path / "images"
    run(["deflate", str(tmp_path / "clips"), photos, f"--out={out}", "--steps=3", "--workers=0", "--device=cpu"])
    said = capsys.readouterr().out
    assert "fitted to 11 images in 3 steps; L1 to the model of clips on 1 other images: " in said
    assert load_pretrained(str(out)).model.video.frames == 1
    assert "Deflated to images: L1" in (out / "README.md").read_text()
    with pytest.raises(
        InputError, match=r"^model: its clips are one frame already; give one of model\.video\.frames > 1"
    ):
        run(["deflate", str(out), photos, f"--out={out}", "--workers=0", "--device=cpu"])
    assert load_model(out, device="cpu").student.averaged.video_encoder.frames == 1


def test_mistakes(tmp_path):
    photos, out = f"--images={tmp_path}", f"--out={tmp_path / 'out'}"
    tiny_tcl().save_pretrained(tmp_path / "tcl")
    (tmp_path / "photos").mkdir()
    noise(1).save(tmp_path / "photos" / "one.jpg")
    with pytest.raises(InputError, match=r"^images: 1 can be used, 0 were skipped; give at least 2$"):
        few = f"--images={tmp_path / 'photos'}"
        run(["deflate", str(tmp_path / "tcl"), few, out, "--workers=0", "--device=cpu"])
    noise(2).save(tmp_path / "photos" / "two.jpg")
    with pytest.raises(InputError, match=r"^model: a tcl model is not deflated; give one of --objective clips$"):
        run(["deflate", str(tmp_path / "tcl"), few, out, "--workers=0", "--device=cpu"])
    for option, name in (("--steps=-1", "steps"), ("--batch_size=0", "batch_size"), ("--lr=0", "lr")):
        with pytest.raises(InputError, match=f"^{name}: "):
            run(["deflate", "none", photos, out, option])
