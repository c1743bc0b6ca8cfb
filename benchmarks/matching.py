"""Pairs a second of a query by text: images encoded, or their tokens read from the disk, all of them or few.

    OMP_NUM_THREADS=1 python -m benchmarks.matching [--candidates 64 --text_tokens 12 --repeats 5]

A ViT-S/16 at 256 pixels (257 tokens of 384) and a BERT of the same width with 6 of its 12 layers in the fusion encoder,
random weights, in the precision that `tcl.TCL` takes here. A query is one text, from its ids to the ITM scores of
`candidates` images: of images as pixels (decoding is not counted), and of tokens in files of `images` each, in fp16 and
int8. Sides take turns; a row of ratios is against stored full tokens in fp16 and against encoding the images.
"""

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonargparse
import torch

from benchmarks.measure import interleaved, ratio, save
from benchmarks.pretraining_models import VOCABULARY, WIDTHS, model_of_width
from tcl.config.retrieval_eval import EvalConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.tokens.stored_tokens import Storage, store_tokens
from tcl.data.tokens.token_file import TokenFile, TokenWriter, open_tokens
from tcl.inference.hardware import Hardware, find_hardware
from tcl.inference.match import JointEncoder, match_several, read_all_texts
from tcl.models.activation_memory import tokens_of_image
from tcl.models.encoders import build_encoders
from tcl.objectives.tcl import TCLStudent
from tcl.search.match_stored import match_stored

ENCODED, FULL = "images encoded", "all tokens, fp16"
FEW: tuple[int, ...] = (64, 32, 16, 8)
STORAGES: tuple[Storage, ...] = ("fp16", "int8")
MODEL = "0" * 32
"""What the files say of the model, which is random."""


@dataclass
class Options:
    """What is matched."""

    candidates: int = 64
    text_tokens: int = 12
    """Of the query, [CLS] included: the mean of Flickr8k's captions."""
    images: int = 256
    """In each file."""
    size: str = "S"
    """Of the ViT and the BERT, as benchmarks.pretraining_models names them."""
    image_size: int = 256


class Query:
    """A model, a text and candidates of it."""

    def __init__(self, options: Options, hardware: Hardware):
        torch.manual_seed(0)
        model = model_of_width(WIDTHS[options.size], options.image_size)
        student = TCLStudent(build_encoders(model, VOCABULARY, pad_id=0), ObjectiveConfig()).eval().to(hardware.device)
        self.encoders = student.encoders
        self.joint = JointEncoder(self.encoders.text_encoder, self.encoders.fusion_encoder, student.itm_head)
        self.hardware = hardware
        self.ids = torch.randint(5, VOCABULARY, (1, options.text_tokens))
        self.images = torch.randperm(options.images)[: options.candidates].sort().values
        self.pixels = torch.randn(options.candidates, 3, options.image_size, options.image_size)

    def of_pixels(self) -> torch.Tensor:
        """ITM logits [candidates, 2]."""
        states = read_all_texts(self.joint, self.ids, torch.ones_like(self.ids), self.hardware)
        text = [torch.zeros(1, dtype=torch.int64, device=self.hardware.device)] * len(self.pixels)
        return torch.cat(list(match_several(self.joint, self._encoded(), text, states, self.hardware)))

    def of_tokens(self, stored: TokenFile) -> torch.Tensor:
        """As above."""
        states = read_all_texts(self.joint, self.ids, torch.ones_like(self.ids), self.hardware)
        return match_stored(
            self.joint.fusion_encoder,
            self.joint.itm_head,
            stored,
            states,
            self.images,
            torch.zeros_like(self.images),
            pass_tokens=EvalConfig.pass_tokens,
            autocast=self.hardware.autocast,
        )

    @torch.no_grad()
    def _encoded(self):
        for some in self.pixels.split(32):
            with self.hardware.autocast():
                yield self.encoders.image_encoder(some.to(self.hardware.device))


def random_file(path: Path, count: int, tokens: int, width: int, storage: Storage) -> TokenFile:
    """Tokens as a last norm leaves them."""
    generator = torch.Generator().manual_seed(tokens)
    with TokenWriter(path, MODEL) as out:
        for _ in range(count):
            out.append(store_tokens(torch.randn(1, tokens, width, generator=generator), storage))
    return open_tokens(path, MODEL)


def sides_of(query: Query, options: Options, folder: Path) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """What to time, by name, and the bytes that an image takes in each file."""
    encoder = query.encoders.image_encoder
    sides: dict[str, Callable[[], object]] = {ENCODED: query.of_pixels}
    sizes = {}
    for tokens in (tokens_of_image(encoder), *FEW):
        for storage in STORAGES:
            name = f"{'all' if tokens == tokens_of_image(encoder) else tokens} tokens, {storage}"
            file = random_file(folder / name, options.images, tokens, encoder.width, storage)
            sizes[name] = file.header.row.itemsize
            sides[name] = lambda file=file: query.of_tokens(file)
    return sides, sizes


def main(options: Options, repeats: int) -> None:
    """Measure, print, save."""
    hardware = find_hardware(None, "auto")
    query = Query(options, hardware)
    with tempfile.TemporaryDirectory() as folder:
        sides, sizes = sides_of(query, options, Path(folder))
        interleaved({name: side for name, side in sides.items() if name != ENCODED}, 1)
        seconds = interleaved(sides, repeats)
    precision = "bf16" if hardware.bf16 else "fp32"
    print(
        f"{options.candidates} candidates of a text of {options.text_tokens} tokens, ViT-{options.size}/16, {precision}"
    )
    rows = {}
    for name, values in seconds.items():
        rows[name] = {
            "bytes": sizes.get(name),
            "pairs_per_second": options.candidates / statistics.median(values),
            "times_full": ratio(seconds, FULL, name),
            "times_encoded": ratio(seconds, ENCODED, name),
        }
        full, encoded = rows[name]["times_full"]["median"], rows[name]["times_encoded"]["median"]
        print(
            f"  {name:18s} {sizes.get(name, 0):9,d} bytes {rows[name]['pairs_per_second']:8.1f} pairs/s "
            f"{full:6.2f} x full {encoded:6.1f} x encoded",
            flush=True,
        )
    print(save("matching", {"options": asdict(options), "precision": precision, "seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_class_arguments(Options, as_group=False)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = vars(parser.parse_args())
    repeats = arguments.pop("repeats")
    main(Options(**arguments), repeats)
