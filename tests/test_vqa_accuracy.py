"""VQA accuracy, worked out by hand from the published rules."""

import json

import pytest

from tcl.errors import InputError
from tcl.evaluation.vqa_accuracy import (
    CONTRACTIONS,
    AnsweredQuestion,
    accuracy_report,
    exact_match,
    normalise_answer,
    vqa_accuracy,
    write_submission,
)
from tcl.evaluation.vqa_baseline import AnnotatedQuestion, commonest_answer_baseline


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Yes", "yes"),
        ("  two\twords\nhere ", "2 words here"),
        ("yes.", "yes"),
        ("3.5", "3.5"),
        ("costs .5", "costs .5"),
        ("5.", "5"),
        ("U.S.A.", "usa"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),  # a comma between digits: every mark goes without leaving a space
        ("red,white", "red white"),
        ("red, white", "red white"),
        ("t-shirt", "t shirt"),
        ("t- shirt-top", "t shirttop"),  # one "-" is beside a space, so both go
        ("rock/roll", "rock roll"),
        ("rock / roll", "rock roll"),
        ("what?!", "what"),
        ('["x"]', "x"),
        ("10:30", "10:30"),  # no mark of the official list
        ("man's", "man's"),
        ("The man and a dog on an island", "man and dog on island"),
        ("the", ""),
        ("another", "another"),
        ("none", "0"),
        ("Zero one two three four five", "0 1 2 3 4 5"),
        ("six seven eight nine TEN eleven", "6 7 8 9 10 eleven"),
        ("someone", "someone"),
        ("dont", "don't"),
        ("Dont know", "don't know"),
        ("don't", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("4 oclock", "4 o'clock"),
        ("its", "its"),
        ("well", "well"),
    ],
)
def test_normalise_answer(text, expected):
    assert normalise_answer(text) == expected


def test_normalising_contractions_twice_changes_nothing():
    assert all(normalise_answer(word) == word and "'" in word for word in CONTRACTIONS.values())
    assert not set(CONTRACTIONS) & set(CONTRACTIONS.values())


def others(count: int) -> list[str]:
    return [f"other {i}" for i in range(count)]


# m matches of 10: leaving out a match leaves m - 1 (m times), leaving out another leaves m (10 - m times).
# m = 1: (1 * 0 + 9 * 1/3) / 10 = 0.3; m = 2: (2 * 1/3 + 8 * 2/3) / 10 = 0.6; m = 3: (3 * 2/3 + 7 * 1) / 10 = 0.9.
@pytest.mark.parametrize("matches, expected", [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1), (10, 1)])
def test_ten_annotators(matches, expected):
    assert vqa_accuracy("dog", ["dog"] * matches + others(10 - matches)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "answer, annotators, expected",
    [
        ("Two.", ["two", "2", "the two", *others(7)], 0.9),  # normalised, since annotators differ
        ("t shirt", ["t-shirt"] * 4 + ["shirt"] * 6, 1),
        ("t shirt", ["t-shirt"] * 10, 0),  # not normalised, since all agree
        (" t-shirt\n", ["t-shirt", "t-shirt "] * 5, 1),  # but spaces around are no difference
        ("Yes", ["yes"] * 10, 0),
        ("dog", ["dog", "cat"], 1 / 6),  # (0 + 1/3) / 2
        ("dog", ["dog", "dog"], 1 / 3),
        ("dog", ["dog", "dog", "cat"], 4 / 9),  # (1/3 + 1/3 + 2/3) / 3
        ("dog", ["dog"] * 3 + ["cat"], 3 / 4),  # (3 * 2/3 + 1) / 4
        ("A Dog!", ["dog"], 1),
        ("cat", ["dog"], 0),
    ],
)
def test_vqa_accuracy(answer, annotators, expected):
    assert vqa_accuracy(answer, annotators) == pytest.approx(expected, abs=1e-12)


def test_no_annotators():
    with pytest.raises(InputError, match=r"annotators: \[\] has no answer"):
        vqa_accuracy("dog", [])


def test_exact_match():
    assert exact_match("One dog", ["cat", "1 dog."]) == 1.0
    assert exact_match("dogs", ["dog", "cat"]) == 0.0
    assert exact_match("dog", []) == 0.0


def test_accuracy_report():
    results = [
        AnsweredQuestion(1, "yes", ["yes"] * 3 + ["no"] * 7, "is the", "yes/no"),  # 0.9
        AnsweredQuestion(2, "no", ["yes"] * 9 + ["no"], "is the", "yes/no"),  # 0.3
        AnsweredQuestion(3, "2", ["2"] * 10, "how many", "number"),  # 1
        AnsweredQuestion("four", "dog", ["cat"], None, "other"),  # 0
        AnsweredQuestion("4", "dog", ["dog"]),  # 1
    ]
    report = accuracy_report(results, vqa_accuracy)
    assert report == pytest.approx(
        {
            "accuracy": 64,
            "accuracy/answer_type/number": 100,
            "accuracy/answer_type/other": 0,
            "accuracy/answer_type/yes/no": 60,
            "accuracy/question_type/how many": 100,
            "accuracy/question_type/is the": 60,
        }
    )
    assert next(iter(report)) == "accuracy"
    assert accuracy_report(results[::-1], vqa_accuracy) == pytest.approx(report)


@pytest.mark.parametrize(
    "results, message",
    [
        ([], "results: none given"),
        ([AnsweredQuestion(7, "x", [])], "question_id: 7 has no annotators"),
        ([AnsweredQuestion(7, "x", ["x"]), AnsweredQuestion(7, "y", ["x"])], "question_id: 7 is there twice"),
    ],
)
def test_results_that_cannot_be_scored(results, message):
    with pytest.raises(InputError, match=message):
        accuracy_report(results, vqa_accuracy)


def test_submission(tmp_path):
    results = [AnsweredQuestion(9, "Überall", []), AnsweredQuestion(2, "2 dogs", ["x"], "how many", "number")]
    write_submission(tmp_path / "out.json", results)
    assert json.loads((tmp_path / "out.json").read_text()) == [
        {"question_id": 9, "answer": "Überall"},
        {"question_id": 2, "answer": "2 dogs"},
    ]


def test_submission_that_cannot_be_written(tmp_path):
    result = AnsweredQuestion(9, "x", [])
    with pytest.raises(InputError, match="question_id: 9 is there twice"):
        write_submission(tmp_path / "out.json", [result, result])
    assert not (tmp_path / "out.json").exists()
    for path in (tmp_path / "nowhere" / "out.json", tmp_path):
        with pytest.raises(InputError, match=f"path: {path} cannot be written"):
            write_submission(path, [result])


def test_commonest_answer_baseline():
    train = [
        AnnotatedQuestion("Is it red?", ["no", "yes"], "is it"),
        AnnotatedQuestion("Is it blue?", ["yes"], "is it"),
        AnnotatedQuestion("HOW many dogs?", ["3", "2"]),
        AnnotatedQuestion("how Many cats are there?", ["2"]),
        AnnotatedQuestion("What is this?", ["dog"] * 4),
        AnnotatedQuestion("Is it here?", ["maybe"] * 2),  # no type: apart from the type "is it"
    ]
    dev = [
        AnnotatedQuestion("Is it green?", ["yes"] * 3 + ["no"] * 7, "is it"),  # yes: 0.9, among the answers
        AnnotatedQuestion("How many mice?", ["two"]),  # 2: right
        AnnotatedQuestion("How much?", ["2"]),  # an unknown type: dog, the commonest of all
        AnnotatedQuestion("What is that?", ["cat", "dog"]),  # dog: 1/6, among the answers
    ]
    measured = commonest_answer_baseline(train, dev)
    assert measured == pytest.approx({"exact_match": 75, "accuracy": 100 * (0.9 + 1 + 0 + 1 / 6) / 4})


def test_baseline_takes_the_first_of_equally_common_answers():
    train = [AnnotatedQuestion("What is it?", ["dog", "cat"]), AnnotatedQuestion("What is that?", ["cat", "dog"])]
    assert commonest_answer_baseline(train, [AnnotatedQuestion("What is?", ["dog"])])["exact_match"] == 100
    assert commonest_answer_baseline(train, [AnnotatedQuestion("What is?", ["cat"])])["exact_match"] == 0


def test_baseline_needs_questions_with_answers():
    good, bad = [AnnotatedQuestion("What?", ["x"])], [AnnotatedQuestion("Where?", [])]
    for train, dev, message in (
        ([], good, "train: no questions"),
        (good, [], "dev: no questions"),
        (bad, good, r"train: 'Where\?' has no answers"),
        (good, good + bad, r"dev: 'Where\?' has no answers"),
    ):
        with pytest.raises(InputError, match=message):
            commonest_answer_baseline(train, dev)
