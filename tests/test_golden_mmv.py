"""Parity with the published MMV: log-mel, heads, losses, temporal shift, deflation.

Any file of the same form works, in the folder that TCL_GOLDEN_MMV_DIR names.
"""

import re

import pytest
import torch
from golden_mmv import GOLDEN, METADATA, close, leaf
from golden_mmv_deflate import TSM, published_shift
from golden_mmv_spaces import HEADS, averages, embeddings, spaces_of, text_features
from torch import Tensor

from tcl.config.audio import SpectrogramConfig
from tcl.data.audio.log_mel import log_mel, mel_filters
from tcl.losses.mil_nce import mil_nce, unit
from tcl.models.deflate import l1, refit_norms
from tcl.objectives.objective import weighted

SPECTROGRAM = METADATA["spectrogram"]
SOUNDS = [key.removeprefix("in.mel.") for key in GOLDEN if key.startswith("in.mel.")]


def spectrogram_of(tag: str) -> SpectrogramConfig:
    sizes = SPECTROGRAM | SPECTROGRAM["variants"].get(tag, {}) if tag == "rate_16k" else SPECTROGRAM
    return SpectrogramConfig(
        sample_rate=sizes["sample_rate"],
        window=sizes["frame_length"],
        hop=sizes["frame_step"],
        mel_bins=sizes["mel_bins"],
        low_hz=sizes["lower_edge_hertz"],
        high_hz=sizes["upper_edge_hertz"],
    )


@pytest.mark.parametrize("tag", SOUNDS)
def test_log_mel(tag):
    wave = GOLDEN[f"in.mel.{tag}"]
    if tag == "peak_normalised":
        wave = wave / (wave.abs().max() + 1e-8)
    if tag == "two_clips":
        wave = wave.view(2, -1)
    found = log_mel(wave, spectrogram_of(tag), power=2 if tag == "power" else 1)
    close(found, GOLDEN[f"out.mel.{tag}"], 1e-4)


def test_mel_filters():
    used = GOLDEN["out.mel.filters_used"]
    filters = mel_filters(spectrogram_of("published"))
    close(filters[: len(used)], used, 1e-4)
    assert filters[len(used) :].count_nonzero() == 0


def test_defaults_are_the_published_spectrogram():
    assert spectrogram_of("published") == SpectrogramConfig()
    assert log_mel(torch.zeros(2, 1024 * 3 + 1), SpectrogramConfig()).shape == (2, 4, 80)


GRAPHS = {name: name for name in HEADS} | {"fac_at": "fac"}
"""How the golden file names them -> which graph it is; `fac_at` is trained with sound compared with text."""
NOT_OURS = {
    "out.fac.train.audio_totxt",
    *(f"out.{case}.text_toaud" for case in ("fac.train", "fac.eval", "fac_at.train")),
}
"""By heads that nothing trains and nothing asks."""


def heads_of(name: str) -> dict[str, Tensor]:
    found = {}
    for mode in ("train",) if name == "fac_at" else ("train", "eval"):
        spaces = spaces_of(GRAPHS[name], audio_text=name in ("fac_at", "disjoint")).train(mode == "train")
        found |= embeddings(spaces, GRAPHS[name], f"out.{name}.{mode}")
        if mode == "train":
            found |= averages(spaces, GRAPHS[name], f"after.{name}")
    return found


@pytest.mark.parametrize("name", GRAPHS)
def test_heads_and_what_their_norms_saw(name):
    found = heads_of(name)
    expected = {key for key in GOLDEN if key.startswith((f"out.{name}.", f"after.{name}."))}
    assert found.keys() == expected - NOT_OURS
    for key, ours in found.items():
        close(ours, GOLDEN[key])


def test_text_features():
    close(text_features("fac"), GOLDEN["out.text_repr"])


def mask(name: str) -> Tensor:
    return GOLDEN[f"in.loss.{name}_mask"].bool()


ALL = torch.ones_like(mask("caption"))
ONE = ALL[:, :1]
EXIST = {
    "nce": ONE,
    "nce_positive_once": ONE,
    "nce_missing_audio": mask("audio")[:, None],
    "milnce": ALL,
    "milnce_positive_once": ALL,
    "milnce_missing_text": ALL & mask("text")[:, None],
    "milnce_ragged_captions": mask("caption") & mask("text")[:, None],
    "milnce_no_text_at_all": ~ALL,
    "milnce_raw": ALL,
}
NOT_MMV = "nce_two_softmaxes"


def loss_of(name: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and its gradients by whose they are."""
    partner = "text" if name.startswith("milnce") else "audio"
    clips = leaf("in.loss.video_totxt" if partner == "text" else "in.loss.video_toaud")
    others = leaf(f"in.loss.{partner}_tovid")
    raw = name == "milnce_raw"
    given = [clips, others] if raw else [unit(clips), unit(others)]
    temperature = 1.0 if raw else METADATA["temperature"]
    positives = "once" if name.endswith("positive_once") else "twice"
    captions = given[1] if partner == "text" else given[1][:, None]
    loss = mil_nce(given[0], captions, EXIST[name], temperature, positives)
    loss.backward()
    return loss.detach(), {"video": clips.grad, partner: others.grad}


@pytest.mark.parametrize("name", EXIST)
@pytest.mark.parametrize("elements", [7, 2**20], ids=["in parts", "at once"])
def test_losses_and_gradients(name, elements, monkeypatch):
    monkeypatch.setattr("tcl.losses.mil_nce.ELEMENTS", elements)
    loss, gradients = loss_of(name)
    close(loss, GOLDEN[f"out.loss.{name}"])
    for side, gradient in gradients.items():
        if name != "milnce_raw":  # of which there are none
            close(gradient, GOLDEN[f"out.grad.{name}.{side}"])


def test_every_loss_is_compared():
    names = {key.removeprefix("out.loss.") for key in GOLDEN if key.startswith("out.loss.")}
    totals = {name for name in names if name.startswith("total_")}
    assert names - totals == {*EXIST, NOT_MMV}
    assert (loss_of("nce")[0] - GOLDEN[f"out.loss.{NOT_MMV}"]).abs() > 0.1


@pytest.mark.parametrize("name", [key for key in GOLDEN if key.startswith("out.loss.total_")])
def test_weighted_totals(name):
    va, vt = (float(weight) for weight in re.findall(r"v[at](\d+)", name))
    each = {"va": loss_of("nce_missing_audio")[0], "vt": loss_of("milnce_missing_text")[0]}
    total = weighted(each, {"va": va, "vt": vt}).total
    close(total / (va + vt) if name.endswith("_weighted_mean") else total, GOLDEN[name])


def test_temporal_shift():
    """In the published order of channels; of one frame alone, what is shifted is zero."""
    x = GOLDEN["in.shift.x"]
    close(published_shift(x), GOLDEN["out.shift.x"])
    close(published_shift(x), GOLDEN["out.shift.x_tpu_bf16"], 5e-3)
    one_by_one = published_shift(x.flatten(0, 1)[:, None]).view_as(x)
    close(one_by_one, GOLDEN["out.shift.one_frame"])


IMAGE = GOLDEN["in.deflate.image"].double()
CURVE = GOLDEN["out.deflate.l1_curve"]


@torch.no_grad()
def test_networks_of_clips_and_of_images():
    network, frames = TSM(), METADATA["deflate"]["frames"]
    image = IMAGE[:, None]
    close(network(GOLDEN["in.deflate.video"].double(), "video"), GOLDEN["out.deflate.video"])
    close(network(image.expand(-1, frames, -1, -1, -1), "video"), GOLDEN["out.deflate.static_video"])
    close(network(image, "video"), GOLDEN["out.deflate.one_frame"])
    close(network(image, "off"), GOLDEN["out.deflate.shift_off"])
    close(network(image, "image"), GOLDEN["out.deflate.image_before"])


def test_deflation():
    network, said = TSM(), METADATA["deflate"]["l1"]
    wanted = GOLDEN["out.deflate.static_video"].double()
    norms = [*network.scales, *network.offsets]

    def features(images: Tensor) -> Tensor:
        return network(images[:, None], "image")

    expected = [f"out.grad.deflate.{place}.{kind}" for kind in ("scale", "offset") for place in network.places]
    assert set(expected) == {key for key in GOLDEN if key.startswith("out.grad.deflate.")}
    for key, gradient in zip(expected, torch.autograd.grad(l1(features(IMAGE), wanted), norms), strict=True):
        close(gradient, GOLDEN[key].flatten())

    distances = refit_norms(features, norms, [(IMAGE, wanted)] * (len(CURVE) - 1), lr=0.01)
    with torch.no_grad():
        distances.append(l1(features(IMAGE), wanted).item())
    assert distances[0] == pytest.approx(said["permuted"], rel=1e-5)
    assert distances[:5] == pytest.approx(CURVE[:5].tolist(), rel=1e-3)
    assert distances[-1] == pytest.approx(CURVE[-1].item(), rel=0.1)
    assert l1(GOLDEN["out.deflate.image_after"], wanted).item() == pytest.approx(said["after"], rel=1e-3)
    after = {key for key in GOLDEN if key.startswith("after.deflate.")}
    assert after == {key.replace("out.grad.", "after.") for key in expected}
    fitted = [(GOLDEN[key.replace("out.grad.", "after.")].flatten(), p) for key, p in zip(expected, norms, strict=True)]
    worst = max((ours - theirs).abs().max().item() for theirs, ours in fitted)
    assert worst < 0.2, "each step moves each number by at most 0.01"
