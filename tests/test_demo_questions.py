"""Demo questions: each has one right answer, found again here from its words and the scene as JSON."""

import json
import re
from collections import Counter
from dataclasses import asdict
from random import Random

import pytest
import webdataset as wds

from tcl.data.texts.captions import clean_caption
from tools.demo_questions import ANSWERS, draw_question
from tools.demo_scenes import draw_scene, held_out_pairs
from tools.make_demo_data import captions, make_demo_data

ROWS, COLUMNS = ["top", "middle", "bottom"], ["left", "center", "right"]
MEANING = {
    **dict.fromkeys(["red", "green", "blue", "yellow", "purple", "orange", "cyan", "brown"], "colour"),
    **dict.fromkeys(["circle", "square", "triangle", "star", "cross", "ring"], "shape"),
    **dict.fromkeys(["small", "large"], "size"),
    **dict.fromkeys(ROWS, "row"),
    **dict.fromkeys(COLUMNS, "column"),
}
"""Of each word that says something of an object, the field it speaks of."""
ASKED = {
    "what color is the": "color",
    "what shape is": "shape",
    "where is the": "place",
    "how big is the": "size",
    "how many": "count",
    "is there an": "yes_no",
    "is there a": "yes_no",
}
KINDS = {*ASKED.values(), "background"}
COUNT = 3000


def answer(text: str, scene: dict) -> tuple[str, str]:
    """(kind, the one right answer); fails where there is none, or more than one, or a word that means nothing."""
    if text == "what color is the background":
        return "background", scene["background"]
    start = next(start for start in ASKED if text.startswith(f"{start} "))
    kind = ASKED[start]
    words = text.removeprefix(f"{start} ").split()
    if kind == "count":
        assert words[-2:] == ["are", "there"]
        words = [re.sub("es$" if word == "crosses" else "s$", "", word) for word in words[:-2]]
    told = [word for word in words if word not in ("shape", "and")]
    if kind == "yes_no":
        assert (start == "is there an") == (told[0] == "orange")

    def has(thing: dict, word: str) -> bool:
        value = thing[MEANING[word]]
        return word == (ROWS[value] if word in ROWS else COLUMNS[value] if word in COLUMNS else value)

    meant = [thing for thing in scene["objects"] if all(has(thing, word) for word in told)]
    if kind == "count":
        return kind, ["none", "one", "two"][len(meant)]
    if kind == "yes_no":
        return kind, "yes" if meant else "no"
    assert len(meant) == 1, f"{text!r} does not say which of {scene['objects']}"
    (thing,) = meant
    values = {"color": thing["colour"], "shape": thing["shape"], "size": thing["size"]}
    values["place"] = f"{ROWS[thing['row']]} {COLUMNS[thing['column']]}"
    assert values[kind] not in text, "the answer is in the question"
    return kind, values[kind]


def as_json(split: str, index: int) -> dict:
    return json.loads(json.dumps(asdict(draw_scene(0, split, index))))


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_question_has_the_one_right_answer(split):
    for index in range(COUNT):
        question = draw_question(0, split, index)
        assert (question.kind, question.answer) == answer(question.text, as_json(split, index))


def test_the_check_refuses_what_has_two_answers():
    circles = {"shape": "circle", "size": "small", "row": 0}
    two = [{**circles, "colour": "red", "column": 0}, {**circles, "colour": "blue", "column": 2}]
    scene = {"background": "white", "objects": two}
    assert answer("what color is the circle top right", scene) == ("color", "blue")
    with pytest.raises(AssertionError, match="does not say which"):
        answer("what color is the circle", scene)


@pytest.mark.parametrize("split", ["train", "val"])
def test_kinds_are_as_frequent_and_yes_as_no(split):
    questions = [draw_question(0, split, index) for index in range(COUNT)]
    kinds = Counter(question.kind for question in questions)
    assert set(kinds) == KINDS
    assert all(0.8 < count / (COUNT / len(KINDS)) < 1.2 for count in kinds.values())
    yes_no = [question for question in questions if question.kind == "yes_no"]
    for wording in (r"^is there an? \w+ \w+$", r"^is there an? (small|large)", r"(left|center|right)$"):
        said = [question.answer for question in yes_no if re.search(wording, question.text)]
        assert len(said) > 100 and 0.4 < said.count("yes") / len(said) < 0.6, wording
    numbers = Counter(question.answer for question in questions if question.kind == "count")
    assert min(numbers[number] for number in ("none", "one", "two")) > 50


def test_training_never_names_a_held_out_pair_and_validation_does():
    held_out = [f"{colour} {shape}" for shape, colour in held_out_pairs(0)]

    def named(split: str, index: int) -> bool:
        return any(pair in draw_question(0, split, index).text for pair in held_out)

    assert not any(named("train", index) for index in range(COUNT))
    assert sum(named("val", index) for index in range(500)) > 10


def test_shards_of_questions(tmp_path):
    counts = {"train": 40, "val": 20, "vqa_train": 95, "vqa_val": 20}
    make_demo_data(tmp_path / "out", **counts, image_size=32, workers=1)
    read = {
        name: list(wds.WebDataset(f"{tmp_path}/out/{name}/000000.tar", shardshuffle=False, empty_check=False))
        for name in counts
    }
    possible = (tmp_path / "out" / "answers.txt").read_text().splitlines()
    assert possible == sorted(set(possible)) == list(ANSWERS)
    for split in ("train", "val"):
        scenes = {sample["__key__"]: sample for sample in read[split]}
        asked = read[f"vqa_{split}"]
        assert len(asked) == counts[f"vqa_{split}"]
        for index, sample in enumerate(asked):
            assert sample["__key__"] == f"{index:09d}"
            captioned = scenes[f"{index % counts[split]:09d}"]
            text = json.loads(sample["json"])
            kind, right = answer(text["question"], json.loads(captioned["json"])["scene"])
            assert text == {
                "question": text["question"],
                "answers": [right],
                "question_id": index,
                "question_type": kind,
            }
            assert right in possible
            assert sample["png"] == captioned["png"]


def test_every_possible_answer_occurs_and_cleaning_changes_nothing():
    questions = [draw_question(0, "train", index) for index in range(COUNT)]
    assert {question.answer for question in questions} == set(ANSWERS)
    for text in (*ANSWERS, *(question.text for question in questions)):
        assert clean_caption(text, max_words=30) == text


def test_a_vocabulary_learned_from_captions_can_spell_questions_and_answers():
    """It has pieces for the letters of captions alone; a word with another letter would be unknown as a whole."""
    letters = {letter for i in range(200) for text in captions(draw_scene(0, "train", i), Random(i)) for letter in text}
    used = {letter for index in range(COUNT) for letter in draw_question(0, "train", index).text}
    assert used | set("".join(ANSWERS)) <= letters
