"""Kendall's tau of a model's scores with the human judgements of Flickr8k, from files in its formats."""

import json

import pytest
from data_files import encode, noise
from tiny_pretrained import tiny_tcl

from experiments import judgements
from tcl.errors import InputError

CAPTIONS = {"a.jpg#0": "a red dog", "b.jpg#1": "two cats", "b.jpg#2": "a green sea", "c.jpg#0": "dogs in a tree"}


@pytest.fixture
def files(tmp_path):
    """Two images of three that were judged, captions, experts' and the crowd's."""
    for i, name in enumerate(("a.jpg", "b.jpg")):
        (tmp_path / name).write_bytes(encode(noise(i)))
    (tmp_path / "captions").write_text("".join(f"{name}\t{text}\n" for name, text in CAPTIONS.items()))
    rows = [("a.jpg", "b.jpg#1", 1, 2, 2), ("a.jpg", "a.jpg#0", 4, 4, 4), ("a.jpg", "b.jpg#2", 3, 1, 4)]
    rows += [("b.jpg", "a.jpg#0", 2, 2, 1), ("c.jpg", "a.jpg#0", 1, 1, 1), ("b.jpg", "c.jpg#0", 1, 4, 3)]
    (tmp_path / "expert").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    crowd = [("a.jpg", "c.jpg#0", 1 / 3, 1, 2), ("b.jpg", "c.jpg#0", 0, 0, 3), ("b.jpg", "a.jpg#0", 1, 3, 0)]
    (tmp_path / "crowd").write_text("".join("\t".join(map(str, row)) + "\n" for row in crowd))
    return tmp_path


def taus(scores: list[float], grades: list[float]) -> tuple[float, float]:
    """tau-b and tau-c by their formulas, pair by pair (Kendall 1945, Stuart 1953)."""
    pairs = [(i, j) for i in range(len(scores)) for j in range(i)]
    signs = [
        ((scores[i] > scores[j]) - (scores[i] < scores[j]), (grades[i] > grades[j]) - (grades[i] < grades[j]))
        for i, j in pairs
    ]
    concordant = sum(x * y for x, y in signs)
    untied = [sum(1 for sign in signs if sign[k] != 0) for k in (0, 1)]
    m, n = min(len(set(scores)), len(set(grades))), len(scores)
    return concordant / (untied[0] * untied[1]) ** 0.5, 2 * concordant / (n**2 * (m - 1) / m)


@pytest.mark.parametrize("by", ["expert", "crowd"])
def test_tau_is_that_of_the_formula(by, files, monkeypatch, capsys):
    model = tiny_tcl()
    monkeypatch.setattr(judgements, "load_model", lambda run: model)
    options = ["--run", "here", "--images", str(files), "--captions", str(files / "captions")]
    judgements.main([*options, f"--{by}", str(files / by)])
    found = json.loads(capsys.readouterr().out)
    judged = {
        "expert": [
            ("a.jpg", "b.jpg#1", 1, 2, 2),
            ("a.jpg", "b.jpg#2", 3, 1, 4),
            ("b.jpg", "a.jpg#0", 2, 2, 1),
            ("b.jpg", "c.jpg#0", 1, 4, 3),
        ],
        "crowd": [("a.jpg", "c.jpg#0", 1 / 3), ("b.jpg", "c.jpg#0", 0), ("b.jpg", "a.jpg#0", 1)],
    }[by]
    scores, cosines, grades = [], [], []
    for image, caption, *given in judged:
        text = CAPTIONS[caption]
        cosine = float((model.encode_image(files / image) @ model.encode_text(text).T).item())
        scores += [float(model.match(files / image, text)[0])] * len(given)
        cosines += [cosine] * len(given)
        grades += given
    for name, values in (("itm", scores), ("embeddings", cosines)):
        b, c = taus(values, grades)
        assert (found[f"{name}_tau_b"], found[f"{name}_tau_c"]) == pytest.approx((b, c), abs=1e-9)
    assert (found["judged_by"], found["pairs"], found["grades"]) == (by, len(judged), len(grades))
    assert found["left_out"] == (1 if by == "expert" else 0)  # c.jpg, which is not there


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        (
            "expert",
            "a.jpg\tb.jpg#1\t1\t2",
            r"expert:7: 'a.jpg b.jpg#1 1 2' is no judgement; accepted: image, caption id",
        ),
        ("expert", "a.jpg\tb.jpg#1\t1\t2\t5", r"expert:7: .* is no judgement; .* three grades from 1 to 4"),
        ("expert", "a.jpg\tb.jpg#1\t1\tgood\t4", r"expert:7: .* is no judgement"),
        ("expert", "a.jpg\tb.jpg#9\t1\t2\t4", r"--captions: has no 'b.jpg#9'; give the file"),
        ("crowd", "a.jpg\tb.jpg#1\t2\t1\t0", r"crowd:4: .* is no judgement; .* share of yes"),
        ("captions", "a red dog", r"captions:5: 'a red dog' is no line of a caption; accepted: IMAGE#N, text"),
    ],
)
def test_bad_lines_are_named(name, line, message, files, monkeypatch):
    monkeypatch.setattr(judgements, "load_model", lambda run: tiny_tcl())
    with (files / name).open("a") as file:
        file.write(line + "\n")
    options = ["--run", "here", "--images", str(files), "--captions", str(files / "captions")]
    with pytest.raises(InputError, match=message):
        judgements.main([*options, "--expert", str(files / "expert"), "--crowd", str(files / "crowd")])


def test_what_is_missing_is_named(files, tmp_path, monkeypatch):
    monkeypatch.setattr(judgements, "load_model", lambda run: tiny_tcl())
    options = ["--run", "here", "--captions", str(files / "captions")]
    with pytest.raises(InputError, match="--expert, --crowd: neither is given"):
        judgements.main([*options, "--images", str(files)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"--images: .*empty has none of the 3 images that were judged"):
        judgements.main([*options, "--images", str(tmp_path / "empty"), "--expert", str(files / "expert")])
    with pytest.raises(InputError, match="nothing: cannot be read"):
        judgements.main([*options, "--images", str(files), "--expert", str(tmp_path / "nothing")])
