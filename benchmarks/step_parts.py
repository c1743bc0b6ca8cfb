"""Where the time of a training step goes: each part alone, in our default precision.

    python -m benchmarks.step_parts [--size Ti --batch 64 --repeats 3]

A part of the student is its forward and backward pass, one of the teacher its forward pass. What the parts leave of the
whole step is bookkeeping and what crosses between them. Prints a table and writes benchmarks/results/.
"""

import statistics
from collections.abc import Callable
from dataclasses import asdict

import jsonargparse
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.losses import our_losses, random_features
from benchmarks.measure import device, interleaved, save
from benchmarks.pretraining_models import ALPHA, Size, build_models, fixed_negatives, random_batch
from tcl.config import OptimConfig, TrainConfig
from tcl.data.batch import to_device
from tcl.precision import mixed_precision
from tcl.training.engine import PlainEngine
from tcl.training.full_weights import full_weights
from tcl.training.host_memory import keep_freed_memory
from tcl.training.layers import prepare_layers
from tcl.training.step import train_step


def main(size: str = "Ti", batch: int = 64, repeats: int = 3) -> None:
    """size: Ti, S or B."""
    chosen = Size(size, batch)
    seconds = interleaved(_parts(chosen), repeats + 1)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    whole = medians.pop("whole step")
    print(f"parts of a step of ViT-{size}/16, {batch} pairs: {whole:.2f} s")
    for name, value in sorted(medians.items(), key=lambda item: -item[1]):
        print(f"  {name:28s} {value:7.3f} s  {value / whole:5.1%}")
    print(f"  {'the rest':28s} {whole - sum(medians.values()):7.3f} s  {1 - sum(medians.values()) / whole:5.1%}")
    print(save(f"parts-{size}-{batch}", {"options": asdict(chosen), "whole": whole, "parts": medians}))


def _parts(size: Size) -> dict[str, Callable[[], None]]:
    if device().type == "cpu":
        keep_freed_memory()
    accelerator = Accelerator(cpu=device().type == "cpu", mixed_precision=mixed_precision("auto", device()))
    student, teacher = build_models(size)
    prepare_layers(student.averaged, TrainConfig(), device(), accelerator.mixed_precision == "bf16")
    engine = PlainEngine(accelerator, student, OptimConfig())
    teacher.to(device())
    batch = to_device(random_batch(size), device())
    online, momentum, B = student.encoders, teacher.encoders, len(batch)
    features = random_features(B, size.queue)
    negatives = fixed_negatives(B, device())
    with torch.no_grad(), accelerator.autocast():
        image_tokens = online.image_encoder(batch.image)
        text_tokens, masked_tokens = student.encode_texts(batch)

    def learn(forward: Callable[[], Tensor]) -> None:
        with accelerator.autocast():
            output = forward()
        output.float().mean().backward()

    @torch.no_grad()
    def teach(forward: Callable[[], object]) -> None:
        with accelerator.autocast():
            forward()

    def fuse() -> Tensor:
        inputs = (image_tokens, text_tokens, masked_tokens)
        inputs = [tokens.detach().requires_grad_() for tokens in inputs]
        pairs, masked = student.fuse(*inputs, batch.attention_mask, negatives)
        return pairs.float().mean() + masked.float().mean()

    def teacher_fusion() -> None:
        keys_values = momentum.fusion_encoder.image_keys_values(image_tokens)
        momentum.fusion_encoder(masked_tokens, batch.attention_mask, keys_values)

    def words(networks) -> Tensor:
        return networks.predict_tokens(text_tokens, batch.mask_positions)

    def whole() -> None:
        train_step(engine, teacher, [batch], step=0, seed=0, learning_rate=1e-4, alpha=ALPHA)

    def optimise() -> None:
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        engine.step(torch.ones((), dtype=torch.bool, device=device()))

    return {
        "whole step": whole,
        "image encoder": lambda: learn(lambda: online.image_encoder(batch.image)),
        "text encoder": lambda: learn(lambda: torch.cat(student.encode_texts(batch))),
        "fusion encoder": lambda: learn(fuse),
        "MLM head": lambda: learn(lambda: words(online)),
        "CMA, IMC, LMI": lambda: (our_losses(features, "contrast") + our_losses(features, "lmi")).backward(),
        "teacher's image encoder": lambda: teach(lambda: momentum.image_encoder(batch.image_aug)),
        "teacher's text encoder": lambda: teach(
            lambda: momentum.text_encoder(batch.input_ids.repeat(2, 1), batch.attention_mask.repeat(2, 1))
        ),
        "teacher's fusion encoder": lambda: teach(teacher_fusion),
        "teacher's MLM head": lambda: teach(lambda: words(momentum).float().softmax(dim=-1)),
        "moving average": lambda: teacher.update(full_weights(student.encoders)),
        "clipping and optimiser": optimise,
    }


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
