"""Grad-CAM against finite differences through a fusion encoder written out, and its picture."""

import numpy as np
import pytest
import torch
from data_files import TOKENIZER, noise
from PIL import Image
from tiny import random_batch
from tiny_pretrained import tiny_tcl
from torch.nn import functional as F

from tcl.errors import InputError
from tcl.inference.heat_map import fusion_layer, grad_cam, overlay
from tcl.models.compress_tokens import build_compression
from tcl.models.fusion_encoder import Attention


def attend(attention: Attention, x: torch.Tensor, source: torch.Tensor, given=None) -> tuple[torch.Tensor, list]:
    """One text x [L, width] looks at source [N, width], head by head -> output and the probabilities of each head.

    given: probabilities to use instead.
    """
    size = x.shape[1] // attention.heads
    contexts, probabilities = [], []
    for h in range(attention.heads):
        part = slice(h * size, (h + 1) * size)
        query, key, value = (
            F.linear(tokens, linear.weight[part], linear.bias[part])
            for tokens, linear in ((x, attention.query), (source, attention.key), (source, attention.value))
        )
        weights = torch.exp(query @ key.T / size**0.5)
        weights = weights / weights.sum(dim=1, keepdim=True) if given is None else given[h]
        probabilities.append(weights)
        contexts.append(weights @ value)
    return attention.norm(x + attention.out(torch.cat(contexts, dim=1))), probabilities


def match_logit(student, image: torch.Tensor, text: torch.Tensor, layer: int, given=None) -> tuple[float, list]:
    """ITM logit of "match" of image tokens [N, width] and text tokens [L, width]; probabilities of `layer`."""
    x, kept = text, None
    for i, each in enumerate(student.encoders.fusion_encoder.layers):
        x, _ = attend(each.self_attention, x, x)
        x, probabilities = attend(each.cross_attention, x, image, given if i == layer else None)
        kept = probabilities if i == layer else kept
        x = each.feed_forward(x)
    return float(student.itm_head(x[0])[1]), kept


@torch.no_grad()
def slopes(student, image: torch.Tensor, text: torch.Tensor, layer: int) -> torch.Tensor:
    """By finite differences, of all tokens of the image [N, width]: [L, N], probability times slope where that is > 0,
    mean over the heads."""
    _, probabilities = match_logit(student, image, text, layer)
    found = torch.zeros(len(text), len(image), dtype=torch.float64)
    step = 1e-5
    for h, of_head in enumerate(probabilities):
        for token in range(len(text)):
            for seen in range(len(image)):
                logits = []
                for sign in (1, -1):
                    given = [each.clone() for each in probabilities]
                    given[h][token, seen] += sign * step
                    logits.append(match_logit(student, image, text, layer, given)[0])
                slope = (logits[0] - logits[1]) / (2 * step)
                found[token, seen] += max(slope, 0) * of_head[token, seen] / len(probabilities)
    return found


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("few", [None, 3])
@torch.no_grad()
def test_grad_cam_equals_finite_differences_of_the_match_logit(layer, few):
    """few: tokens of an image for the fusion encoder, whose contributions go to where each of them looks."""
    student = tiny_tcl().student
    fusion = student.encoders.fusion_encoder
    fusion.compression = build_compression(few, student.encoders.image_encoder)
    student.double()
    batch = random_batch(1, length=4)
    image = student.encoders.image_encoder(batch.inputs["image"].view.double())
    ids = batch.inputs["text"].ids % len(TOKENIZER)
    text = student.encoders.text_encoder(ids, torch.ones_like(ids))[0]
    expected = slopes(student, fusion.compress(image)[0], text, layer)
    if few is not None:
        expected = expected @ fusion.compression.looks(image)[0]
    expected = expected[:, 1:]
    assert (expected > 0).any()
    found = grad_cam(student, image, ids, layer)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@torch.no_grad()
def test_attention_by_its_probabilities_equals_the_fused_kernel():
    attention = tiny_tcl().student.encoders.fusion_encoder.layers[0].cross_attention
    generator = torch.Generator().manual_seed(1)
    x, source = torch.randn(3, 6, 16, generator=generator), torch.randn(3, 5, 24, generator=generator)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] + [False] * 4])[:, None, None, :]
    for some_mask in (None, mask):
        keys_values = attention.keys_values(source, some_mask)
        probabilities = attention.probabilities(x, keys_values)
        torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(3, 2, 6))
        torch.testing.assert_close(attention.look(x, keys_values, probabilities), attention(x, keys_values))
    assert not probabilities[1, :, :, 3:].any()


def test_explain_maps_the_patch_grid_for_the_text_and_each_token():
    model = tiny_tcl(precision="bf16")  # which Grad-CAM does not follow
    found = model.explain(noise(1, (20, 10)), "A red-dog, on mat!")
    assert found.words == ["a", "red", "dog", "on", "mat"]
    assert found.of_words.shape == (5, 2, 2) and found.of_words.dtype == np.float32
    assert (found.of_words >= 0).all() and found.of_words.max() > 0
    np.testing.assert_allclose(found.values, found.of_words.mean(axis=0))
    encoders = model.student.encoders
    with torch.no_grad():
        tokens = encoders.image_encoder(model.transform(np.array(noise(1, (20, 10))))[None])
    ids = torch.tensor([TOKENIZER.convert_tokens_to_ids(["[CLS]", "a", "red", "dog", "on", "mat"])])
    expected = grad_cam(model.student, tokens, ids, layer=0)[1:].unflatten(1, (2, 2))
    np.testing.assert_allclose(found.of_words, expected, rtol=1e-5)
    other = model.explain(noise(1, (20, 10)), "A red-dog, on mat!", layer=1)
    assert not np.allclose(other.of_words, found.of_words)


def test_the_third_of_six_fusion_layers_is_looked_at():
    assert [fusion_layer(layers, None) for layers in (1, 2, 3, 6)] == [0, 0, 1, 2]
    assert fusion_layer(6, 5) == 5


@pytest.mark.parametrize("layer", [-1, 2])
def test_a_layer_that_is_not_there(layer):
    with pytest.raises(InputError, match=f"^layer: {layer}, but the fusion encoder has 2; accepted: 0 to 1$"):
        tiny_tcl().explain(noise(), "a dog", layer=layer)


def test_the_overlay_glows_where_the_map_is_high_and_leaves_the_rest():
    image = Image.new("RGB", (40, 20), (10, 120, 200))
    heat = np.zeros((4, 8), np.float32)
    heat[:, 6:] = 3.0
    pixels = np.asarray(overlay(image, heat))
    assert pixels.shape == (20, 40, 3)
    assert (pixels[:, :20] == (10, 120, 200)).all()
    # the colour map's last colour at 70 %, the image at 30 %
    expected = 0.3 * np.array([10, 120, 200]) + 0.7 * np.array([252, 255, 164])
    np.testing.assert_allclose(pixels[:, -1], np.broadcast_to(expected, (20, 3)), atol=1.5)
    np.testing.assert_array_equal(np.asarray(overlay(image, np.zeros((4, 8), np.float32))), np.asarray(image))


def test_saved_overlays_are_those_of_the_text_or_of_one_word(tmp_path):
    found = tiny_tcl().explain(noise(3), "a red dog")
    found.save(tmp_path / "all.png")
    found.save(tmp_path / "dog.png", word=2)
    for name, heat in (("all.png", found.values), ("dog.png", found.of_words[2])):
        with Image.open(tmp_path / name) as saved:
            assert saved.format == "PNG"
            np.testing.assert_array_equal(np.asarray(saved), np.asarray(overlay(noise(3), heat)))


@pytest.mark.parametrize(
    ("name", "word", "said"),
    [
        ("a.jpg", None, "path: '.*a.jpg'; give a name that ends in .png"),
        ("none/a.png", None, r"path: '.*a.png' cannot be written \(No such file or directory\)"),
        ("a.png", 3, "word: 3 of 3; accepted: 0 to 2"),
    ],
)
def test_overlays_that_cannot_be_saved(tmp_path, name, word, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        tiny_tcl().explain(noise(), "a red dog").save(tmp_path / name, word)
