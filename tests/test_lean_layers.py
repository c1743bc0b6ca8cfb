"""What is computed again in the backward pass is what was there, and it is not kept."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import nn
from torch.utils.checkpoint import checkpoint

from tcl.encoders.lean_layers import LeanBlock, LeanMlp, computed_again, keep_whole, use_lean_layers


def both(**options: object) -> tuple[Mlp, LeanMlp]:
    torch.manual_seed(0)
    plain = Mlp(6, 24, **options)
    lean = nn.ModuleList([copy.deepcopy(plain)])
    use_lean_layers(lean)
    return plain, lean[0]


def gradients(function: Callable, x: torch.Tensor, module: nn.Module) -> list[torch.Tensor]:
    """The output, and its gradients by x and the module's parameters."""
    y = function(x)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return [y, *torch.autograd.grad(y, [x, *module.parameters()], upstream)]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("options", [{}, {"act_layer": nn.ReLU}, {"norm_layer": nn.LayerNorm}, {"drop": 0.3}])
def test_it_is_timms_to_the_bit(options, bf16):
    plain, lean = both(**options)
    assert type(lean) is LeanMlp and lean.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 5, 6, requires_grad=True)
    for training in (True, False):
        plain.train(training), lean.train(training)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            torch.manual_seed(2)
            expected = gradients(plain, x, plain)
            torch.manual_seed(2)
            found = gradients(lean, x, lean)
        assert all(ours.equal(theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("options", [{}, {"init_values": 0.1, "qk_norm": True}, {"drop_path": 0.4, "proj_drop": 0.2}])
def test_a_block_is_timms_to_the_bit(options, bf16):
    torch.manual_seed(0)
    plain = Block(16, num_heads=2, **options)
    lean = nn.ModuleList([copy.deepcopy(plain)])
    use_lean_layers(lean)
    assert {type(lean[0]), type(lean[0].mlp)} == {LeanBlock, LeanMlp}
    x = torch.randn(3, 9, 16, requires_grad=True)
    mask = torch.ones(3, 1, 1, 9, dtype=torch.bool).tril(5)
    for attention in ({}, {"attn_mask": mask}):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            torch.manual_seed(2)
            expected = gradients(partial(plain, **attention), x, plain)
            torch.manual_seed(2)
            found = gradients(partial(lean[0], **attention), x, lean[0])
        assert all(ours.equal(theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("bf16", [False, True])
def test_one_of_the_two_large_tensors_is_kept(bf16):
    def kept(mlp: nn.Module) -> int:
        """Bytes that live as long as the output does, beyond the parameters and the input."""
        given, alive = torch.randn(64, 128, 6, requires_grad=True), []
        known = {given.data_ptr(), *(parameter.data_ptr() for parameter in mlp.parameters())}

        class Watch(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, function, types, arguments=(), options=None):
                out = function(*arguments, **(options or {}))
                if isinstance(out, torch.Tensor) and out.numel() == 64 * 128 * 24:
                    alive.append(torch.multiprocessing.reductions.StorageWeakRef(out.untyped_storage()))
                return out

        with Watch(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = mlp(given)
        assert y.requires_grad and known
        return len({one.cdata for one in alive if not one.expired()})

    plain, lean = both()
    assert (kept(plain), kept(lean)) == (2, 1)


def test_without_gradients_nothing_is_watched():
    plain, lean = both()
    x = torch.randn(2, 5, 6)
    with torch.no_grad():
        assert lean(x).equal(plain(x))


def test_within_a_checkpoint_it_is_timms_own():
    plain, lean = both()
    keep_whole(lean)
    x = torch.randn(2, 5, 6, requires_grad=True)
    expected = gradients(plain, x, plain)
    found = gradients(partial(checkpoint, lean, use_reentrant=False), x, lean)
    assert all(ours.equal(theirs) for ours, theirs in zip(found, expected, strict=True))


def test_two_backward_passes_through_the_same_graph():
    linear, x = nn.Linear(24, 6), torch.randn(5, 24, requires_grad=True)
    y = computed_again(torch.nn.functional.gelu, linear, x).square().sum()
    first = torch.autograd.grad(y, [x, *linear.parameters()], retain_graph=True)
    second = torch.autograd.grad(y, [x, *linear.parameters()])
    assert all(one.equal(two) for one, two in zip(first, second, strict=True))
