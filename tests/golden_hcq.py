"""What HCQ's file holds, how its weights come into our modules, and the whole model's results."""

import re

import torch
from golden_retrieval import read
from torch import Tensor, nn

from tcl.config.quantise import CodeSizes, QuantiseConfig
from tcl.losses.hybrid_contrast import level_similarities, plain_share
from tcl.models.batch_norm import BatchNorm
from tcl.models.compressed_heads import CompressedHeads
from tcl.models.product_quantiser import quantisation_error, similarities
from tcl.models.unit_rows import unit_or_zero
from tcl.objectives.compressed_retrieval import hybrid_terms

GOLDEN, SIZES, METADATA = read("hcq")
D, M, K, L, G = (SIZES[name] for name in "DMKLG")
TAU, EPOCHS = SIZES["temperature"], SIZES["total_epochs"]
LEVEL_WEIGHTS = torch.tensor([SIZES["cls_weight"], *[SIZES["vlad_weight"] / L] * L])
SHARP = 10.0
"""alpha of `sharp`, `top3`, `dual`, `paper_soft` and `model_soft`."""
Results = dict[str, Tensor]


def state(prefix: str) -> Results:
    return {key.removeprefix(prefix): value for key, value in GOLDEN.items() if key.startswith(prefix)}


def leaf(key: str) -> Tensor:
    return GOLDEN[key].clone().requires_grad_()


def load(module: nn.Module, prefix: str, names: dict[str, str]) -> nn.Module:
    """names: ours -> published; a batch norm is one name. Weights of the published code may lie on their side."""
    published = state(prefix)
    own = module.state_dict()
    for ours, theirs in names.items():
        for name in own:
            if name == ours or name.startswith(f"{ours}."):
                found = published[theirs + name.removeprefix(ours)]
                found = found[0] if found.ndim == 3 and own[name].ndim == 2 else found
                own[name] = found.T if found.ndim == 2 and theirs.endswith(("clusters", "clusters2")) else found
    module.load_state_dict(own)
    return module


GATE = {"project": "fc", "gate": "cg.fc", "batch_norm": "cg.batch_norm"}
VLAD = {"assign.weight": "clusters", "centres": "clusters2", "batch_norm": "batch_norm"}


def running(module: nn.Module, name: str) -> Results:
    return {f"after.{name}.{kind}": getattr(module, kind) for kind in ("running_mean", "running_var")}


def hybrid(quantised: Tensor, plain: Tensor, epoch: int) -> Tensor:
    """Terms [V] of a level each -> the loss of an epoch."""
    share = plain_share(epoch, EPOCHS)
    return (LEVEL_WEIGHTS * ((1 - share) * quantised + share * plain)).sum()


def epochs_of(prefix: str) -> list[int]:
    return [int(one) for one in re.findall(rf"{re.escape(prefix)}\.epoch_(\d+)(?!\S)", " ".join(GOLDEN))]


LAYERS = ("cls_pq_layer", *(f"vlad_pq_layers.{i}" for i in range(L)))
BOOKS = [f"state.model.{layer}._C_k" for layer in LAYERS]
NORMS: dict[str, dict[str, float]] = {}
"""Of the gradients of parameters, by what is trained how."""
PUBLISHED_NAMES = {
    **{f"text_coarse.{ours}": f"text_GU.rgb.{theirs}" for ours, theirs in GATE.items()},
    **{f"vlad.{ours}": f"ghost_vlad.{theirs}" for ours, theirs in VLAD.items()},
    "text_fine": "text_vlad_proj",
}


def heads_of(trained: bool) -> CompressedHeads:
    """Images come as tokens of `dim` numbers: what is before that is not of this file."""
    heads = CompressedHeads(D, GOLDEN["in.model.text_tokens"].shape[2], CodeSizes(D, L, G, M, K), trained)
    heads = load(heads, "state.model.", PUBLISHED_NAMES)
    with torch.no_grad():
        heads.quantiser.codebooks.copy_(torch.stack([GOLDEN[key] for key in BOOKS]))
    heads.image_coarse, heads.image_fine = nn.Identity(), nn.Identity()
    return heads


def whole(kind: str, mode: str) -> Results:
    """`model`: straight through; `model_soft`: soft, with gradients of the codebooks."""
    soft, name = kind == "model_soft", f"out.{kind}.{mode}"
    heads = heads_of(trained=soft).train(mode == "train")
    config = QuantiseConfig(assignment="soft" if soft else "straight_through", alpha=SHARP, temperature=TAU)
    texts, images = leaf("in.model.text_tokens"), leaf("in.model.image_tokens")
    text_mask, image_mask = (GOLDEN[f"in.model.{side}_mask"].bool() for side in ("text", "image"))
    text = heads.text_levels(texts, text_mask)
    image = heads.levels(unit_or_zero(images[:, 1]), images[:, 2:], image_mask[:, 2:])
    text_code, image_code = (heads.quantiser(side, config) for side in (text, image))
    sides = {"quant_vid_t2v": (text, image_code), "quant_text_t2v": (text_code, image), "t2v": (text, image)}
    found = {}
    for key, (of_text, of_image) in sides.items():
        similar = level_similarities(*(unit_or_zero(side.flatten(2)) for side in (of_text, of_image)))
        found |= {f"{key}_cls": similar[0], f"{key}_vlad": similar[1:]}
    terms = hybrid_terms(
        torch.stack([image, text]), torch.stack([image_code, text_code]), torch.arange(len(text)), config
    )
    for epoch in epochs_of(f"{name}.loss"):
        loss = hybrid(terms["quantised"], terms["plain"], epoch)
        found[f"loss.epoch_{epoch}"] = loss
        if epoch == 3:
            loss.backward(retain_graph=True)
            NORMS[name] = {ours: p.grad.norm().item() for ours, p in heads.named_parameters() if p.grad is not None}
            if soft:
                books = zip(BOOKS, heads.quantiser.codebooks.grad, strict=True)
                NORMS[name] |= {book.removeprefix("state.model."): level.norm().item() for book, level in books}
    found |= {"grad_text_tokens": texts.grad, "grad_image_tokens": images.grad}
    error = quantisation_error(torch.stack([text, image]), torch.stack([text_code, image_code])).mean()
    found |= {"quant_err": error, "quant_reg": error}
    found = {f"{name}.{key}": value for key, value in found.items()}
    if kind == "model":
        found |= assigned(heads, name, text, image, text_code, image_code)
    return found


def assigned(heads: CompressedHeads, name: str, *sides: Tensor) -> Results:
    """Embeddings and codes; and what the batch norms of the published quantisers make of similarities, which no code
    depends on."""
    text, image, text_code, image_code = sides
    norms = []
    for layer in LAYERS:
        names = {"running_mean": "BatchNorm.running_mean", "running_var": "BatchNorm.running_var"}
        norm = load(BatchNorm(M, affine=False), f"state.model.{layer}.", names)
        norms.append((layer, norm.train(heads.training)))
    found = {}
    for side, levels, quantised in (("text", text, text_code), ("vid", image, image_code)):
        similar = similarities(levels, heads.quantiser.codewords)
        soft = [norm(similar[:, v].mT).mT.mul(SIZES["alpha"]).softmax(-1) for v, (_, norm) in enumerate(norms)]
        rows, quantised_rows = levels.flatten(2), quantised.flatten(2)
        found |= {f"{side}_cls_embd": rows[:, 0], f"{side}_vlad_embds": rows[:, 1:]}
        found |= {f"quant_{side}_cls_embd": quantised_rows[:, 0], f"quant_{side}_vlad_embds": quantised_rows[:, 1:]}
        found |= {f"quant_{side}_cls_code": soft[0], f"quant_{side}_vlad_codes": torch.stack(soft[1:], dim=1)}
        found[f"codes_{'text' if side == 'text' else 'image'}"] = heads.quantiser.codes(levels)
    if not heads.training:
        return {f"{name}.{key}": value for key, value in found.items()}
    found = {}
    for layer, norm in norms:
        found |= running(norm, f"model.{layer}.BatchNorm")
    found |= running(heads.vlad.batch_norm, "model.ghost_vlad.batch_norm")
    return found | running(heads.text_coarse.batch_norm, "model.text_GU.rgb.cg.batch_norm")


def models() -> Results:
    found = {}
    for kind in ("model", "model_soft"):
        for mode in ("eval", "train"):
            found |= whole(kind, mode)
    return found
