"""Models of transformers that others trained, from a hub id or a folder: no code that lies beside them is run.

Names that reach the hub or the disk are those that the user typed: a model that would be put together from others is
refused, and so are kernels and quantisations that transformers would fetch.
"""

import os
import sys
from functools import partial

import torch
from huggingface_hub import hf_hub_download
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import CONFIG_NAME

from tcl.encoders.bounded_memory import refuse_too_large
from tcl.errors import InputError
from tcl.hub_access import hub_or_cache, is_hub_id
from tcl.plain_values import read_json

NEITHER = (
    "give a model of the CLIP or SigLIP kind (embeddings), or a BLIP for image-text matching "
    "(BlipForImageTextRetrieval)"
)


def model_type(source: str, revision: str | None = None) -> str | None:
    """What the config.json of a folder or hub id calls its architecture, as models of transformers do; None: there is
    no such file, or it is another's, as ours are."""
    path = os.path.join(source, CONFIG_NAME)
    if not os.path.exists(source) and is_hub_id(source):
        with hub_or_cache(source):
            try:
                path = hf_hub_download(source, CONFIG_NAME, revision=revision)
            except Exception:  # whoever loads the model says what is wrong with its name
                return None
    if not os.path.isfile(path):  # pathlib's raises at a name that is too long
        return None
    try:
        said = read_json(path, "source")
    except InputError:
        return None
    found = said.get("model_type") if isinstance(said, dict) and said.get("format") != "tcl" else None
    return found if isinstance(found, str) else None


def read_architecture(source: str, revision: str | None) -> PreTrainedConfig:
    """InputError: not one that this version of transformers has, or that it would need other files for."""
    with hub_or_cache(source):
        try:
            architecture = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        except Exception as error:  # transformers raises OSError, ValueError, ... with messages of many lines
            raise InputError(f"source: {source!r} is no model that transformers knows ({first_line(error)})") from error
    if getattr(architecture, "quantization_config", None) is not None:
        raise InputError(f"source: {source!r} is quantised, and would fetch code for that; give its plain weights")
    if AutoConfig in type(architecture).sub_configs.values():
        raise InputError(
            f"source: {source!r} ({architecture.model_type}) puts together models of any kind; give one of a kind of "
            f"its own, such as clip or siglip"
        )
    architecture._attn_implementation = "eager"  # for its towers too; what the file asks for could be a hub's kernel
    return architecture


def load_network(
    network: type[PreTrainedModel], architecture: PreTrainedConfig, source: str, revision: str | None
) -> PreTrainedModel:
    """The weights of `source` in a network of that class, fp32, in eval mode, on the CPU.

    InputError: sizes that no machine has, weights that cannot be had, are pickles that want to run code, or are not all
    there, numbers that are not finite.
    """
    if hasattr(sys.modules[network.__module__], "load_cuda_kernels"):
        raise InputError(f"source: {source!r} ({architecture.model_type}) would fetch code, which is never run")
    refuse_too_large(partial(network, architecture), "source")
    with hub_or_cache(source) as silent:
        try:
            model, told = network.from_pretrained(
                source,
                revision=revision,
                config=architecture,
                trust_remote_code=False,
                dtype=torch.float32,
                attn_implementation="sdpa" if network._supports_sdpa else "eager",
                output_loading_info=True,
            )
        except Exception as error:  # of transformers, torch and safetensors
            why = f"not in the local cache; {silent}" if silent else first_line(error)
            raise InputError(f"source: the weights of {source!r} cannot be loaded ({why})") from error
    lacking = sorted([*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])])
    if lacking:
        raise InputError(
            f"source: {source!r} lacks {len(lacking):,} of the weights of a {network.__name__} ({lacking[0]}, ...); "
            f"give all of its files"
        )
    for name, weights in model.named_parameters():
        if not all(end.isfinite() for end in weights.detach().aminmax()):
            raise InputError(f"source: {source!r}: {name} holds NaN or infinite numbers; use other weights")
    return model.eval().requires_grad_(False)


def first_line(error: Exception) -> str:
    """What transformers says in many lines, some of them empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
