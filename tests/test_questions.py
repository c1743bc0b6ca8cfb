"""Questions and answers from samples to batches and evaluation sets."""

import json
import random
from pathlib import Path

import pytest
import torch
from data_files import NO_AUGMENT, TOKENIZER, config, encode, noise, write_tar

from tcl.data.feed import question_reader
from tcl.data.feed.question_reader import QuestionReader
from tcl.data.images.pixel_views import PixelViews
from tcl.data.images.whole_image import CORRUPT_IMAGE
from tcl.data.sets import question_set as questions
from tcl.data.sets.collect_answers import make_answer_list
from tcl.data.sets.question_set import load_question_set
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts import question
from tcl.data.texts.question import tokenize_answers
from tcl.data.texts.sample_texts import NOT_JSON
from tcl.errors import InputError
from tools.easy_vqa_captions import easy_vqa_captions

PAD, CLS, SEP = TOKENIZER.pad_token_id, TOKENIZER.cls_token_id, TOKENIZER.sep_token_id


def reader(max_answer_tokens: int = 4) -> QuestionReader:
    data = config(augment=NO_AUGMENT)
    return QuestionReader(data, PixelViews(data, 16), TOKENIZER, max_answer_tokens)


def fields(image: bytes | None = None, **said) -> dict[str, bytes]:
    return {"png": encode(noise(0), "PNG") if image is None else image, "json": json.dumps(said).encode()}


def read(**said):
    return reader().read(fields(**said), "0.tar/x", random.Random(0))


def ids(text: str) -> list[int]:
    return TOKENIZER.convert_tokens_to_ids(text.split())


def test_distinct_answers_are_weighted_by_their_share_of_the_annotators():
    examples = [
        read(question="A photo of what?", answers=["dog"] * 7 + ["Dog", "cat", "red dog"]),
        read(question="number", answers=["blue"]),
    ]
    batch = reader().batch(examples, seed=0)
    assert batch.inputs["text"].ids.tolist() == [
        [CLS, *ids("a photo of"), TOKENIZER.unk_token_id],
        [CLS, *ids("number"), PAD, PAD, PAD],
    ]
    assert batch.inputs["text"].mask.tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    assert batch.inputs["answer"].ids.tolist() == [
        [CLS, *ids("dog"), SEP, PAD],
        [CLS, *ids("cat"), SEP, PAD],
        [CLS, *ids("red dog"), SEP],
        [CLS, *ids("blue"), SEP, PAD],
    ]
    torch.testing.assert_close(batch.inputs["answer"].weights, torch.tensor([0.8, 0.1, 0.1, 1.0]))
    assert batch.inputs["answer"].question_index.tolist() == [0, 0, 0, 1]
    answers = batch.inputs["answer"]
    # Asked after every token that has a successor, and never after [SEP] or padding.
    assert answers.target_positions.tolist() == [0, 1, 4, 5, 8, 9, 10, 12, 13]
    assert answers.target_ids.tolist() == [
        *ids("dog"),
        SEP,
        *ids("cat"),
        SEP,
        *ids("red dog"),
        SEP,
        *ids("blue"),
        SEP,
    ]
    assert batch.inputs["image"].view.shape == (2, 3, 16, 16) and batch.keys == ["0.tar/x"] * 2


def test_long_answers_are_cut_and_still_end():
    tokens, lengths = tokenize_answers(TOKENIZER, ["red green blue dog", "cat", "red_dog"], max_tokens=2)
    assert tokens.tolist() == [[CLS, *ids("red green"), SEP], [CLS, *ids("cat"), SEP, PAD], [CLS, *ids("red dog"), SEP]]
    assert lengths.tolist() == [4, 3, 4]


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"answers": ["dog"]}, question.NO_QUESTION),
        ({"question": "?!", "answers": ["dog"]}, question.NO_QUESTION),
        ({"question": ["a"], "answers": ["dog"]}, question.NO_QUESTION),
        ({"question": "what"}, question_reader.NO_ANSWERS),
        ({"question": "what", "answers": []}, question_reader.NO_ANSWERS),
        ({"question": "what", "answers": [" "]}, question_reader.NO_ANSWERS),
        ({"question": "what", "answers": "dog"}, question.ANSWERS_NOT_TEXT),
        ({"question": "what", "answers": ["dog", 3]}, question.ANSWERS_NOT_TEXT),
        ({"question": "what", "answers": ["dog"], "question_id": [1]}, question.ODD_ID),
        ({"question": "what", "answers": ["dog"], "image": b"junk"}, CORRUPT_IMAGE),
    ],
)
def test_unusable_questions_are_skipped_by_cause(said, cause):
    with pytest.raises(BadSample, match=f"^{cause}$"):
        read(**said)


def test_half_a_surrogate_pair_is_dropped_and_blank_annotators_count_as_such():
    example = read(question="number \ud800", answers=["dog\udfff", " ", "dog"])
    assert (example.asked.question, example.asked.answers) == ("number", ("dog", " ", "dog"))
    batch = reader().batch([example], seed=0)
    assert batch.inputs["answer"].weights.tolist() == [1.0]  # blanks are nothing to learn


def test_broken_json():
    with pytest.raises(BadSample, match=NOT_JSON):
        reader().read({"png": b"", "json": b"{"}, "x", random.Random(0))


def shard(tmp_path: Path, samples: list[dict[str, bytes]], name: str = "0.tar") -> str:
    entries = [(f"{i}.{extension}", content) for i, s in enumerate(samples) for extension, content in s.items()]
    return str(write_tar(tmp_path / name, entries))


def load(pattern: str, **options):
    return load_question_set(pattern, **{"max_words": 10, "max_pixels": 10**6, **options})


def test_an_image_is_kept_once_however_many_questions_are_about_it(tmp_path):
    a, b = encode(noise(1), "PNG"), encode(noise(2), "PNG")
    samples = [
        fields(a, question="One?", answers=["x"], question_id=11, question_type="what", answer_type="other"),
        fields(b, question="two", answers=["y"], question_id=12),
        fields(a, question="three", question_id="t"),
        fields(a, question="four"),
    ]
    found = load(shard(tmp_path, samples))
    assert found.images == [a, b] and found.image_of_question == [0, 1, 0, 0]
    assert [asked.question for asked in found.questions] == ["one", "two", "three", "four"]
    assert [asked.question_id for asked in found.questions] == [11, 12, "t", "0.tar/3"]
    assert [asked.answers for asked in found.questions] == [("x",), ("y",), (), ()]
    assert (found.questions[0].question_type, found.questions[0].answer_type) == ("what", "other")
    assert len(load(shard(tmp_path, samples), max_questions=2).questions) == 2


def test_a_question_id_that_was_there_before_is_skipped_and_counted(tmp_path):
    samples = [fields(question="one", question_id=1), fields(question="two", question_id=1), fields(b"", question="x")]
    found = load(shard(tmp_path, samples))
    assert [asked.question for asked in found.questions] == ["one"]
    assert found.bad == {questions.SAME_QUESTION: 1, "empty image file": 1}


def test_a_split_without_questions(tmp_path):
    with pytest.raises(InputError, match=r"^data\.val: .* holds no usable question: missing question 1$"):
        load(shard(tmp_path, [fields(caption="a dog")]))
    with pytest.raises(InputError, match="the shards are empty"):
        load(shard(tmp_path, [], "1.tar"))


def test_the_commonest_answers_by_hand(tmp_path):
    samples = [
        fields(question="a", answers=["Yes", "yes", "no"]),
        fields(question="b", answers=["two  dogs", "no"]),
        fields(question="c", answers=["blue"]),
        fields(caption="not a question"),
    ]
    pattern = shard(tmp_path, samples)
    make_answer_list(pattern, tmp_path / "deep" / "answers.txt", size=3)
    assert (tmp_path / "deep" / "answers.txt").read_text() == "no\nyes\nblue\n"


@pytest.mark.parametrize(
    ("size", "out", "message"),
    [(0, "a.txt", "^size: 0 is not possible"), (3, "0.tar/a.txt", "^out: .*cannot be written")],
)
def test_answer_list_errors(tmp_path, size, out, message):
    pattern = shard(tmp_path, [fields(question="a", answers=["yes"])])
    with pytest.raises(InputError, match=message):
        make_answer_list(pattern, tmp_path / out, size)


def test_no_answers_to_collect(tmp_path):
    with pytest.raises(InputError, match=r"^shards: .*holds no answers"):
        make_answer_list(shard(tmp_path, [fields(caption="a dog")]), tmp_path / "a.txt")


def test_captions_from_questions_by_hand(tmp_path):
    told = [
        ("a", "what color is the shape?", "blue"),
        ("a", "is there a circle?", "no"),
        ("a", "is there not a triangle in the image?", "no"),
        ("b", "is a red shape present?", "yes"),
        ("b", "does the image not contain a green shape?", "yes"),
        ("b", "what shape is present?", "circle"),
        ("c", "what shape is present?", "circle"),
        ("c", "is no teal shape present?", "yes"),
    ]
    rows = [json.dumps({"image": f"{i}.png", "question": q, "answers": [a]}) for i, q, a in told]
    (tmp_path / "q.jsonl").write_text("\n".join(rows))
    easy_vqa_captions(tmp_path / "q.jsonl", tmp_path / "captions.jsonl")
    assert [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()] == [
        {"image": "a.png", "captions": ["blue triangle", "the triangle is blue"]},
        {"image": "b.png", "captions": ["red circle", "the circle is red"]},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("{", "cannot be read"), ("[1]", "cannot be read"), ("", "tell no picture's shape")],
)
def test_questions_that_tell_nothing(tmp_path, content, message):
    if content is not None:
        (tmp_path / "q.jsonl").write_text(content)
    with pytest.raises(InputError, match=f"^questions: .*{message}"):
        easy_vqa_captions(tmp_path / "q.jsonl", tmp_path / "captions.jsonl")
