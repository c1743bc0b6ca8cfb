"""CMA, IMC and LMI alone, forward and backward, against the textbook's: time and peak memory from 64 to 2,048 pairs.

    python -m benchmarks.losses [--batches '[64, 128, 256, 512, 1024, 2048]' --repeats 3]

Features of 256, 16 regions and 24 tokens a sample, a queue of 65,536. The textbook's LMI tensor has
batch x parts x (1 + batch x parts) logits; where a few of those do not fit, it is left out.
"""

import ctypes
import gc
import statistics
import time
from dataclasses import asdict, dataclass

import jsonargparse
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import device, ratio, save, slope
from benchmarks.sides import PeakMemory, Side, Sides
from benchmarks.textbook.losses import cross_modal, intra_modal, local_global
from tcl.losses.cma import cross_modal_alignment, expected_candidates
from tcl.losses.imc import intra_modal_contrast
from tcl.losses.lmi import local_mutual_information

EMBED_DIM, REGIONS, TOKENS, ALPHA = 256, 16, 24, 0.4
LOSSES = ("contrast", "lmi")


@dataclass
class Options:
    """What a side is built from."""

    queue: int = 65536


@dataclass
class Features:
    """What the losses of B pairs are made from; of both modalities, unit vectors."""

    image: Tensor
    text: Tensor
    teacher_image: Tensor
    teacher_text: Tensor
    regions: Tensor
    tokens: Tensor
    image_queue: Tensor
    text_queue: Tensor
    temperature: Tensor


def random_features(B: int, queue: int) -> Features:
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=generator), dim=-1).to(device())

    student, teacher = unit(2, B, EMBED_DIM).requires_grad_(), unit(2, B, EMBED_DIM)
    locals_ = unit(B, REGIONS, EMBED_DIM), unit(B, TOKENS, EMBED_DIM)
    queues = unit(2, queue, EMBED_DIM)
    temperature = torch.tensor([0.07], device=device()).requires_grad_()
    return Features(*student, *teacher, *locals_, *queues, temperature)


def our_losses(x: Features, which: str) -> Tensor:
    """The sum of CMA and IMC ("contrast"), or of both LMI losses."""
    if which == "lmi":
        image = local_mutual_information(x.image, x.regions, x.temperature)
        return image + local_mutual_information(x.text, x.tokens, x.temperature)
    images, texts = (x.teacher_image, x.image_queue), (x.teacher_text, x.text_queue)
    tau = x.temperature.detach()
    i2t = expected_candidates(x.teacher_image, texts, x.teacher_text, tau, ALPHA)
    t2i = expected_candidates(x.teacher_text, images, x.teacher_image, tau, ALPHA)
    return (
        cross_modal_alignment(x.image, i2t, texts, x.temperature)
        + cross_modal_alignment(x.text, t2i, images, x.temperature)
        + intra_modal_contrast(x.image, x.teacher_image, images, x.temperature)
        + intra_modal_contrast(x.text, x.teacher_text, texts, x.temperature)
    )


def textbook_losses(x: Features, which: str) -> Tensor:
    """As `our_losses`."""
    if which == "lmi":
        return local_global(x.image, x.regions, x.temperature) + local_global(x.text, x.tokens, x.temperature)
    images, texts = torch.cat([x.teacher_image, x.image_queue]).T, torch.cat([x.teacher_text, x.text_queue]).T
    tau = x.temperature.detach()
    return (
        cross_modal(x.image @ texts / x.temperature, x.teacher_image @ texts / tau, ALPHA)
        + cross_modal(x.text @ images / x.temperature, x.teacher_text @ images / tau, ALPHA)
        + intra_modal(x.image @ images / x.temperature)
        + intra_modal(x.text @ texts / x.temperature)
    )


def our_side(options: Options) -> Side:
    return _side(our_losses, options)


def textbook_side(options: Options) -> Side:
    return _side(textbook_losses, options)


SIDES = {"textbook": textbook_side, "ours": our_side}


def _side(losses, options: Options) -> Side:
    def side(command: str) -> tuple[float, float, int]:
        which, B = command.split()
        x = random_features(int(B), options.queue)
        gc.collect()
        if not torch.cuda.is_available():
            ctypes.CDLL(None).malloc_trim(0)  # what an earlier, larger batch left would hide this one's peak
        memory, started = PeakMemory(), time.perf_counter()
        loss = losses(x, which)
        loss.backward()
        value = loss.item()
        return time.perf_counter() - started, value, memory.bytes()

    return side


def textbook_lmi_bytes(B: int) -> int:
    """Of the logits, their log-softmax and the two gradients, for the text's parts."""
    return 4 * 4 * B * TOKENS * (1 + B * TOKENS)


def compare(sides: Sides, which: str, B: int, repeats: int, textbook: bool = True) -> dict:
    """A row: seconds (median), bytes and value of each side, their ratio and difference. textbook: it fits."""
    names = list(SIDES) if textbook else ["ours"]
    found: dict[str, list] = {name: [] for name in names}
    for _ in range(repeats + 1):
        for name in names:
            found[name].append(sides.ask(name, f"{which} {B}"))
    row = {"losses": which, "batch": B}
    for name in names:
        seconds, values, peaks = zip(*found[name][1:], strict=True)
        row[name] = {"seconds": statistics.median(seconds), "bytes": max(peaks), "value": values[-1]}
    if textbook:
        seconds = {name: [one[0] for one in found[name][1:]] for name in names}
        row["ratio"] = ratio(seconds, "textbook", "ours")
        row["difference"] = abs(row["ours"]["value"] / row["textbook"]["value"] - 1)
    return row


def main(batches: list[int] = [64, 128, 256, 512, 1024, 2048], repeats: int = 3, queue: int = 65536) -> None:  # noqa: B006
    """batches: pairs in a batch, ascending."""
    rows = []
    room = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 8 * 2**30
    with Sides(SIDES, Options(queue)) as sides:
        for B in batches:
            for which in LOSSES:
                fits = which == "contrast" or textbook_lmi_bytes(B) < room
                rows.append(compare(sides, which, B, repeats, fits))
                _print(rows[-1])
    slopes = {}
    for which in LOSSES:
        ours = [row for row in rows if row["losses"] == which]
        sizes = [row["batch"] for row in ours]
        grows = {name: slope(sizes, [row["ours"][name] for row in ours]) for name in ("seconds", "bytes")}
        slopes[which] = grows
        print(f"{which}: ours grows with batch^{grows['seconds']:.2f} in time, ^{grows['bytes']:.2f} in memory")
    print(save("losses", {"options": asdict(Options(queue)), "rows": rows, "slopes": slopes}))


def _print(row: dict) -> None:
    ours, textbook = row["ours"], row.get("textbook")
    line = f"{row['losses']:9s} B {row['batch']:5d}  ours {ours['seconds']:7.3f} s {ours['bytes'] / 2**20:8.0f} MiB"
    if textbook:
        line += f"  textbook {textbook['seconds']:7.3f} s {textbook['bytes'] / 2**20:8.0f} MiB"
        line += f"  {row['ratio']['median']:.2f}x ({row['ratio']['least']:.2f} to {row['ratio']['most']:.2f})"
        line += f"  same to {row['difference']:.1e}"
    print(line, flush=True)


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
