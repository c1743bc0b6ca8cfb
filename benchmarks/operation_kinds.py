"""What kinds of operations a step is made of, and how fast it could be if its products ran at the machine's best."""

from collections.abc import Callable

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

KINDS = {
    "products": ("mm", "addmm", "bmm", "baddbmm", "convolution", "scaled_dot_product"),
    "softmax": ("softmax", "logsumexp"),
    "norms and activations": ("layer_norm", "gelu", "tanh"),
    "random numbers": ("random_", "randint", "bernoulli_", "multinomial"),
    "copies and casts": ("copy_", "cat", "index", "clone"),
}
"""By how an operation's name begins, as `kind_of` shortens it; the rest adds, multiplies and sums."""


def seconds_by_kind(run: Callable[[], object]) -> dict[str, float]:
    """Of one call on the CPU: what operations take by themselves."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    seconds = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for operation in profiled.key_averages():
        seconds[kind_of(operation.key)] += operation.self_cpu_time_total / 1e6
    return seconds


def kind_of(operation: str) -> str:
    """Of KINDS, or "the rest"."""
    name = operation.removeprefix("aten::").removeprefix("native_").removeprefix("mkldnn_").lstrip("_")
    return next((kind for kind, beginnings in KINDS.items() if name.startswith(beginnings)), "the rest")


def products_of(run: Callable[[], object]) -> int:
    """Floating-point operations in the products of one call."""
    # torch counts products, not the fused attention of a CPU.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()
