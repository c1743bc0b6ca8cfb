"""Ranking a closed answer list against the plain repetition of each question, same weights, same run, same answers.

    python -m benchmarks.vqa [--questions 32 --answers 3128 --k 128 --width 192 --repeats 5]

Random weights and questions; three answers in four have one token, the others two or three, and the plain side pads all
to the longest, as the published code does. Prints a table and writes benchmarks/results/.
"""

import jsonargparse
import torch

from benchmarks.measure import interleaved, print_sides, ratio, save
from benchmarks.textbook.vqa import rank_by_repetition
from tcl.config import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.evaluation.answering import AnswerList, rank_answers
from tcl.models.answer_decoder import answer_decoder_from
from tcl.models.encoders import build_encoders

VOCABULARY, CLS, SEP = 30522, 101, 102


@torch.no_grad()
def main(
    questions: int = 32,
    answers: int = 3128,
    k: int = 128,
    width: int = 192,
    question_tokens: int = 10,
    pass_tokens: int = 2048,
    repeats: int = 5,
) -> None:
    """width: of the six decoder layers; question_tokens: of every question, [CLS] included."""
    torch.manual_seed(0)
    heads = width // 64
    model = ModelConfig(
        image=ImageEncoderConfig(image_size=32, overrides={"embed_dim": width, "num_heads": heads, "depth": 1}),
        text=TextEncoderConfig(
            overrides={"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width}
        ),
    )
    decoder = answer_decoder_from(build_encoders(model, VOCABULARY, pad_id=0), layers=None).eval()
    words = 1 + (torch.rand(answers) > 0.75).long() + (torch.rand(answers) > 0.93).long()
    lengths = words + 2
    places = torch.arange(int(lengths.max()))
    ids = torch.randint(1000, VOCABULARY, (answers, len(places)))
    ids[:, 0] = CLS
    # All begin differently: of answers that begin alike the two sides may cut off different ones.
    ids[:, 1] = 1000 + torch.randperm(VOCABULARY - 1000)[:answers]
    ids[torch.arange(answers), lengths - 1] = SEP
    mask = (places < lengths[:, None]).long()
    ids = ids * mask
    states, question_mask = torch.randn(questions, question_tokens, width), torch.ones(questions, question_tokens)
    found = {}

    def plain() -> None:
        found["plain"] = rank_by_repetition(decoder, states, question_mask, ids, mask, k)

    def ours() -> None:
        keys_values = decoder.question_keys_values(states, question_mask)
        found["ours"] = rank_answers(decoder, keys_values, AnswerList(ids, lengths), k, pass_tokens)

    seconds = interleaved({"plain": plain, "ours": ours}, repeats)
    same = bool(found["plain"][0][:, 0].equal(found["ours"][0][:, 0]))
    difference = float((found["plain"][1] - found["ours"][1]).abs().max())
    speed = {name: ratio(seconds, "plain", name) for name in seconds}
    print(f"ranking {answers:,} answers for {questions} questions, k {k}, width {width}")
    print_sides(seconds, speed)
    print(f"  same best answers: {same}; largest difference of a probability: {difference:.1e}")
    options = {"questions": questions, "answers": answers, "k": k, "width": width, "question_tokens": question_tokens}
    result = {"seconds": seconds, "ratios": speed, "same_answers": same, "largest_difference": difference}
    print(save("vqa", {"options": options} | result))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
