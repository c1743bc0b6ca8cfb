"""tcl.TCLForVQA against the decoder's likelihoods, question by question."""

import numpy as np
import pytest
import torch
from data_files import TOKENIZER, noise
from tiny_pretrained import tiny_vqa

from tcl import TCLForVQA
from tcl.data.texts.captions import clean_caption
from tcl.data.texts.tokenize import tokenize
from tcl.errors import InputError
from tcl.evaluation.answering import generate_answers

IMAGES = [noise(i) for i in range(5)]
QUESTIONS = ["a photo of dog?", "cat on mat", "thing number?", "a red dog", "blue mat on a cat"]
ANSWERS = ["red", "blue", "green cat", "dog", "a red mat"]


@pytest.fixture(scope="module")
def model() -> TCLForVQA:
    return tiny_vqa(batch_size=2)


@torch.no_grad()
def asked(model: TCLForVQA, image, question: str) -> list:
    ids, mask = tokenize(TOKENIZER, [clean_caption(question, 30)], 25)
    return model.student.networks.read_questions(model.transform(np.array(image))[None], ids, mask)


@torch.no_grad()
def likelihood(model: TCLForVQA, image, question: str, answer: str) -> float:
    """As the ranking weighs it: the whole answer, times its first token once more."""
    tokens = [*TOKENIZER(answer, add_special_tokens=False)["input_ids"], TOKENIZER.sep_token_id]
    ids = torch.tensor([[TOKENIZER.cls_token_id, *tokens[:-1]]])
    decoder = model.student.networks.decoder
    states, _ = decoder(ids, asked(model, image, question), torch.tensor([0]))
    log_p = decoder.logits(states)[0].log_softmax(dim=-1)
    each = [float(log_p[place, token]) for place, token in enumerate(tokens)]
    return each[0] + sum(each)


def best(model: TCLForVQA, image, question: str) -> str:
    return max(ANSWERS, key=lambda answer: likelihood(model, image, question, answer))


def test_the_most_likely_candidate_is_the_answer(model):
    expected = [best(model, *pair) for pair in zip(IMAGES, QUESTIONS, strict=True)]
    assert len(set(expected)) > 1
    assert model.answer(IMAGES, QUESTIONS, ANSWERS) == expected
    assert model.answer(IMAGES[0], QUESTIONS[0], candidates=ANSWERS) == expected[0]
    assert model.answer(IMAGES[3:], QUESTIONS[3:], iter(ANSWERS)) == expected[3:]


def test_one_image_serves_all_questions(model):
    assert model.answer(IMAGES[1], QUESTIONS, ANSWERS) == [best(model, IMAGES[1], each) for each in QUESTIONS]


def test_a_closed_list_of_the_models_own_is_ranked_and_another_one_goes_before_it():
    model = tiny_vqa(answers=ANSWERS)
    assert model.answer(IMAGES, QUESTIONS) == model.answer(IMAGES, QUESTIONS, ANSWERS)
    assert model.answer(IMAGES[0], QUESTIONS[0], ["cat"]) == "cat"


def test_a_list_that_fine_tuning_took_is_taken_as_it_is():
    """Twice in other letters, signs alone, and one that fine-tuning cuts after its 10 tokens."""
    own = ["red", "Red", "?", "dog " * 70]
    answers = tiny_vqa(answers=own).answer(IMAGES, QUESTIONS)
    assert set(answers) <= set(own)
    whole, cut = (tiny_vqa(answers=["red", "dog " * words]).answer(IMAGES, QUESTIONS) for words in (70, 10))
    assert [answer.split()[0] for answer in whole] == [answer.split()[0] for answer in cut]


def test_without_any_list_the_decoder_writes(model):
    expected = []
    for image, question in zip(IMAGES, QUESTIONS, strict=True):
        questions = asked(model, image, question)
        (tokens,) = generate_answers(
            model.student.networks.decoder, questions, beams=3, max_tokens=10, cls_id=2, sep_id=TOKENIZER.sep_token_id
        )
        expected.append(" ".join(t for t in TOKENIZER.convert_ids_to_tokens(tokens) if not t.startswith("[")))
    assert any(expected)
    assert model.answer(IMAGES, QUESTIONS) == expected


@pytest.mark.parametrize(
    ("images", "questions", "candidates", "said"),
    [
        (IMAGES[:2], QUESTIONS, None, "image: 2 for 5 questions; give one for all, or one for each"),
        (IMAGES[:2], QUESTIONS[0], None, "image: 2 for 1 questions; give one for all, or one for each"),
        (IMAGES[0], "", None, r"question\[0\]: '' has no words; give a text"),
        (IMAGES[0], "dog " * 10_000, None, r"question\[0\]: 10,000 words; .*"),
        (IMAGES[0], QUESTIONS[0], [], "candidates: there are none; give at least one"),
        (IMAGES[0], QUESTIONS[0], ["red", "Red "], "candidates: 'Red' is there twice; give each answer once"),
        (IMAGES[0], QUESTIONS[0], ["red", " "], r"candidates\[1\]: ' ' has no words; give a text"),
        (IMAGES[0], QUESTIONS[0], ["red", "\u200b"], r"candidates\[1\]: '\\u200b' has no words; give a text"),
        (
            IMAGES[0],
            QUESTIONS[0],
            ["red", "dog " * 65],
            r"candidates\[1\]: more than 64 tokens; give answers of a few words",
        ),
        ([*IMAGES[:4], "none.jpg"], QUESTIONS, ANSWERS, r"image\[4\]: 'none\.jpg' is no file; .*"),
    ],
)
def test_questions_that_cannot_be_asked(model, images, questions, candidates, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        model.answer(images, questions, candidates)


def test_a_saved_model_answers_the_same_from_its_own_list(tmp_path):
    model = tiny_vqa(answers=ANSWERS)
    model.save_pretrained(tmp_path / "export")
    loaded = TCLForVQA.from_pretrained(tmp_path / "export", precision="fp32", device="cpu")
    assert loaded.pretrained.answers == ANSWERS
    assert loaded.answer(IMAGES, QUESTIONS) == model.answer(IMAGES, QUESTIONS)
