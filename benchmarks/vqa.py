"""Ranking a closed answer list against the plain repetition of each question, same weights, same run, same answers.

    python -m benchmarks.vqa [--questions 32 --answers 3128 --k 128 --width 192 --repeats 5]

Random weights and questions; three answers in four have one token, the others two or three, and the plain side pads all
to the longest, as the published code does. Prints a table and writes benchmarks/results/.
"""

from dataclasses import asdict, dataclass

import jsonargparse
import torch
from torch import Tensor

from benchmarks.measure import device, interleaved, print_sides, ratio, save
from benchmarks.pretraining_models import model_of_width
from benchmarks.textbook.vqa import rank_by_repetition
from tcl.evaluation.answering import AnswerList, rank_answers
from tcl.models.answer_decoder import answer_decoder_from
from tcl.models.encoders import build_encoders

VOCABULARY, CLS, SEP = 30522, 101, 102


@dataclass
class Options:
    """What is ranked, and by what."""

    questions: int = 32
    answers: int = 3128
    k: int = 128
    width: int = 192
    """Of the six decoder layers."""
    question_tokens: int = 10
    """Of every question, [CLS] included."""
    pass_tokens: int = 2048


def random_answers(count: int) -> tuple[Tensor, Tensor]:
    """Ids [count, longest] with [CLS] and [SEP], and lengths [count]."""
    words = 1 + (torch.rand(count) > 0.75).long() + (torch.rand(count) > 0.93).long()
    lengths = words + 2
    places = torch.arange(int(lengths.max()))
    ids = torch.randint(1000, VOCABULARY, (count, len(places)))
    ids[:, 0] = CLS
    # All begin differently: of answers that begin alike the two sides may cut off different ones.
    ids[:, 1] = 1000 + torch.randperm(VOCABULARY - 1000)[:count]
    ids[torch.arange(count), lengths - 1] = SEP
    return ids * (places < lengths[:, None]), lengths


@torch.no_grad()
def measure(options: Options, repeats: int) -> dict:
    """Seconds, ratios to the plain side, and whether the answers are the same."""
    torch.manual_seed(0)
    model = model_of_width(options.width, image_size=32, depth=1)
    decoder = answer_decoder_from(build_encoders(model, VOCABULARY, pad_id=0), layers=None).eval().to(device())
    ids, lengths = (tensor.to(device()) for tensor in random_answers(options.answers))
    mask = (torch.arange(ids.shape[1], device=device()) < lengths[:, None]).long()
    states = torch.randn(options.questions, options.question_tokens, options.width, device=device())
    question_mask = torch.ones(states.shape[:2], device=device())
    found = {}

    def plain() -> None:
        found["plain"] = rank_by_repetition(decoder, states, question_mask, ids, mask, options.k)

    def ours() -> None:
        keys_values = decoder.question_keys_values(states, question_mask)
        found["ours"] = rank_answers(decoder, keys_values, AnswerList(ids, lengths), options.k, options.pass_tokens)

    seconds = interleaved({"plain": plain, "ours": ours}, repeats)
    return {
        "seconds": seconds,
        "ratios": {name: ratio(seconds, "plain", name) for name in seconds},
        "same_answers": bool(found["plain"][0][:, 0].equal(found["ours"][0][:, 0])),
        "largest_difference": float((found["plain"][1] - found["ours"][1]).abs().max()),
    }


def main(options: Options, repeats: int) -> None:
    """Measure, print, save."""
    found = measure(options, repeats)
    print(f"ranking {options.answers:,} answers for {options.questions} questions, k {options.k}")
    print_sides(found["seconds"], found["ratios"])
    same, difference = found["same_answers"], found["largest_difference"]
    print(f"  same best answers: {same}; largest difference of a probability: {difference:.1e}")
    print(save("vqa", {"options": asdict(options)} | found))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_class_arguments(Options, as_group=False)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = vars(parser.parse_args())
    repeats = arguments.pop("repeats")
    main(Options(**arguments), repeats)
