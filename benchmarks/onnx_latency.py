"""Latency of a query in onnxruntime against torch: same weights, same machine, same number of threads, in turn.

    python -m benchmarks.onnx_latency [--model runs/mine --candidates 16 --text_tokens 12 --repeats 20]

A query is a text: the text tower once, and the pair scorer over candidates that were encoded beforehand. The image
tower is timed beside it. Without --model it is a random ViT-S at 224 pixels with a BERT of the same width. torch runs
in fp32 and in bf16, which `tcl.TCL` takes where the hardware is fast at it; onnxruntime runs the graphs in fp32 and in
int8. Prints a table of medians and writes benchmarks/results/.
"""

import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import jsonargparse
import onnxruntime
import torch
from torch import Tensor

from benchmarks.measure import interleaved, ratio, save
from benchmarks.random_model import random_model
from tcl.exports.pretrained import Pretrained, load_pretrained
from tcl.onnx.export_graphs import export_onnx
from tcl.onnx.graphs import Graphs, graphs_of
from tcl.onnx.towers import OnnxTowers, load_onnx

SIDES = ("torch fp32", "torch bf16", "onnx fp32", "onnx int8")
Side = dict[str, Callable[[], object]]
"""One run of each graph, by its name."""


@torch.no_grad()
def main(model: str | None = None, candidates: int = 16, text_tokens: int = 12, repeats: int = 20) -> None:
    """model: an export, a run or a checkpoint; candidates: pairs that a query scores; text_tokens: of every text."""
    pretrained = random_model() if model is None else load_pretrained(model)
    inputs = random_inputs(pretrained, candidates, text_tokens)
    graphs = graphs_of(pretrained.student)
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(pretrained, Path(folder), int8=True)
        towers = [load_onnx(Path(folder), int8=int8) for int8 in (False, True)]
        sides = [
            torch_side(graphs, inputs, lambda: torch.autocast("cpu", enabled=False)),
            torch_side(graphs, inputs, lambda: torch.autocast("cpu", torch.bfloat16)),
            *(onnx_side(each, inputs) for each in towers),
        ]
        seconds = {name: time_graph(name, sides, repeats) for name in ("image", "text", "fusion")}
    seconds["query"] = {
        side: [sum(parts) for parts in zip(seconds["text"][side], seconds["fusion"][side], strict=True)]
        for side in SIDES
    }
    print(f"{model or 'a random ViT-S'}, {candidates} candidates, milliseconds (median of {repeats})")
    print(" " * 8 + "".join(f"{side:>12s}" for side in SIDES))
    for name, of_sides in seconds.items():
        medians = (1000 * statistics.median(of_sides[side]) for side in SIDES)
        print(f"  {name:6s}" + "".join(f"{median:12.2f}" for median in medians))
    options = {"model": model, "candidates": candidates, "text_tokens": text_tokens, "repeats": repeats}
    speed = {side: ratio(seconds["query"], "torch fp32", side) for side in SIDES[1:]}
    for side, times in speed.items():
        print(f"  a query in {side}: {times['median']:.2f} times as fast as in torch fp32")
    result = {
        "onnxruntime": onnxruntime.__version__,
        "options": options,
        "seconds": seconds,
        "query_times_as_fast": speed,
    }
    print(save("onnx-latency", result))


def random_inputs(pretrained: Pretrained, candidates: int, text_tokens: int) -> dict[str, tuple[Tensor, ...]]:
    """What each graph is given: an image, a text, and the tokens and mask of as many pairs as there are candidates."""
    graphs, side = graphs_of(pretrained.student), pretrained.model.image.image_size
    pixels = torch.randn(candidates, 3, side, side)
    ids = torch.randint(len(pretrained.tokenizer), (candidates, text_tokens))
    mask = torch.ones_like(ids)
    pairs = graphs.image(pixels)[0], graphs.text(ids, mask)[0], mask
    return {"image": (pixels[:1],), "text": (ids[:1], mask[:1]), "fusion": pairs}


def torch_side(
    graphs: Graphs, inputs: dict[str, tuple[Tensor, ...]], precision: Callable[[], AbstractContextManager]
) -> Side:
    """precision: gives the context of a run."""

    def run(name: str) -> object:
        with precision():
            return getattr(graphs, name)(*inputs[name])

    return {name: lambda name=name: run(name) for name in inputs}


def onnx_side(towers: OnnxTowers, inputs: dict[str, tuple[Tensor, ...]]) -> Side:
    """The same of onnxruntime, given arrays."""
    run = {"image": towers.encode_images, "text": towers.encode_texts, "fusion": towers.match}
    arrays = {name: [tensor.numpy() for tensor in tensors] for name, tensors in inputs.items()}
    return {name: lambda name=name: run[name](*arrays[name]) for name in inputs}


def time_graph(name: str, sides: list[Side], repeats: int) -> dict[str, list[float]]:
    """Seconds of each of SIDES in each round, after a round that is not counted."""
    runs = {side: of_side[name] for side, of_side in zip(SIDES, sides, strict=True)}
    interleaved(runs, 1)
    return interleaved(runs, repeats)


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
