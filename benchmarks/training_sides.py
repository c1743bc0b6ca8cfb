"""A training step of the textbook and of ours, each in a process of its own, for benchmarks.training_step."""

import time
from collections.abc import Callable

import torch
from accelerate import Accelerator

from benchmarks.measure import device, synchronise
from benchmarks.operation_kinds import products_of
from benchmarks.pretraining_models import ALPHA, Size, build_models, fixed_negatives, random_batch
from benchmarks.sides import PeakMemory, Side
from benchmarks.textbook.pretraining import TextbookTCL, build_textbook_optimizer, textbook_step
from tcl.config.optim import OptimConfig
from tcl.config.train import TrainConfig
from tcl.data.batch import to_device
from tcl.precision import mixed_precision
from tcl.training.engine import PlainEngine
from tcl.training.host_memory import keep_freed_memory
from tcl.training.layers import prepare_layers
from tcl.training.step import train_step

OPTIM = OptimConfig()
MATMUL_SIDE = 4096


def textbook_fp32(size: Size) -> Side:
    return _textbook(size, autocast=False)


def textbook_tf32(size: Size) -> Side:
    torch.set_float32_matmul_precision("high")
    return _textbook(size, autocast=False)


def textbook_bf16(size: Size) -> Side:
    return _textbook(size, autocast=True)


def ours_fp32(size: Size) -> Side:
    return _ours(size, "fp32")


def ours_default(size: Size) -> Side:
    return _ours(size, "auto")


def ours_compiled(size: Size) -> Side:
    return _ours(size, "auto", compiled=True)


def ours_checkpointed(size: Size) -> Side:
    return _ours(size, "auto", checkpointing=True)


def _textbook(size: Size, autocast: bool) -> Side:
    memory = PeakMemory()
    model = TextbookTCL(*build_models(size)).to(device())
    optimizer = build_textbook_optimizer(model, OPTIM.lr, OPTIM.weight_decay)
    batch = to_device(random_batch(size), device())

    def step() -> None:
        with torch.autocast(device().type, torch.bfloat16, enabled=autocast):
            losses = model(batch, ALPHA)
        textbook_step(model, optimizer, losses, OPTIM.clip_grad_norm)

    def losses() -> dict[str, float]:
        model.eval()
        with torch.no_grad(), torch.autocast(device().type, torch.bfloat16, enabled=autocast):
            found = model(batch, ALPHA, fixed_negatives(len(batch), device()))
        model.train()
        return {name: value.item() for name, value in found.items()}

    return _answer(step, losses, memory, torch.bfloat16 if autocast else torch.float32)


def _ours(size: Size, precision: str, compiled: bool = False, checkpointing: bool = False) -> Side:
    memory = PeakMemory()
    if device().type == "cpu":
        keep_freed_memory()
    accelerator = Accelerator(cpu=device().type == "cpu", mixed_precision=mixed_precision(precision, device()))
    student, teacher = build_models(size)
    options = TrainConfig(compile=compiled, activation_checkpointing=checkpointing)
    prepare_layers(student.averaged, options, device(), accelerator.mixed_precision == "bf16")
    engine = PlainEngine(accelerator, student, OPTIM)
    teacher.to(device())
    batch = to_device(random_batch(size), device())
    steps = 0

    def step() -> None:
        nonlocal steps
        train_step(engine, teacher, [batch], step=steps, seed=0, learning_rate=OPTIM.lr, alpha=ALPHA)
        steps += 1

    def losses() -> dict[str, float]:
        student.eval()
        teacher.eval()
        with torch.no_grad(), torch.autocast(device().type, torch.bfloat16, enabled=engine.bf16):
            targets = teacher(batch, {"temperature": student.temperature.detach()}, ALPHA)
            found = student(batch, targets, fixed_negatives(len(batch), device()))
        student.train()
        teacher.train()
        return {name: value.item() for name, value in found.each.items()}

    return _answer(step, losses, memory, torch.bfloat16 if engine.bf16 else torch.float32)


def _answer(
    step: Callable[[], None], losses: Callable[[], dict[str, float]], memory: PeakMemory, dtype: torch.dtype
) -> Side:
    def side(command: str):
        if command == "losses":
            return losses()
        if command == "memory":
            return memory.bytes()
        if command == "peak":
            return matmul_flops(dtype)
        if command == "flops":
            return products_of(step)
        started = time.perf_counter()
        step()
        synchronise()
        return time.perf_counter() - started

    return side


def matmul_flops(dtype: torch.dtype) -> float:
    """The most floating-point operations a second that a product of square matrices reaches here."""
    side = MATMUL_SIDE if torch.cuda.is_available() else MATMUL_SIDE // 2
    a, b = torch.randn(2, side, side, device=device(), dtype=dtype)
    best = float("inf")
    for _ in range(10):
        synchronise()
        started = time.perf_counter()
        a @ b
        synchronise()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
