"""Deflation (MMV, arXiv 2006.16228): from a network of clips to one of images.

Of an image the network of clips f sees T copies; the network of images g is f without mixing of frames, which differs
from f where f sees zeros beyond the ends of a clip. Scales and offsets of all norms of g are fitted again, all else
stays:

    minimise mean |g(image) - f(T copies)|   over images without labels.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tcl.models.batch_norm import BatchNorm

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm, BatchNorm)


def norm_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Scales and offsets of all norms in `module`."""
    norms = (one for one in module.modules() if isinstance(one, NORMS))
    return [parameter for norm in norms for parameter in norm.parameters(recurse=False)]


def l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference, scalar."""
    return (found - wanted).abs().mean()


def refit_norms(
    features: Callable[[Tensor], Tensor],
    norms: list[nn.Parameter],
    examples: Iterable[tuple[Tensor, Tensor]],
    lr: float,
) -> list[float]:
    """Adam steps, one for each of `examples`: images, and what f gives for copies of them. Changes `norms` in place, of
    which `features`, g, is a function; L1 before each step."""
    optimiser = torch.optim.Adam(norms, lr=lr)
    distances = []
    for images, wanted in examples:
        distance = l1(features(images), wanted)
        gradients = torch.autograd.grad(distance, norms, allow_unused=True)
        for parameter, gradient in zip(norms, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        distances.append(distance.item())
    for parameter in norms:
        parameter.grad = None
    return distances
