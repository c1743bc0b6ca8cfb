"""MMV's published heads as ours: where each of them is, and what it gives."""

import torch
from golden_mmv import GOLDEN, METADATA
from torch import Tensor, nn
from torch.nn import functional as F

from tcl.config.spaces import SpacesConfig
from tcl.models.spaces import Spaces

SIZES = METADATA["config"]
PUBLISHED = "~_get_pair_embedding_heads/"
HEADS = {
    "fac": {"video_va": "vid2audio_embd", "audio_va": "audio_embd", "va_vat": "vis_embd", "text_vat": "txt_embd"},
    "disjoint": {
        "video_va": "vid2audio_embd",
        "audio_va": "audio_embd",
        "video_vat": "vis_embd",
        "text_vat": "txt_embd",
        "audio_at": "audio2txt_embd",
        "text_at": "txt2audio_embd",
    },
    "shared": {"video": "vis_embd", "audio": "audio_embd", "text": "txt_embd"},
}
LAYERS = {
    1: {0: "final_projection"},
    2: {0: "final_projection", 1: "__batch_norm"},
    5: {0: "final_projection_inner", 1: "__batch_norm", 3: "final_projection", 4: "__batch_norm_1"},
}
SPACES = {"audio": {"va": "tovid", "vat": "totxt", "at": "totxt"}, "video": {"va": "toaud", "vat": "totxt"}}
SPACES["text"] = {"va": "toaud", "vat": "tovid", "at": "toaud"}


def spaces_of(graph: str, audio_text: bool) -> Spaces:
    """With the published weights and running averages."""
    widths = {"video": SIZES["dv"], "audio": SIZES["da"], "text": SIZES["sent"]}
    spaces = Spaces(SpacesConfig(graph, fine_dim=SIZES["fine"], coarse_dim=SIZES["coarse"]), widths, audio_text)
    for name, head in spaces.heads.items():
        prefix = f"state.{graph}.{PUBLISHED}{HEADS[graph][name]}/"
        for place, published in LAYERS[len(head.layers)].items():
            _load(head.layers[place], prefix + published)
    return spaces


def _load(layer: nn.Module, published: str) -> None:
    with torch.no_grad():
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(GOLDEN[f"{published}.w"].T)
            assert (layer.bias is not None) == (f"{published}.b" in GOLDEN)
            if layer.bias is not None:
                layer.bias.copy_(GOLDEN[f"{published}.b"])
            return
        layer.weight.copy_(GOLDEN[f"{published}.scale"][0])
        layer.bias.copy_(GOLDEN[f"{published}.offset"][0])
        layer.running_mean.copy_(GOLDEN[f"{published}/~/mean_ema.average"][0])
        layer.running_var.copy_(GOLDEN[f"{published}/~/var_ema.average"][0])
        layer.batches.copy_(GOLDEN[f"{published}/~/mean_ema.counter"])


def averages(spaces: Spaces, graph: str, prefix: str) -> dict[str, Tensor]:
    """What the norms have seen, by the published names."""
    found = {}
    for name, head in spaces.heads.items():
        for place, published in LAYERS[len(head.layers)].items():
            layer = head.layers[place]
            if isinstance(layer, nn.Linear):
                continue
            for ours, theirs in (("running_mean", "mean_ema"), ("running_var", "var_ema")):
                where = f"{prefix}.{PUBLISHED}{HEADS[graph][name]}/{published}/~/{theirs}"
                average = getattr(layer, ours)[None]
                found[f"{where}.average"] = average
                found[f"{where}.hidden"] = average * (1 - METADATA["bn"]["decay"] ** layer.batches)
                found[f"{where}.counter"] = layer.batches
    return found


def text_features(graph: str) -> Tensor:
    """Published: a linear layer, ReLU, and the maximum over all words, padding among them."""
    module = f"state.{graph}.text_module/~/text_conv1"
    words = GOLDEN["state.words"][GOLDEN["in.heads.word_ids"].long()]
    return F.relu(words @ GOLDEN[f"{module}.w"][0] + GOLDEN[f"{module}.b"]).amax(dim=1)


def embeddings(spaces: Spaces, graph: str, prefix: str) -> dict[str, Tensor]:
    """By the published names."""
    features = {"video": GOLDEN["in.heads.video_repr"], "audio": GOLDEN["in.heads.audio_repr"]}
    features["text"] = text_features(graph)
    found = {}
    for modality, given in features.items():
        for space, rows in spaces(modality, given).items():
            found[f"{prefix}.{modality}_{SPACES[modality][space]}"] = rows.detach()
    return found
