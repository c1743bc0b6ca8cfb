"""Annotation files with splits and with questions: what make_shards turns them into, and what it refuses."""

import json
from pathlib import Path

import pytest
import webdataset as wds
from data_files import encode, noise

from tcl.annotations.read_rows import read_rows
from tcl.commands.one_line import end_with_one_line
from tcl.commands.shards import main
from tcl.errors import InputError

JPEG = encode(noise(0))


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def write_lines(path: Path, items: list) -> Path:
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items))
    return path


def made(tmp_path: Path, structure: str, annotations: Path, images: list[str], *options: str) -> tuple[list, list]:
    """What the command leaves where these images are there: the JSON of the samples, and the skipped rows."""
    for name in images:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(JPEG)
    places = {"from": structure, "annotations": annotations, "images": tmp_path / "images", "out": tmp_path / "out"}
    given = [part for name, value in places.items() for part in (f"--{name}", str(value))]
    end_with_one_line(main, [*given, "--workers", "1", *options])
    shards = sorted(str(shard) for shard in (tmp_path / "out").glob("*.tar"))
    samples = list(wds.WebDataset(shards, shardshuffle=False))
    assert all(sample["jpg"] == JPEG for sample in samples)
    skipped = json.loads((tmp_path / "out" / "report.json").read_text())["skipped"]
    return [json.loads(sample["json"]) for sample in samples], [tuple(row.values()) for row in skipped]


KARPATHY = {
    "dataset": "coco",
    "images": [
        {"split": "train", "filename": "a.jpg", "filepath": "train2014", "cocoid": 9, "imgid": 0}
        | {"sentences": [{"raw": "a dog", "tokens": ["a", "dog"]}, {"raw": " "}, {"raw": "the dog"}]},
        {"split": "val", "filename": "b.jpg", "cocoid": 8, "imgid": 1, "sentences": [{"raw": "a cat"}]},
        {"split": "restval", "filename": "c.jpg", "imgid": 2, "sentences": [{"raw": "a bird"}]},
        {"split": "train", "filename": "d.jpg", "cocoid": 9, "imgid": 3, "sentences": [{"raw": "again"}]},
        {"split": "train", "filename": "e.jpg", "cocoid": 4, "sentences": []},
        {"split": "train", "filename": "e.jpg", "cocoid": 4, "sentences": [{"raw": "usable"}]},
        {"split": "train", "filename": "f.jpg", "cocoid": 5},
        {"split": "train", "filename": "f.jpg", "cocoid": 6, "sentences": [{"raw": 5}]},
        {"split": "train", "filename": "f.jpg", "cocoid": 7, "sentences": [{"tokens": ["x"]}]},
        {"split": "train", "cocoid": 10, "sentences": [{"raw": "x"}]},
        {"split": "train", "filename": "f.jpg", "sentences": [{"raw": "x"}]},
        {"filename": "f.jpg", "cocoid": 11, "sentences": [{"raw": "x"}]},
        "no image",
        {"split": "test", "filename": "t.jpg", "cocoid": "t", "sentences": [{"raw": "x"}]},
    ],
}


def test_karpathy(tmp_path, capsys):
    annotations = write_json(tmp_path / "dataset.json", KARPATHY)
    images = ["train2014/a.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"]
    samples, skipped = made(tmp_path, "karpathy", annotations, images, "--split", "train,restval")
    assert samples == [
        {"captions": ["a dog", "the dog"], "image": "train2014/a.jpg", "image_id": 9},
        {"captions": ["a bird"], "image": "c.jpg", "image_id": 2},
        {"captions": ["usable"], "image": "e.jpg", "image_id": 4},
    ]
    assert skipped == [
        ("image 3", "d.jpg", "duplicate image id"),
        ("image 4", "e.jpg", "empty caption"),
        ("image 6", "f.jpg", "empty caption"),
        ("image 7", "f.jpg", "caption in JSON is not text"),
        ("image 8", "f.jpg", "empty caption"),
        ("image 9", None, 'no "image"'),
        ("image 10", "f.jpg", 'no "cocoid" or "imgid"'),
        ("image 11", None, 'no "split"'),
        ("image 12", None, 'no "split"'),
    ]
    table = capsys.readouterr().out
    assert "         1  duplicate image id\n" in table and "1  blank captions dropped" in table


def test_one_karpathy_split(tmp_path):
    annotations = write_json(tmp_path / "dataset.json", KARPATHY)
    usable = [row.image for row in read_rows("karpathy", annotations, split=" val ") if row.problem is None]
    assert usable == ["b.jpg"]


def test_vqa(tmp_path):
    types = {"question_type": "what", "answer_type": "other"}
    good = {"question_id": 5, "image": "sub/a.jpg", "question": "What is it?", "answers": ["dog", "", "a dog", "dog"]}
    named = {"question_id": "5", "image": "b.jpg", "question": "Où?", "answers": ["là"]} | types
    repaired = {**good, "question_id": 6}
    bad = [
        (good, "duplicate question_id"),
        ({**good, "question_id": 6, "question": " \t"}, "empty question"),
        ({**good, "question": None}, "empty question"),
        ({**good, "question": ["x"]}, "question is not text"),
        ({**good, "answers": []}, "no answers"),
        ({**good, "answers": ["", " "]}, "no answers"),
        ({key: good[key] for key in ("question_id", "image", "question")}, "no answers"),
        ({**good, "answers": "dog"}, "answers are not a list of texts"),
        ({**good, "answers": ["dog", 2]}, "answers are not a list of texts"),
        ({**good, "question_id": ""}, 'no "question_id"'),
        ({**good, "question_id": True}, 'no "question_id"'),
        ({**good, "question_id": [5]}, 'no "question_id"'),
        ({**good, "question_type": 3}, "question_type or answer_type is not text"),
        ({**good, "image": ""}, 'no "image"'),
        ([good], 'no "image"'),
        ('{"question_id": 7', "line is not JSON"),
        ({**good, "question_id": 7, "image": "gone.jpg"}, "missing image file"),
    ]
    without = {key: good[key] for key in ("question", "answers", "image")}
    lines = [good, named, *(item for item, _ in bad), repaired | {"question_type": None}, without]
    annotations = write_lines(tmp_path / "train.jsonl", lines)
    samples, skipped = made(tmp_path, "vqa", annotations, ["sub/a.jpg", "b.jpg"])
    assert samples == [good, named, repaired, without]
    assert [(where, cause) for where, _, cause in skipped] == [
        (f"line {i}", cause) for i, (_, cause) in enumerate(bad, start=3)
    ]


QUESTIONS = {
    "data_type": "mscoco",
    "questions": [
        {"image_id": 42, "question": "Is it red?", "question_id": 42000},
        {"image_id": 7, "question": "How many?", "question_id": 7001},
        {"image_id": 7, "question": "Which?", "question_id": 7002},
        {"image_id": 42, "question": "Is it red again?", "question_id": 42000},
        {"image_id": "42", "question": "Why?", "question_id": 42003},
        {"image_id": 7, "question": "Who?", "question_id": 7004},
        {"image_id": 7, "question": "Huh?"},
        "no question",
    ],
}
TEN = ["yes", "no", "no", "yes", "maybe", "yes", "yes", "yes", "red", "yes"]
ANNOTATIONS = {
    "annotations": [
        {"question_id": 7001, "question_type": "how many", "answer_type": "number", "answers": [{"answer": "2"}]},
        {"question_id": 42000, "question_type": "is it", "answer_type": "yes/no", "multiple_choice_answer": "yes"}
        | {"answers": [{"answer": text, "answer_id": i} for i, text in enumerate(TEN, start=1)]},
        {"question_id": 99, "answers": [{"answer": "x"}]},
        {"question_id": 7001, "answers": [{"answer": "x"}]},
        {"question_id": 7004, "answers": [{"answer": "x"}, "y"]},
        5,
    ]
}


def test_vqa_v2(tmp_path):
    questions = write_json(tmp_path / "questions.json", QUESTIONS)
    answers = write_json(tmp_path / "answers.json", ANNOTATIONS)
    images = ["COCO_train2014_000000000042.jpg", "COCO_train2014_000000000007.jpg"]
    samples, skipped = made(tmp_path, "vqa_v2", questions, images, "--answers", str(answers))
    assert samples == [
        {"question": "Is it red?", "answers": TEN, "question_id": 42000, "image": images[0]}
        | {"question_type": "is it", "answer_type": "yes/no"},
        {"question": "How many?", "answers": ["2"], "question_id": 7001, "image": images[1]}
        | {"question_type": "how many", "answer_type": "number"},
    ]
    assert skipped == [
        ("question 2", images[1], "no answers"),
        ("question 3", images[0], "duplicate question_id"),
        ("question 4", None, 'no "image_id"'),
        ("question 5", images[1], "answers are not a list of texts"),
        ("question 6", images[1], 'no "question_id"'),
        ("question 7", None, 'no "image_id"'),
        ("annotation 2", None, "annotation of no question in the file"),
        ("annotation 3", None, "duplicate question_id"),
        ("annotation 5", None, "annotation of no question in the file"),
    ]


def test_vqa_v2_without_answers(tmp_path):
    questions = write_json(tmp_path / "questions.json", {"questions": QUESTIONS["questions"][:2]})
    template = "test/{image_id:03d}.jpg"
    samples, skipped = made(tmp_path, "vqa_v2", questions, ["test/042.jpg", "test/007.jpg"], "--image_name", template)
    assert samples == [
        {"question": "Is it red?", "answers": [], "question_id": 42000, "image": "test/042.jpg"},
        {"question": "How many?", "answers": [], "question_id": 7001, "image": "test/007.jpg"},
    ]
    assert skipped == []


GENOME = [
    {
        "id": 10,
        "qas": [
            {"qa_id": 986, "question": "What color?", "answer": "Green.", "image_id": 10, "a_objects": []},
            {"qa_id": 987, "question": "Where?", "answer": "", "image_id": 10},
            {"qa_id": 988, "question": "Where?", "image_id": 10},
            {"qa_id": 986, "question": "Again?", "answer": "Yes.", "image_id": 10},
            {"question": "Which?", "answer": "This.", "image_id": 10},
            {"qa_id": 989, "question": "", "answer": "This.", "image_id": 10},
            {"qa_id": 990, "question": "Which?", "answer": "This.", "image_id": "10"},
            {"qa_id": 991, "question": "Which?", "answer": {"a": 1}, "image_id": 10},
            7,
        ],
    },
    {"id": 11},
    None,
    {"id": 3, "qas": [{"qa_id": 1, "question": "Who?", "answer": "A man."}]},
]


def test_vg_qa(tmp_path):
    annotations = write_json(tmp_path / "question_answers.json", GENOME)
    samples, skipped = made(tmp_path, "vg_qa", annotations, ["10.jpg", "3.jpg"])
    assert samples == [
        {"question": "What color?", "answers": ["Green."], "question_id": 986, "image": "10.jpg"},
        {"question": "Who?", "answers": ["A man."], "question_id": 1, "image": "3.jpg"},
    ]
    assert skipped == [
        ("image 0 qa 1", "10.jpg", "no answers"),
        ("image 0 qa 2", "10.jpg", "no answers"),
        ("image 0 qa 3", "10.jpg", "duplicate question_id"),
        ("image 0 qa 4", "10.jpg", 'no "qa_id"'),
        ("image 0 qa 5", "10.jpg", "empty question"),
        ("image 0 qa 6", None, 'no "image_id"'),
        ("image 0 qa 7", "10.jpg", "answers are not a list of texts"),
        ("image 0 qa 8", "10.jpg", 'no "qa_id"'),
        ("image 1", None, 'no "qas"'),
        ("image 2", None, 'no "qas"'),
    ]


def test_vg_qa_image_name(tmp_path):
    annotations = write_json(tmp_path / "question_answers.json", GENOME)
    rows = read_rows("vg_qa", annotations, image_name="VG_100K/{}.jpg")
    assert [row.image for row in rows if row.problem is None] == ["VG_100K/10.jpg", "VG_100K/3.jpg"]


@pytest.mark.parametrize(
    "structure, options, content",
    [
        ("karpathy", {"split": "train,restval"}, json.dumps(KARPATHY)),
        ("vqa", {}, json.dumps({"question_id": 5, "image": "a", "question": "b", "answers": ["c"]}) + "\n"),
        ("vqa_v2", {}, json.dumps(QUESTIONS)),
        ("vg_qa", {}, json.dumps(GENOME)),
    ],
)
def test_reading_twice_gives_the_same_rows(tmp_path, structure, options, content):
    (tmp_path / "file").write_text(content)
    once, again = (list(read_rows(structure, tmp_path / "file", **options)) for _ in range(2))
    assert once == again and len(once) > 0


SPLIT = {"split": "train"}


@pytest.mark.parametrize(
    "structure, options, content, message",
    [
        ("karpathy", SPLIT, "", "annotations: .* is empty; give a karpathy file"),
        ("karpathy", SPLIT, "{", "annotations: .* is not JSON"),
        ("karpathy", SPLIT, "[]", 'no list "images" with "split"'),
        ("karpathy", SPLIT, '{"images": 5}', 'no list "images" with "split"'),
        ("karpathy", SPLIT, '{"images": [{"id": 1}], "annotations": []}', 'no list "images" with "split"'),
        ("karpathy", {}, json.dumps(KARPATHY), "split: none given; --from karpathy needs one"),
        ("karpathy", {"split": "dev"}, json.dumps(KARPATHY), "split: 'dev' is .*accepted: train, val, restval, test"),
        ("karpathy", {"split": "train,"}, json.dumps(KARPATHY), "split: '' is not in"),
        ("vqa", {}, "\n", "annotations: .* is empty; give a vqa file"),
        ("vqa", {}, json.dumps(QUESTIONS), "is one JSON object, not a row per line; is it --from vqa_v2"),
        ("vqa", {}, json.dumps(QUESTIONS, indent=1), "is it --from vqa_v2"),
        ("vqa", {}, json.dumps(GENOME), "starts with a list, not with a row; is it --from vg_qa"),
        ("vqa", SPLIT, "{}", "split: 'train' means nothing to --from vqa; it is for karpathy and refcoco alone"),
        ("coco", {"image_name": "{}.jpg"}, "{}", "image_name: .* for vqa, vqa_v2, vg_qa, refcoco and snli_ve alone"),
        ("coco", SPLIT, "{}", "split: 'train' means nothing to --from coco"),
        ("vg_qa", {"answers": Path("answers.json")}, "[]", "answers: 'answers.json' .* for vqa_v2 alone"),
        ("vqa_v2", {}, json.dumps(ANNOTATIONS), 'no list "questions"; give the VQA v2 file of questions'),
        ("vqa_v2", {}, json.dumps(GENOME), 'no list "questions"'),
        ("vqa_v2", {"image_name": "a.jpg"}, json.dumps(QUESTIONS), "image_name: 'a.jpg' gives no name per image"),
        ("vqa_v2", {"image_name": "%012d.jpg"}, json.dumps(QUESTIONS), "image_name: '%012d.jpg' gives no name"),
        ("vqa_v2", {"image_name": ""}, json.dumps(QUESTIONS), "image_name: '' gives no name"),
        ("vqa_v2", {"image_name": "{:x"}, json.dumps(QUESTIONS), "image_name: '{:x' gives no name"),
        ("vg_qa", {"image_name": "{id}.jpg"}, json.dumps(GENOME), "image_name: '{id}.jpg' gives no name"),
        ("vg_qa", {"image_name": "{}/{}"}, json.dumps(GENOME), "image_name: '{}/{}' gives no name"),
        ("vg_qa", {}, json.dumps(QUESTIONS), "holds no list of images; give Visual Genome's question_answers.json"),
    ],
)
def test_bad_annotations_and_options(tmp_path, structure, options, content, message):
    (tmp_path / "file").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_rows(structure, tmp_path / "file", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("structure, options", [("karpathy", SPLIT), ("vqa", {}), ("vqa_v2", {}), ("vg_qa", {})])
def test_annotations_that_are_not_there(tmp_path, structure, options):
    with pytest.raises(InputError, match=r"annotations: .*gone cannot be read \(No such file"):
        read_rows(structure, tmp_path / "gone", **options)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "answers: .*answers.json cannot be read"),
        ("", "answers: .*answers.json is empty"),
        ("{", "answers: .*answers.json is not JSON"),
        (json.dumps(QUESTIONS), 'answers: .*answers.json has no list "annotations"'),
    ],
)
def test_bad_answers(tmp_path, content, message):
    questions = write_json(tmp_path / "questions.json", QUESTIONS)
    if content is not None:
        (tmp_path / "answers.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_rows("vqa_v2", questions, answers=tmp_path / "answers.json")


def test_answers_are_not_overwritten(tmp_path, capsys):
    questions = write_json(tmp_path / "questions.json", QUESTIONS)
    (tmp_path / "out").mkdir()
    answers = write_json(tmp_path / "out" / "answers.json", ANNOTATIONS)
    with pytest.raises(SystemExit):
        made(tmp_path, "vqa_v2", questions, ["a.jpg"], "--answers", str(answers), "--overwrite")
    assert f"would replace {answers}" in capsys.readouterr().err
    assert answers.exists()


def test_a_caption_row_may_hold_lists_of_other_things(tmp_path):
    """Such a line is a row, although whole files in other structures have lists of these names."""
    line = {"image": "a.jpg", "caption": "x", "annotations": [1], "questions": []}
    rows = read_rows("jsonl", write_lines(tmp_path / "file", [line]))
    assert [(row.where, row.problem) for row in rows] == [("line 1", None)]


SNLI_VE = [
    {"Flickr30K_ID": "36979", "sentence1": "a man", "sentence2": "A dog.", "gold_label": "neutral", "captionID": "x"},
    {"Flickr30K_ID": "36979", "sentence2": "A cat.", "gold_label": "-"},
    {"image": "a.jpg", "hypothesis": "two dogs", "label": "entailment", "premise": "dogs", "source": "cad"},
    {"image": "a.jpg", "hypothesis": " ", "label": "entailment"},
    {"image": "a.jpg", "label": "entailment"},
    {"hypothesis": "no image", "label": "entailment"},
    {"image": "nowhere.jpg", "hypothesis": "a dog", "label": "contradiction"},
]


def test_snli_ve(tmp_path):
    samples, skipped = made(tmp_path, "snli_ve", write_lines(tmp_path / "a.jsonl", SNLI_VE), ["36979.jpg", "a.jpg"])
    assert samples == [
        {"hypothesis": "A dog.", "label": "neutral", "image": "36979.jpg"},
        {"hypothesis": "two dogs", "label": "entailment", "image": "a.jpg"},
    ]
    assert skipped == [
        ("line 2", "36979.jpg", "label is none of contradiction, neutral, entailment"),
        ("line 4", "a.jpg", 'no "hypothesis" or "sentence2"'),
        ("line 5", "a.jpg", 'no "hypothesis" or "sentence2"'),
        ("line 6", None, 'no "image"'),
        ("line 7", "nowhere.jpg", "missing image file"),
    ]


def test_lists_of_entailment_name_images_by_number(tmp_path):
    rows = write_json(tmp_path / "ve.json", [{"image": "47", "sentence": "a dog", "label": "contradiction"}])
    samples, skipped = made(tmp_path, "snli_ve", rows, ["x_47.jpg"], "--image_name", "x_{}.jpg")
    assert samples == [{"hypothesis": "a dog", "label": "contradiction", "image": "x_47.jpg"}] and not skipped


NLVR2 = [
    {"identifier": "train-10171-0-3", "directory": 65, "sentence": "Two dogs.", "label": "True", "left_url": "x"},
    {"identifier": "dev-850-2-0", "sentence": "A dog.", "label": "false"},
    {"images": ["l.png", "r.png"], "sentence": "a cat", "label": "False", "identifier": "dev-1-0-2", "group": "dev-1"},
    {"images": ["l.png"], "sentence": "one image", "label": "True", "identifier": "dev-1-0-1"},
    {"images": ["l.png", "gone.png"], "sentence": "a cat", "label": "True"},
    {"images": ["l.png", "r.png"], "sentence": "a cat", "label": "maybe"},
    {"images": ["l.png", "r.png"], "sentence": "", "label": "True"},
    {"identifier": "10171", "sentence": "of no form", "label": "True"},
]


def test_nlvr2(tmp_path):
    """Two images a sample, side by side in the tar, where the official archives have them or where the row says."""
    places = [f"{place}-img{i}.png" for place in ("train/65/train-10171-0", "dev/dev-850-2") for i in range(2)]
    for name in [*places, "l.png", "r.png"]:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(JPEG + name.encode())
    annotations = write_lines(tmp_path / "train.json", NLVR2)
    arguments = ["--from", "nlvr2", "--annotations", str(annotations), "--images", str(tmp_path / "images")]
    end_with_one_line(main, [*arguments, "--out", str(tmp_path / "out"), "--workers", "1"])
    found = list(wds.WebDataset(str(tmp_path / "out" / "000000.tar"), shardshuffle=False))
    assert [json.loads(sample["json"]) for sample in found] == [
        {"sentence": "Two dogs.", "label": "True", "identifier": "train-10171-0-3", "images": places[:2]},
        {"sentence": "A dog.", "label": "False", "identifier": "dev-850-2-0", "images": places[2:]},
        {
            "sentence": "a cat",
            "label": "False",
            "identifier": "dev-1-0-2",
            "group": "dev-1",
            "images": ["l.png", "r.png"],
        },
    ]
    for sample in found:
        left, right = json.loads(sample["json"])["images"]
        assert (sample["left.jpg"], sample["right.jpg"]) == (JPEG + left.encode(), JPEG + right.encode())
    skipped = json.loads((tmp_path / "out" / "report.json").read_text())["skipped"]
    assert [tuple(row.values()) for row in skipped] == [
        ("line 4", None, "not two images"),
        ("line 5", "gone.png", "missing image file"),
        ("line 6", "l.png", "label is neither True nor False"),
        ("line 7", "l.png", 'no "sentence"'),
        ("line 8", None, "not two images"),
    ]


@pytest.mark.parametrize(("structure", "other"), [("jsonl", "snli_ve"), ("jsonl", "nlvr2"), ("json", "nlvr2")])
def test_rows_of_statements_are_recognised(tmp_path, structure, other):
    rows = {"snli_ve": SNLI_VE, "nlvr2": NLVR2[2:3]}[other]
    path = write_json(tmp_path / "rows.json", rows)
    if structure == "json":
        (row,) = read_rows("json", path)
        assert row.problem == 'no "image"'
        return
    with pytest.raises(InputError, match=rf"use --from {other}$"):
        list(read_rows(structure, path))
