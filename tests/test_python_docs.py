"""Every Python block of README.md and of the pages in docs/ that have any runs, on tiny models and pictures."""

import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from data_files import noise
from media_files import film, tone, wav
from PIL import Image
from tiny_foreign import save_blip, save_clip
from tiny_pretrained import (
    tiny_classifier,
    tiny_clips,
    tiny_compressed,
    tiny_entailment,
    tiny_nlvr,
    tiny_tcl,
    tiny_video_text,
    tiny_vqa,
)

from tcl import TCLForClips, load_model
from tcl.commands.main import run as main
from tcl.inference.codes_file import write_codes
from tcl.inference.embed_stream import EmbeddedStream

ROOT = Path(__file__).parents[1]


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the blocks of a page in one namespace, which it returns, in a folder with what they speak of."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("dog.jpg", "cat.jpg", "street.jpg")):
        noise(i, (40, 30)).save(name)
    Path("notes.txt").write_text("no image")
    for name in ("pretrain", "mine"):
        tiny_tcl().save_pretrained(f"runs/{name}")
    tiny_vqa().save_pretrained("runs/vqa")
    tiny_entailment().save_pretrained("runs/entailment")
    tiny_nlvr().save_pretrained("runs/nlvr")
    tiny_classifier(["dog", "cat", "red car"]).save_pretrained("runs/classification")
    save_clip(Path("models/clip"))
    save_blip(Path("models/blip"))

    def run_page(page: str) -> dict:
        names: dict = {}
        for block in python_blocks(page):
            exec(compile(block, page, "exec"), names)
        return names

    return run_page


def test_the_page_about_codes(run):
    model = tiny_compressed()
    model.save_pretrained("runs/compressed")
    pictures = ["dog.jpg", "cat.jpg", "street.jpg"]
    codes = EmbeddedStream(pictures, model.encode_image_codes(pictures), [])
    write_codes(codes, model.codebooks, Path("photos.safetensors"))
    names = run("docs/compression.md")
    assert sorted(names["best"]) == sorted(pictures)
    assert names["scores"].shape == names["places"].shape == (2, 3)


def test_the_readme(run):
    assert len(python_blocks("README.md")) == 1
    names = run("README.md")
    assert names["similarity"].shape == names["of_all"].shape == (3, 3)
    assert names["of_pairs"].shape == (3,)
    assert names["found"].ids.shape == (1, 2)
    assert len(names["guesses"]) == 5
    with Image.open("where.png") as picture:
        assert picture.size == (40, 30)
    assert names["answer"] in ("red", "blue")


def test_it_is_in_the_first_screen():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert lines.index("```python") < 30


def test_the_page_about_python(run, capsys):
    names = run("docs/python.md")
    assert names["cosines"].shape == (1, 2) and names["pairs"].shape == (2,) and names["grid"].shape == (2, 3)
    assert names["found"].ids.shape == names["found"].similarities.shape == (2, 2)
    assert names["ranked"][0].index in (0, 1, 2) and len(names["captioned"]) == len(names["of_pairs"]) == 2
    assert names["best_of_first_query"] in (0, 1, 2)
    again = names["model"].encode_image(["dog.jpg", "cat.jpg"])
    np.testing.assert_allclose(names["corpus"].features[:2], again, atol=0.02)  # bf16 where that is fast
    assert names["photos"].tokens_of is names["blip"] and len(names["photos"].tokens) == 3
    assert names["reranked"].ids.shape == names["ours"].ids.shape == names["theirs"].shape == (1, 2)
    assert names["text_features"].shape == names["features"].shape == (2, 12)
    assert names["of_dog"].shape == (1, 2) and names["of_cat"].shape == (2, 2)
    assert names["cosine"].shape == (1, 2) and names["best_first"][0]["corpus_id"] in (0, 1)
    np.testing.assert_allclose(names["probabilities"], names["pairs"], atol=0.02)
    assert names["heat"].of_words.shape == (5, *names["patches"].shape)
    assert Path("where.png").is_file() and Path("dog.png").is_file()
    assert names["box"] in ((0, 0, 20, 30), (15, 5, 20, 20)) and names["place"] in (0, 1)
    assert 0 < names["across"] < 40 and 0 < names["down"] < 30 and Path("box.png").is_file()
    assert isinstance(names["written"], str) and len(names["several"]) == 2
    assert set(names["one_each"]) <= {"dog", "cat"}
    assert len(names["each"]) == len(names["how_sure"]) == 2 and isinstance(names["is_true"], bool)
    assert {names["best"].name, names["guesses"][0].name} <= {"dog", "cat", "red car"} and len(names["guesses"]) == 2
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert said[-1].startswith("images[1]: 'notes.txt' cannot be used: corrupt image; give a JPEG, PNG, ")


def test_the_page_about_sound_and_video(run):
    model = tiny_clips()
    model.save_pretrained("runs/clips")
    tiny_video_text().save_pretrained("runs/video_text")
    for i, name in enumerate(("dog", "street")):
        Path(f"{name}.mp4").write_bytes(film([np.asarray(noise(9 * i + n)) for n in range(8)]))
    Path("bark.wav").write_bytes(wav(tone(0.5, 16_000)))
    names = run("docs/sound_and_video.md")
    assert names["cosines"].shape == (2, 2) and names["beside"].shape == (1, 1) and names["known"] == model.modalities
    assert sorted(names["found"].ids[0]) == [0, 1] and names["best"] in ("dog.mp4", "street.mp4")
    own = [name for name in vars(TCLForClips) if not name.startswith("_")]
    page = "".join(python_blocks("docs/sound_and_video.md"))
    assert own and [name for name in own if f"model.{name}" not in page and name != "embed_text"] == []


def test_the_page_about_search(run):
    for name in ("dog.jpg", "cat.jpg", "deeper/street.jpg"):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        noise(len(name), (40, 30)).save(Path("photos", name))
    main(["index", "runs/mine", "--images=photos", "--out=photos.index"])
    names = run("docs/search.md")
    assert len(names["hits"]) == len(names["alike"]) == 2 and names["left"] == 2
    assert [hit.path for hit in names["both"]] == [str(Path("photos/deeper/street.jpg").absolute())]
    assert len(names["ids"]) == 2


def test_every_public_method_has_an_example(tmp_path):
    page = "".join(python_blocks("docs/python.md"))
    foreign = [load_model(save(tmp_path / save.__name__)) for save in (save_clip, save_blip)]
    ours = [tiny_tcl(), tiny_vqa(), tiny_entailment(), tiny_nlvr(), tiny_classifier(["dog", "cat"])]
    for loaded in ours + foreign:
        kinds = [kind for kind in type(loaded).__mro__ if kind.__module__.startswith("tcl.")]
        own = {name: value for kind in kinds for name, value in vars(kind).items() if not name.startswith("_")}
        ends = {name: "" if isinstance(value, property | cached_property) else "(" for name, value in own.items()}
        used = {name: f".{name}{end}" for name, end in ends.items()}
        assert [name for name, use in used.items() if use not in page and name != "to"] == []


def test_importing_the_package_is_cheap():
    asked = "import sys, tcl, tcl.config, tcl.errors; print({'torch', 'transformers', 'numpy'} & sys.modules.keys())"
    heavy = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert heavy.strip() == "set()"


def test_the_package_has_no_other_names():
    import tcl

    ours = ["TCL", "TCLForCompressedRetrieval"]
    ours += [f"TCLFor{of}" for of in ("Classification", "Clips", "Entailment", "NLVR", "VQA", "Video")]
    others = ["BlipMatcher", "ForeignTowers", "Index", "TwoTowers", "load_model"]
    assert sorted(tcl.__all__) == sorted(ours + others)
    with pytest.raises(AttributeError, match=r"^module 'tcl' has no attribute 'Model'$"):
        _ = tcl.Model
