"""Where the time of a training step goes: each part alone, in our default precision.

    python -m benchmarks.step_parts [--size Ti --batch 64 --repeats 3]

A part of the student is its forward and backward pass, one of the teacher its forward pass. What the parts leave of the
whole step is bookkeeping and what crosses between them. On a CPU, also by kinds of operations, beside how long its
products would take at the machine's best. Prints a table and writes benchmarks/results/.
"""

import statistics
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

import jsonargparse
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.losses import our_losses, random_features
from benchmarks.measure import device, interleaved, save
from benchmarks.operation_kinds import products_of, seconds_by_kind
from benchmarks.pretraining_models import ALPHA, Size, build_models, fixed_negatives, random_batch
from benchmarks.training_sides import matmul_flops
from tcl.config.optim import OptimConfig
from tcl.config.train import TrainConfig
from tcl.data.batch import Batch, to_device
from tcl.losses.mlm import masked_language_modelling
from tcl.objectives.tcl import TCLStudent
from tcl.objectives.tcl_teacher import TCLTeacher
from tcl.precision import mixed_precision
from tcl.training.engine import PlainEngine
from tcl.training.full_weights import full_weights
from tcl.training.host_memory import keep_freed_memory
from tcl.training.layers import prepare_layers
from tcl.training.step import train_step


def main(size: str = "Ti", batch: int = 64, repeats: int = 3) -> None:
    """size: Ti, S or B."""
    chosen = Size(size, batch)
    parts = _parts(chosen)
    seconds = interleaved(parts, repeats + 2)  # the first two take memory from the system
    medians = {name: statistics.median(values[2:]) for name, values in seconds.items()}
    whole = medians.pop("whole step")
    print(f"parts of a step of ViT-{size}/16, {batch} pairs: {whole:.2f} s")
    for name, value in sorted(medians.items(), key=lambda item: -item[1]):
        print(f"  {name:28s} {value:7.3f} s  {value / whole:5.1%}")
    print(f"  {'the rest':28s} {whole - sum(medians.values()):7.3f} s  {1 - sum(medians.values()) / whole:5.1%}")
    found = {"options": asdict(chosen), "whole": whole, "parts": medians}
    if device().type == "cpu":
        found["kinds"] = seconds_by_kind(parts["whole step"])
        found["products"] = {"flops": products_of(parts["whole step"]), "peak": matmul_flops(torch.bfloat16)}
        print("  " + ", ".join(f"{kind} {value:.2f} s" for kind, value in found["kinds"].items()))
    print(save(f"parts-{size}-{batch}", found))


def _parts(size: Size) -> dict[str, Callable[[], object]]:
    if device().type == "cpu":
        keep_freed_memory()
    accelerator = Accelerator(cpu=device().type == "cpu", mixed_precision=mixed_precision("auto", device()))
    student, teacher = build_models(size)
    prepare_layers(student.averaged, TrainConfig(), device(), accelerator.mixed_precision == "bf16")
    engine = PlainEngine(accelerator, student, OptimConfig())
    teacher.to(device())
    batch = to_device(random_batch(size), device())
    features = random_features(len(batch), size.queue)
    with torch.no_grad(), accelerator.autocast():
        tokens = Tokens(
            student.encoders.image_encoder(batch.inputs["image"].view),
            *student.encoders.encode_texts(batch.inputs["text"], masked=True),
        )

    def optimise() -> None:
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        engine.step(torch.ones((), dtype=torch.bool, device=device()))

    return {
        "whole step": lambda: train_step(engine, teacher, [batch], step=0, seed=0, learning_rate=1e-4, alpha=ALPHA),
        **{name: partial(_learn, accelerator, run) for name, run in _student_parts(student, batch, tokens).items()},
        "CMA, IMC, LMI": lambda: (our_losses(features, "contrast") + our_losses(features, "lmi")).backward(),
        **{name: partial(_teach, accelerator, run) for name, run in _teacher_parts(teacher, batch, tokens).items()},
        "moving average": lambda: teacher.update(full_weights(student.encoders)),
        "clipping and optimiser": optimise,
    }


class Tokens(NamedTuple):
    """What the encoders make of a batch, without gradient."""

    image: Tensor
    text: Tensor
    masked: Tensor


def _student_parts(student: TCLStudent, batch: Batch, tokens: Tokens) -> dict[str, Callable[[], Tensor]]:
    encoders, negatives, texts = student.encoders, fixed_negatives(len(batch), device()), batch.inputs["text"]

    def fuse() -> Tensor:
        inputs = [some.detach().requires_grad_() for some in tokens]
        pairs, masked = student.fuse(*inputs, texts.mask, negatives)
        return pairs.float().mean() + masked.float().mean()

    def name_words() -> Tensor:
        logits = encoders.predict_tokens(tokens.masked, texts.masked.positions)
        return masked_language_modelling(logits, texts.masked.labels, logits.detach(), ALPHA)

    return {
        "image encoder": lambda: encoders.image_encoder(batch.inputs["image"].view),
        "text encoder": lambda: torch.cat(encoders.encode_texts(texts, masked=True)),
        "fusion encoder": fuse,
        "MLM head and loss": name_words,
    }


def _teacher_parts(teacher: TCLTeacher, batch: Batch, tokens: Tokens) -> dict[str, Callable[[], object]]:
    encoders, texts = teacher.encoders, batch.inputs["text"]

    def fuse() -> None:
        keys_values = encoders.fusion_encoder.image_keys_values(tokens.image)
        encoders.fusion_encoder(tokens.masked, texts.mask, keys_values)

    return {
        "teacher's image encoder": lambda: encoders.image_encoder(batch.inputs["image"].other_view),
        "teacher's text encoder": lambda: encoders.encode_texts(texts, masked=True),
        "teacher's fusion encoder": fuse,
        "teacher's MLM head": lambda: encoders.predict_tokens(tokens.masked, texts.masked.positions),
    }


def _learn(accelerator: Accelerator, forward: Callable[[], Tensor]) -> None:
    with accelerator.autocast():
        output = forward()
    output.float().mean().backward()


@torch.no_grad()
def _teach(accelerator: Accelerator, forward: Callable[[], object]) -> None:
    with accelerator.autocast():
        forward()


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
