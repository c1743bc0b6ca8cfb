"""The two-stage scorer against the plain loop over queries, same weights, same run, same recalls.

    python -m benchmarks.retrieval [--images 200 --captions 1000 --k 64 --width 192 --repeats 3]

Random weights and images; the lengths of captions are drawn like Flickr8k's (mean 12.5 tokens, standard deviation 4),
and the plain side pads all of them to 30 tokens, as the published evaluation does. Sides, each a process of its own:
the plain loop in fp32, ours in fp32, ours in the precision that evaluation chooses here. Only the second stage is
timed: all sides start from the same embeddings. Prints a table and writes benchmarks/results/.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import jsonargparse
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.measure import device, print_sides, ratio, save, synchronise
from benchmarks.pretraining_models import model_of_width
from benchmarks.sides import Side, Sides
from benchmarks.textbook.retrieval import rerank_query_by_query
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.evaluation.evaluate_retrieval import candidate_logits
from tcl.evaluation.recall import rank_metrics
from tcl.models.encoders import build_encoders
from tcl.objectives.tcl import TCLStudent
from tcl.precision import mixed_precision
from tcl.search.candidates import rank_again, rank_by_embedding, relevance
from tcl.search.match_pairs import read_texts

VOCABULARY, MAX_TOKENS = 30522, 30


@dataclass
class Options:
    """What is ranked, and by what."""

    images: int = 200
    captions: int = 1000
    k: int = 64
    width: int = 192
    """Of ViT-*/16 (12 layers) and BERT (12 layers, 6 of them fusion)."""
    image_size: int = 256
    pass_tokens: int = 8192


class KeptTokens:
    """Image tokens that are all in memory, as the plain side has them."""

    def __init__(self, tokens: Tensor):
        self.tokens = tokens

    def encode(self, indices):
        return ((index, self.tokens[index]) for index in indices)


class Corpus:
    """Images and captions as one model sees them, and the candidates of each."""

    @torch.no_grad()
    def __init__(self, options: Options):
        torch.manual_seed(0)
        size = options.image_size
        model = model_of_width(options.width, size)
        self.student = TCLStudent(build_encoders(model, VOCABULARY, pad_id=0), ObjectiveConfig()).eval().to(device())
        encoders = self.student.encoders
        lengths = (12.5 + 4 * torch.randn(options.captions)).round().long().clamp(5, MAX_TOKENS)
        mask = (torch.arange(MAX_TOKENS) < lengths[:, None]).long()
        self.ids = (torch.randint(5, VOCABULARY, (options.captions, MAX_TOKENS)) * mask).to(device())
        self.mask = mask.to(device())
        images = torch.randn(options.images, 3, size, size).split(25)
        self.tokens = torch.cat([encoders.image_encoder(some.to(device())) for some in images])
        self.text_tokens = encoders.text_encoder(self.ids, self.mask)
        image_features = encoders.project_image(self.tokens[:, 0])
        text_features = encoders.project_text(self.text_tokens[:, 0])
        self.similarity = image_features @ text_features.T
        captions = torch.arange(options.captions)
        of_images = captions * options.images // options.captions
        self.captions_of = relevance(of_images, captions, options.images)
        self.images_of = relevance(captions, of_images, options.captions)
        self.by_image = rank_by_embedding(image_features.cpu(), text_features.cpu(), self.captions_of, options.k)
        self.by_caption = rank_by_embedding(text_features.cpu(), image_features.cpu(), self.images_of, options.k)

    def recalls(self, image_scores: Tensor, caption_scores: Tensor) -> dict[str, float]:
        """From the scores of the candidates, [I, k] and [C, k]."""
        by_image = rank_again(self.by_image, image_scores, self.captions_of, len(self.ids))
        by_caption = rank_again(self.by_caption, caption_scores, self.images_of, len(self.tokens))
        return rank_metrics(by_image.ranks, by_caption.ranks)


def plain_side(options: Options) -> Side:
    corpus = Corpus(options)

    def rerank() -> tuple[Tensor, Tensor]:
        scores_i2t, scores_t2i = rerank_query_by_query(
            corpus.student, corpus.tokens, corpus.text_tokens, corpus.mask, corpus.similarity, options.k
        )
        of_images = scores_i2t.cpu().gather(1, corpus.by_image.candidates)
        return of_images, scores_t2i.cpu().gather(1, corpus.by_caption.candidates)

    return _answer(corpus, rerank)


def fp32_side(options: Options) -> Side:
    return _our_side(options, "fp32")


def default_side(options: Options) -> Side:
    return _our_side(options, "auto")


def _our_side(options: Options, precision: str) -> Side:
    corpus = Corpus(options)
    accelerator = Accelerator(cpu=device().type == "cpu", mixed_precision=mixed_precision(precision, device()))

    @torch.no_grad()
    def rerank() -> tuple[Tensor, Tensor]:
        _, states = read_texts(
            corpus.student.encoders,
            corpus.ids,
            corpus.mask,
            pass_tokens=options.pass_tokens,
            autocast=accelerator.autocast,
        )
        candidates = corpus.by_image.candidates.to(device()), corpus.by_caption.candidates.to(device())
        found = candidate_logits(
            accelerator, corpus.student, KeptTokens(corpus.tokens), states, *candidates, options.pass_tokens
        )
        return found[0][..., 1].cpu(), found[1][..., 1].cpu()

    return _answer(corpus, rerank)


SIDES = {"plain": plain_side, "fp32": fp32_side, "default": default_side}


def _answer(corpus: Corpus, rerank: Callable[[], tuple[Tensor, Tensor]]) -> Side:
    found = None

    def side(command: str):
        nonlocal found
        if command == "found":
            return corpus.recalls(*found), [scores.tolist() for scores in found]
        started = time.perf_counter()
        found = rerank()
        synchronise()
        return time.perf_counter() - started

    return side


def measure(options: Options, repeats: int) -> dict:
    """Seconds, ratios to the plain side, recalls and differences; in each of `repeats` rounds every side ranks once."""
    with Sides(SIDES, options) as sides:
        seconds = sides.in_turn("rerank", repeats)
        found = {name: sides.ask(name, "found") for name in SIDES}
    recalls = {name: recall for name, (recall, _) in found.items()}
    speed = {name: ratio(seconds, "plain", name) for name in SIDES}
    scores = {name: torch.cat([torch.tensor(part).flatten() for part in parts]) for name, (_, parts) in found.items()}
    difference = {name: float((scores[name] - scores["plain"]).abs().max()) for name in SIDES}
    return {"seconds": seconds, "ratios": speed, "recalls": recalls, "largest_difference": difference}


def main(options: Options, repeats: int) -> None:
    """Measure, print, save."""
    found = measure(options, repeats)
    print(f"re-ranking {options.images} images x {options.captions:,} captions, k {options.k}, width {options.width}")
    print_sides(found["seconds"], found["ratios"])
    for name in ("fp32", "default"):
        same = "the same recalls" if found["recalls"][name] == found["recalls"]["plain"] else "other recalls"
        print(f"  {name}: {same}; largest difference of a score {found['largest_difference'][name]:.1e}")
    print(save("retrieval", {"options": asdict(options)} | found))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_class_arguments(Options, as_group=False)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = vars(parser.parse_args())
    repeats = arguments.pop("repeats")
    main(Options(**arguments), repeats)
