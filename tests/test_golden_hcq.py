"""Parity with HCQ: GhostVLAD, gated unit, quantisers, k-means, losses, the whole model, table search.

Each function here makes results under the names that they have in the file; `tests/test_golden_retrieval_methods.py`
says that none is missing. Any file of the same form works, in the folder that TCL_GOLDEN_RETRIEVAL_METHODS_DIR names.
"""

import re
from collections.abc import Callable
from functools import cache

import pytest
import torch
from golden_hcq import (
    EPOCHS,
    GATE,
    GOLDEN,
    METADATA,
    NORMS,
    PUBLISHED_NAMES,
    SHARP,
    SIZES,
    TAU,
    VLAD,
    D,
    G,
    L,
    M,
    Results,
    epochs_of,
    hybrid,
    leaf,
    load,
    models,
    running,
    state,
)
from golden_retrieval import close, expected_keys
from torch import Tensor

from tcl.losses.hybrid_contrast import debiased_contrast, plain_share
from tcl.models.batch_norm import BatchNorm
from tcl.models.compressed_encoders import side_by_side
from tcl.models.gated_unit import GatedUnit
from tcl.models.ghost_vlad import GhostVLAD
from tcl.models.product_quantiser import (
    hard_parts,
    quantisation_error,
    similarities,
    soft_assignment,
    soft_parts,
    split,
    straight_through,
)
from tcl.models.spherical_kmeans import fit_codebooks
from tcl.models.unit_rows import unit_or_zero
from tcl.search.codes import checked_codes, tables


def vlad() -> Results:
    found, tokens = {}, GOLDEN["in.vlad.tokens"]
    for mode in ("eval", "train"):
        for masked in ("", "_masked"):
            ours = load(GhostVLAD(D, L, G), "state.vlad.", VLAD).train(mode == "train")
            there = GOLDEN["in.vlad.mask"].bool() if masked else torch.ones(tokens.shape[:2], dtype=torch.bool)
            assignments = ours.assignments(tokens, there)
            name = f"out.vlad.{mode}{masked}"
            found |= {f"{name}.assignments": assignments, f"{name}.residuals": ours.residuals(tokens, assignments)}
            found[f"{name}.unit"] = unit_or_zero(ours.residuals(tokens, assignments))
            if mode == "train":
                found |= running(ours.batch_norm, f"vlad.train{masked}.batch_norm")
    return found


def gate() -> Results:
    ours = load(GatedUnit(GOLDEN["in.gate.x"].shape[1], D), "state.gate.", GATE).eval()
    found = {"out.gate.eval": ours(GOLDEN["in.gate.x"])}
    found["out.gate.train"] = ours.train()(GOLDEN["in.gate.x"])
    return found | running(ours.batch_norm, "gate.cg.batch_norm")


def published_quantiser(name: str) -> Results:
    """A batch norm of similarities, and keys beside values, are its own: no code depends on the one, and codebooks of
    ours are both."""
    kind = name.partition(".")[0]
    alpha = SHARP if kind in ("sharp", "top3", "dual") else SIZES["alpha"]
    x, codewords, values = leaf("in.pq.x"), leaf("state.pq.codewords"), leaf("state.pq.values")
    norm = load(BatchNorm(M, affine=False), "state.pq.", {"running_mean": "batch_norm.running_mean"})
    norm = load(norm, "state.pq.", {"running_var": "batch_norm.running_var"}).train(name.endswith("train"))
    words = values if kind == "dual" else codewords
    parts = split(x, M)
    similar = similarities(parts, codewords)
    similar = norm(similar.mT).mT if kind == "bn" else similar
    codes, soft = similar.argmax(dim=-1), soft_assignment(similar, alpha, 3 if kind == "top3" else None)
    hard, mean = hard_parts(codes, words), soft_parts(soft, words)
    trained = straight_through(hard, mean if kind == "dual" else parts)
    (trained.flatten(1) * GOLDEN["in.pq.upstream"]).sum().backward()
    entropy = -(soft * (soft + 1e-6).log()).sum(dim=2).mean(dim=1)
    found = {
        "normalized": parts.flatten(1),
        "codes": codes,
        "soft": soft,
        "hard_reconstruction": hard.flatten(1),
        "soft_reconstruction": mean.flatten(1),
        "regulariser": entropy if kind == "dual" else quantisation_error(parts, hard),
        "grad_x": x.grad,
    }
    if kind == "dual":
        found |= {"grad_codewords": codewords.grad, "grad_values": values.grad}
    found = {f"out.pq.{name}.{key}": value for key, value in found.items()}
    return found | (running(norm, "pq.bn") if name == "bn.train" else {})


def quantisers() -> Results:
    found = {}
    for name in ("plain", "sharp", "top3", "bn", "bn.train", "dual"):
        found |= published_quantiser(name)
    x, codebooks = leaf("in.pq.x"), leaf("state.pq.codewords")
    words = unit_or_zero(codebooks)
    mean = soft_parts(soft_assignment(similarities(split(x, M), words), SHARP), words)
    (mean.flatten(1) * GOLDEN["in.pq.upstream"]).sum().backward()
    soft = {"reconstruction": mean.flatten(1), "grad_x": x.grad, "grad_codewords": codebooks.grad}
    return found | {f"out.pq.paper_soft.{key}": value for key, value in soft.items()}


def kmeans() -> Results:
    vectors = torch.cat([GOLDEN["in.kmeans.text"].flatten(0, -2), GOLDEN["in.kmeans.image"]])
    return {"out.kmeans.codewords": fit_codebooks(split(vectors, M), GOLDEN["state.pq.codewords"], rounds=10)}


def both(t2v: Tensor, v2t: Tensor, prior: float = 0.0) -> Tensor:
    own = torch.arange(t2v.shape[-1])
    return sum(debiased_contrast(way, own, TAU, prior) for way in (t2v, v2t))


def losses() -> Results:
    given = state("in.loss.")
    found = {"out.loss.infonce": both(given["quant_cls_t2v"][None], given["quant_cls_v2t"][None])[0]}
    for prior in re.findall(r"out\.loss\.debiased\.prior_(\S+)", " ".join(GOLDEN)):
        found[f"out.loss.debiased.prior_{prior}"] = both(given["quant_vlad_t2v"], given["quant_vlad_v2t"], float(prior))
    found["out.loss.smoothing"] = torch.tensor([plain_share(e, EPOCHS) for e in range(EPOCHS + 1)])
    for epoch in epochs_of("out.loss.hybrid"):
        ours = {name: value.clone().requires_grad_() for name, value in given.items()}
        levels = {
            name: torch.cat([ours[f"{name.replace('_', '_cls_')}"][None], ours[f"{name.replace('_', '_vlad_')}"]])
            for name in ("quant_t2v", "quant_v2t", "feat_t2v")
        }
        quantised = both(levels["quant_t2v"], levels["quant_v2t"])
        loss = hybrid(quantised, both(levels["feat_t2v"], levels["feat_t2v"].mT), epoch)
        loss.backward()
        name = f"out.loss.hybrid.epoch_{epoch}"
        found |= {name: loss} | {f"{name}.grad.{key}": value.grad for key, value in ours.items()}
    return found


def experts() -> Results:
    """Weights of several gated units are a softmax of the text's own; with the one of ours it is 1."""
    text, names = GOLDEN["in.experts.text_cls"], dict.fromkeys(re.findall(r"moe_fc_txt\.(\w+)", " ".join(GOLDEN)))
    prefix, rows = "state.experts.", text.flatten(0, 1)
    names = [name for name in names if f"{prefix}moe_fc_txt.{name}.bias" in GOLDEN]
    units = [load(GatedUnit(text.shape[2], D), f"{prefix}text_GU.{name}.", GATE).eval()(rows) for name in names]
    weights = [
        rows @ GOLDEN[f"{prefix}moe_fc_txt.{name}.weight"].T + GOLDEN[f"{prefix}moe_fc_txt.{name}.bias"]
        for name in names
    ]
    mixed = (torch.cat(weights, dim=1).softmax(dim=1)[..., None] * torch.stack(units, dim=1)).sum(dim=1)
    video = unit_or_zero(GOLDEN["in.experts.agg"]).mean(dim=1)
    return {
        "out.experts.text_coarse_normalized": split(mixed, M).flatten(1).unflatten(0, text.shape[:2]),
        "out.experts.video_coarse_normalized": split(video, M).flatten(1),
    }


def search() -> Results:
    """Tables of ours are those of vectors of length 1."""
    gallery, queries = (split(GOLDEN[f"in.search.{side}"], M) for side in ("gallery", "queries"))
    codebooks = GOLDEN["state.search.codewords"]
    codes = similarities(gallery, codebooks).argmax(dim=-1)
    kept = checked_codes(codes.to(torch.uint8), codebooks)
    rows, parts = side_by_side(queries), kept.codes.shape[1]
    found = tables(rows, kept.codebooks) * parts
    return {
        "out.search.codes": codes,
        "out.search.tables": found.unflatten(1, codebooks.shape[:2]),
        "out.search.lut_scores": kept.scores(rows),
        "out.search.scores": rows @ kept.decoded().T,
    }


PARTS: list[Callable[[], Results]] = [vlad, gate, quantisers, kmeans, losses, models, experts, search]


@cache
def results() -> Results:
    torch.manual_seed(0)
    return {key: value.detach() for part in PARTS for key, value in part().items()}


@pytest.mark.parametrize("key", sorted(expected_keys(GOLDEN)))
def test_it_is_what_was_recorded(key):
    close(results()[key], GOLDEN[key])


@pytest.mark.parametrize("name", sorted(key.removeprefix("grad_norms.") for key in METADATA if "grad_norms.out" in key))
def test_gradients_of_parameters_are_as_long_as_recorded(name):
    results()
    published = METADATA[f"grad_norms.{name}"]
    found = {theirs: NORMS[name].get(theirs) for theirs in published}
    for ours, theirs in PUBLISHED_NAMES.items():
        named = {
            key: theirs + key.removeprefix(ours) for key in NORMS[name] if key == ours or key.startswith(f"{ours}.")
        }
        found |= {their_name: NORMS[name][key] for key, their_name in named.items()}
    of_experts = {key for key in published if key.startswith("moe_fc_txt.")}  # there is one: its weight is 1
    for key, norm in published.items():
        if key not in of_experts:
            assert found[key] == pytest.approx(norm, rel=1e-4, abs=1e-6), key
