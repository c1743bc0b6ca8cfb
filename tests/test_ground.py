"""`TCL.ground` and `tcl ground`: what they find, show and refuse."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from data_files import noise
from PIL import Image
from tiny_pretrained import tiny_tcl

from tcl.commands.main import run
from tcl.errors import InputError

BOXES = [[0, 0, 20, 15], [20, 15, 20, 15], [5.5, 3.2, 30, 20]]
IMAGE = noise(0, (40, 30))


def test_the_map_is_the_published_one():
    """Over the words and [CLS]; `explain` shows the same when asked."""
    model = tiny_tcl()
    found, heat = model.ground(IMAGE, "a red dog"), model.explain(IMAGE, "a red dog")
    np.testing.assert_allclose(found.values, heat.published, rtol=1e-5)
    of_all = np.concatenate([heat.of_cls[None], heat.of_words])
    assert of_all.shape == (4, 2, 2)
    np.testing.assert_allclose(heat.published, of_all.sum(axis=0) / 4, rtol=1e-6)
    assert not np.allclose(heat.published, heat.values)


def test_without_boxes_one_is_made_from_the_map():
    found = tiny_tcl().ground(IMAGE, "a red dog")
    x, y, w, h = found.box
    assert found.index is None and x in (0, 20) and y in (0, 15) and w in (20, 40) and h in (15, 30)
    rows, columns = slice(int(y // 15), int((y + h) // 15)), slice(int(x // 20), int((x + w) // 20))
    assert found.score == pytest.approx(found.values[rows, columns].sum() * 300 / (w * h) ** 0.5, rel=1e-4)
    row, column = np.unravel_index(found.values.argmax(), (2, 2))
    assert found.point == (20 * column + 10, 15 * row + 7.5)


def test_boxes_may_be_an_array_or_a_tensor():
    model = tiny_tcl()
    found = [model.ground(IMAGE, "a dog", boxes).index for boxes in (BOXES, np.array(BOXES), torch.tensor(BOXES))]
    assert len(set(found)) == 1


def test_a_blank_map_is_said_to_be_one(monkeypatch, tmp_path):
    from tcl.inference import tcl_model

    monkeypatch.setattr(tcl_model, "text_maps", lambda *arguments, autocast=nullcontext: torch.zeros(1, 2, 2))
    found = tiny_tcl().ground(IMAGE, "a dog", BOXES)
    assert found.blank and found.index == 2 and found.point is None
    assert tiny_tcl().ground(IMAGE, "a dog").box == (0, 0, 40, 30)
    found.save(tmp_path / "box.png")
    with Image.open(tmp_path / "box.png") as saved:
        assert saved.size == (40, 30) and saved.convert("RGB").getpixel((6, 10)) == (0x35, 0xD0, 0x7F)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": []}, r"^boxes: there are none; give at least one, or None to have one made from the map$"),
        ({"boxes": 3}, r"^boxes: a int is none; give a list of \[x, y, width, height\]$"),
        ({"boxes": "abcd"}, r"^boxes: a str is none"),
        ({"boxes": [1, 2, 3, 4]}, r"^boxes\[0\]: 1: box is not four numbers"),
        ({"boxes": [[0, 0, 5, 5], [40, 0, 5, 5]]}, r"^boxes\[1\]: \[40, 0, 5, 5\]: box outside of the image; give x, "
         r"y, width, height in pixels of the image, which has 40 x 30$"),
        ({"boxes": [[0, 0, 5, 0]]}, r"^boxes\[0\]: \[0, 0, 5, 0\]: box of no area"),
        ({"boxes": [[0, 0, 5, float("nan")]]}, r"^boxes\[0\]: .*box is not four numbers"),
        ({"boxes": [["x" * 1000]]}, r"^boxes\[0\]: .{100}\.\.\.: box is not four numbers"),
        ({"text": "zzz qqq"}, r"^text: 'zzz qqq' has no word that the model knows; give others$"),
        ({"text": "?!"}, r"^text\[0\]: '\?!' has no words"),
        ({"mode": "both"}, r"^mode: 'both' is not possible; accepted: itm, itc$"),
        ({"layer": 2}, r"^layer: 2, but the fusion encoder has 2; accepted: 0 to 1$"),
        ({"mode": "itc", "layer": 9}, r"^layer: 9, but the ViT has 2; accepted: 0 to 1$"),
        ({"image": "nowhere.jpg"}, r"^image: 'nowhere\.jpg' is no file"),
    ],
)  # fmt: skip
def test_what_ground_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        tiny_tcl().ground(**{"image": IMAGE, "text": "a dog", "boxes": BOXES, **changes})


@pytest.mark.parametrize("name", ["a.jpg", "none/a.png"])
def test_pictures_that_cannot_be_saved(tmp_path, name):
    with pytest.raises(InputError, match=r"^path: '.*"):
        tiny_tcl().ground(IMAGE, "a dog").save(tmp_path / name)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_tcl().save_pretrained("model")
    IMAGE.save("dog.png")
    (tmp_path / "boxes.json").write_text(json.dumps(BOXES))
    (tmp_path / "boxes.txt").write_text("\n".join(" ".join(map(str, box)) for box in BOXES) + "\n\n")
    return tmp_path


@pytest.mark.parametrize("mode", ["itm", "itc"])
def test_the_command(folder, capsys, mode):
    arguments = ["ground", "model", "dog.png", "a red dog", "--precision", "fp32", "--device", "cpu", "--mode", mode]
    expected = tiny_tcl().ground(IMAGE, "a red dog", BOXES, mode=mode)
    for file in ("boxes.json", "boxes.txt"):
        run([*arguments, "--boxes", file, "--out", "box.png"])
        box = " ".join(f"{value:.1f}" for value in expected.box)
        assert capsys.readouterr().out == f"{box}  box {expected.index} of 3\n"
    assert (folder / "box.png").is_file()
    run([*arguments, "--boxes", "boxes.json", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["box"] == list(expected.box) and said["index"] == expected.index and said["blank"] is False
    run(arguments)
    assert len(capsys.readouterr().out.split()) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^boxes: boxes\.json cannot be read \(No such file or directory\); give a JSON list"),
        (b"[[1, 2", r"^boxes: boxes\.json holds no boxes \("),
        (b"one two", r"^boxes: boxes\.json holds no boxes \(could not convert"),
        (b"\xff\xfe", r"^boxes: boxes\.json holds no boxes \("),
        (b"", r"^boxes: there are none"),
        (b"1 2 3", r"^boxes\[0\]: \[1\.0, 2\.0, 3\.0\]: box is not four numbers"),
        (b"[" * 100_000, r"^boxes: boxes\.json holds no boxes \("),
    ],
)
def test_files_of_boxes_that_cannot_be_used(folder, content, message):
    if content is None:
        (folder / "boxes.json").unlink()
    else:
        (folder / "boxes.json").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        run(["ground", "model", "dog.png", "a dog", "--boxes", "boxes.json"])
    assert "\n" not in str(refused.value)


def test_where_nothing_can_be_written(folder):
    with pytest.raises(InputError, match=r"^out: box\.jpg is no PNG"):
        run(["ground", "model", "dog.png", "a dog", "--out", "box.jpg"])


def test_explain_takes_the_published_map(folder):
    run(["explain", "model", "--image", "dog.png", "--text", "a red dog", "--out", "a.png", "--published"])
    tiny_tcl().explain(IMAGE, "a red dog").save("b.png", published=True)
    assert np.array_equal(np.asarray(Image.open("a.png")), np.asarray(Image.open("b.png")))
