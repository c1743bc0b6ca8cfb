"""timm's image networks, and their weights from files or the hub; what weights lack is said."""

import warnings
from typing import Any

import timm
import torch
from torch import nn


def create(name: str, arguments: dict[str, Any], *, pretrained: bool = False) -> nn.Module:
    """timm.create_model; img_size is left out where a network takes any size."""
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except TypeError as error:
        if "'img_size'" not in str(error):
            raise
    sizeless = {key: value for key, value in arguments.items() if key != "img_size"}
    return timm.create_model(name, pretrained=pretrained, **sizeless)


def load(name: str, arguments: dict[str, Any], unused: set[str]) -> nn.Module:
    """The network with weights of a file or the hub; a warning names what the weights lack, which timm does not tell.

    Nobody misses its `unused` parameters. Weights of a ViT whose final norm stands behind a pooling (`fc_norm`) give it
    to the tokens.
    """
    network, random = _load_and_compare(name, arguments, unused)
    if arguments.get("global_pool") == "token" and any(parameter.startswith("norm.") for parameter in random):
        pooled, pooled_random = _load_and_compare(name, arguments | {"global_pool": "avg"}, unused)
        theirs = getattr(pooled, "fc_norm", None)
        if isinstance(theirs, type(network.norm)) and not any(one.startswith("fc_norm.") for one in pooled_random):
            network.norm.load_state_dict(theirs.state_dict())
            random = [parameter for parameter in random if not parameter.startswith("norm.")]
            warnings.warn(f"model.image: {name}: the weights' fc_norm is taken as the final norm", stacklevel=4)
    if random:
        more = f" and {len(random) - 5} more" if len(random) > 5 else ""
        warnings.warn(
            f"model.image: the weights of {name} lack {', '.join(random[:5])}{more}: they start random", stacklevel=4
        )
    return network


def _load_and_compare(name: str, arguments: dict[str, Any], unused: set[str]) -> tuple[nn.Module, list[str]]:
    """The network, and its parameters that are as in one that was made at the same state of the random numbers.

    Constants (biases of 0) may be so in trained weights too: of these only the final norm counts, unless nothing was
    trained at all.
    """
    with torch.random.fork_rng(devices=[]):
        new = dict(create(name, arguments).named_parameters())
    network = create(name, arguments, pretrained=True)
    constant = {key for key, value in new.items() if bool((value == value.flatten()[0]).all())}
    untouched = [key for key, value in network.named_parameters() if value.equal(new[key])]
    if len(untouched) == len(new):
        raise ValueError("the file has none of its weights")
    if constant.issuperset(untouched) and constant.issubset(untouched):
        return network, []
    missed = [key for key in untouched if key not in constant or key.startswith(("norm.", "fc_norm."))]
    return network, [key for key in missed if key not in unused]


def fetches(name: str) -> bool:
    """Does the argument `name` of timm.create_model name files or the hub?"""
    return name.startswith("pretrained") or name in ("checkpoint_path", "cache_dir")
