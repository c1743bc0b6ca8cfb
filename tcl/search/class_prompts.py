"""Classes as texts (CLIP, Radford et al. 2021, section 3.1.4): prompts for the name of each, and one embedding."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from tcl.data.texts.class_list import PLACE

TEMPLATES = ("a photo of a {}.",)
"""Where none are given."""


def class_prompts(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """All templates with the name of the first class, then all with that of the second, ..."""
    return [template.replace(PLACE, name) for name in names for template in templates]


def class_features(prompts: Tensor, templates: int) -> Tensor:
    """Unit embeddings of prompts [classes * templates, D], in the order of `class_prompts` -> unit [classes, D]: the
    mean over the templates, normalised again."""
    return F.normalize(prompts.unflatten(0, (-1, templates)).mean(dim=1), dim=1)


def best_classes(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Logits [B, classes] -> the k (>= 1; all, where there are fewer) classes with the highest, best first, int64
    [B, k], and their probabilities among all classes, fp32 [B, k]; both on the host. Equal ones rank the first of the
    list first."""
    # By logits: where scales are large, many probabilities are the same 0.
    best = logits.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return best.cpu(), logits.softmax(dim=1).gather(1, best).cpu()
