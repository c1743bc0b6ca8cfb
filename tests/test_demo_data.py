"""Demo scenes: every caption is true of its picture, splits do not overlap, output depends on the seed alone."""

import io
import json
import random
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from tcl.errors import InputError
from tools.demo_pictures import SIDE, draw_pictures
from tools.demo_scenes import BACKGROUNDS, COLOURS, COLUMNS, ROWS, SHAPES, Scene, draw_scene, held_out_pairs, render
from tools.make_demo_data import captions, full_caption, make_demo_data

THING = rf"(?:(small|large) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?: ({'|'.join(ROWS)}) ({'|'.join(COLUMNS)}))?"


def named(caption: str) -> list[tuple[str | None, ...]]:
    """(size, colour, shape, row, column) of every object that a caption names; None where it does not say."""
    return [tuple(part or None for part in thing) for thing in re.findall(THING, caption)]


def facts(scene: Scene) -> list[tuple[str, ...]]:
    return [(t.size, t.colour, t.shape, ROWS[t.row], COLUMNS[t.column]) for t in scene.objects]


def agrees(said: tuple, fact: tuple) -> bool:
    return all(word is None or word == true for word, true in zip(said, fact, strict=True))


@pytest.mark.parametrize("index", range(40))
def test_captions_are_true(index):
    scene = draw_scene(0, "train", index)
    for caption in captions(scene, random.Random(index)):
        said = named(caption)
        assert said and all(any(agrees(thing, fact) for fact in facts(scene)) for thing in said)
        if relation := re.search(r"left of|right of|above|below", caption):
            (a,), (b,) = (
                [t for t, f in zip(scene.objects, facts(scene), strict=True) if agrees(s, f)][:1] for s in said
            )
            true = {"left of": a.column < b.column, "right of": a.column > b.column}
            true |= {"above": a.row < b.row, "below": a.row > b.row}
            same = facts(scene)[0][:3] == facts(scene)[1][:3]
            assert same or true[relation[0]]
        if caption.startswith(("one", "two")):
            assert caption.split()[0] == ("one", "two")[len(scene.objects) - 1]
            assert f"on {scene.background}" in caption


def test_full_captions_name_everything():
    for index in range(40):
        scene = draw_scene(0, "val", index)
        assert sorted(named(full_caption(scene, random.Random(0)))) == sorted(facts(scene))


def test_pictures_show_the_colours_where_the_scene_says():
    for index in range(40):
        scene = draw_scene(0, "train", index)
        pixels = np.asarray(render(scene, 48)).astype(int)
        background = np.array(BACKGROUNDS[scene.background])
        for thing in scene.objects:
            cell = pixels[16 * thing.row : 16 * thing.row + 16, 16 * thing.column : 16 * thing.column + 16].reshape(
                -1, 3
            )
            distance = np.abs(cell - np.array(COLOURS[thing.colour])).sum(1)
            assert (distance < 30).sum() >= (40 if thing.size == "large" else 12)
        taken = {(t.row, t.column) for t in scene.objects}
        for row, column in {(r, c) for r in range(3) for c in range(3)} - taken:
            cell = pixels[16 * row + 2 : 16 * row + 14, 16 * column + 2 : 16 * column + 14]
            assert np.abs(cell - background).max() < 10


def test_held_out_pairs_never_train_and_are_in_every_second_validation_scene():
    held_out = held_out_pairs(0)

    def shown(split: str, index: int) -> bool:
        return any((t.shape, t.colour) in held_out for t in draw_scene(0, split, index).objects)

    assert len(held_out) == round(0.1 * len(SHAPES) * len(COLOURS))
    assert not any(shown("train", i) for i in range(500))
    assert [shown("val", i) for i in range(20)] == [True, False] * 10


def test_no_scene_is_in_both_splits():
    train = {draw_scene(0, "train", i).description for i in range(500)}
    assert train.isdisjoint(draw_scene(0, "val", i).description for i in range(500))


def read(pattern: str) -> list[dict]:
    return list(wds.WebDataset(pattern, shardshuffle=False, empty_check=False))


def test_shards(tmp_path):
    for workers in (1, 2):
        out = tmp_path / str(workers)
        make_demo_data(out, train=30, val=20, vqa_train=300, vqa_val=20, image_size=32, workers=workers)
    names = {str(path.relative_to(tmp_path / "1")) for path in (tmp_path / "1").rglob("*") if path.is_file()}
    folders = ("train", "val", "vqa_train", "vqa_val")
    assert names == {
        "answers.txt",
        "demo_data.json",
        *(f"{folder}/{file}" for folder in folders for file in ("000000.tar", "sizes.json")),
    }
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    train, val = read(f"{tmp_path}/1/train/000000.tar"), read(f"{tmp_path}/1/val/000000.tar")
    assert (len(train), len(val)) == (30, 20)
    assert Image.open(io.BytesIO(train[0]["png"])).size == (32, 32)
    described = [tuple(sorted(named(*json.loads(sample["json"])["captions"]))) for sample in val]
    assert len(set(described)) == 20


def test_made_again_only_when_something_differs(tmp_path, capsys):
    options = {"train": 3, "val": 2, "vqa_train": 3, "vqa_val": 2, "image_size": 32, "workers": 1}
    make_demo_data(tmp_path / "out", **options)
    before = (tmp_path / "out" / "train" / "000000.tar").stat().st_mtime_ns
    make_demo_data(tmp_path / "out", **options)
    assert (tmp_path / "out" / "train" / "000000.tar").stat().st_mtime_ns == before
    assert "is there already" in capsys.readouterr().out
    with pytest.raises(InputError, match="exists and was not made with"):
        make_demo_data(tmp_path / "out", **{**options, "seed": 1})
    with pytest.raises(InputError, match="exists and was not made with"):
        make_demo_data(tmp_path / "out", **{**options, "vqa_train": 4})


@pytest.mark.parametrize("name", ["train", "val", "vqa_train", "vqa_val", "workers"])
def test_impossible_numbers_are_one_line(tmp_path, name):
    with pytest.raises(InputError, match=f"^{name}: 0 is not possible; accepted: an integer >= 1$"):
        make_demo_data(tmp_path / "other", **{name: 0})
    with pytest.raises(InputError, match=r"^image_size: 3 is not possible; accepted: an integer >= 16$"):
        make_demo_data(tmp_path / "other", image_size=3)


def test_data_from_before_there_were_questions_are_replaced_if_the_scenes_are_the_same(tmp_path):
    options = {"train": 3, "val": 2, "vqa_train": 3, "vqa_val": 2, "image_size": 32, "workers": 1}
    out, record = tmp_path / "out", tmp_path / "out" / "demo_data.json"
    make_demo_data(out, **options)
    now = record.read_text()
    captioned = (out / "train" / "000000.tar").read_bytes()

    def as_it_was(seed: int) -> None:
        for name in ("vqa_train", "vqa_val"):
            shutil.rmtree(out / name)
        (out / "answers.txt").unlink()
        record.write_text(json.dumps({"train": 3, "val": 2, "seed": seed, "image_size": 32}))

    as_it_was(seed=0)
    make_demo_data(out, **options)
    assert record.read_text() == now
    assert (out / "train" / "000000.tar").read_bytes() == captioned
    assert len(read(f"{out}/vqa_train/000000.tar")) == 3
    as_it_was(seed=1)
    with pytest.raises(InputError, match="add --overwrite"):
        make_demo_data(out, **options)


def test_overwrite_replaces_demo_data_and_nothing_else(tmp_path):
    options = {"train": 3, "val": 2, "vqa_train": 3, "vqa_val": 2, "image_size": 32, "workers": 1}
    make_demo_data(tmp_path / "out", **options)
    make_demo_data(tmp_path / "new", **options, seed=1)
    make_demo_data(tmp_path / "out", **options, seed=1, overwrite=True)
    for name in ("train/000000.tar", "demo_data.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "new" / name).read_bytes()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    with pytest.raises(InputError, match="remove it or name another folder"):
        make_demo_data(tmp_path / "mine", **options, overwrite=True)
    assert (tmp_path / "mine" / "file").read_text() == "kept"


def test_unusable_out_and_too_few_scenes_are_one_line(tmp_path, monkeypatch):
    options = {"train": 2, "vqa_train": 1, "vqa_val": 1, "image_size": 16, "workers": 1}
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"out: .* cannot be written"):
        make_demo_data(tmp_path / "file" / "out", val=2, **options)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "demo_data.json").write_text("{")
    with pytest.raises(InputError, match="add --overwrite"):
        make_demo_data(tmp_path / "broken", val=2, **options)
    # 3 different scenes, whatever the index; threads see the patch.
    monkeypatch.setattr("tools.make_demo_data.draw_scene", lambda seed, split, i: draw_scene(seed, split, i % 3))
    monkeypatch.setattr("tools.make_demo_data.ProcessPoolExecutor", ThreadPoolExecutor)
    with pytest.raises(InputError, match="val: 5 is not possible; among 10 scenes only 3 differ"):
        make_demo_data(tmp_path / "few", val=5, **options)


def test_objects_stay_in_their_cells():
    """Each drawn alone, against the cell's border; an object that leaves it could touch its neighbour."""
    for index in range(300):
        scene = draw_scene(0, "train", index)
        for thing in scene.objects:
            pixels = np.asarray(render(Scene(scene.background, (thing,)), 96)).astype(int)
            shown = np.abs(pixels - np.array(BACKGROUNDS[scene.background])).max(2) > 24
            rows, columns = np.nonzero(shown)
            assert set(rows // 32) == {thing.row} and set(columns // 32) == {thing.column}, thing
        assert all(abs(thing.dx) <= 0.01 and abs(thing.dy) <= 0.01 for thing in scene.objects)


def test_pictures_are_held_out_scenes_with_captions_that_are_true(tmp_path):
    draw_pictures(tmp_path, 3)
    for index, path in enumerate(sorted(tmp_path.iterdir())):
        scene = draw_scene(0, "val", index)
        with Image.open(path) as picture:
            assert picture.size == (SIDE, SIDE)
            assert picture.getpixel((SIDE // 6 * 2, SIDE // 6 * 2)) == BACKGROUNDS[scene.background]  # between cells
            assert sorted(named(picture.getexif()[0x010E])) == sorted(facts(scene))
    path.write_text("kept")
    draw_pictures(tmp_path, 4)
    assert path.read_text() == "kept" and len(list(tmp_path.iterdir())) == 4
