"""Shards that somebody else made: names in them are names, not paths, and nothing but their own bytes is read."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from data_files import JPEG, NO_AUGMENT, config, encode, loader, noise, pair, write_tar
from test_inference_inputs import claims
from tiny_pretrained import tiny_tcl

from tcl.commands.main import run
from tcl.data.images.decode_image import image_bytes
from tcl.data.sets.collect_answers import make_answer_list
from tcl.data.sets.question_set import load_question_set
from tcl.data.sets.retrieval_set import load_retrieval_set
from tcl.data.shards.list_shards import open_shards
from tcl.data.shards.read_shard import read_samples
from tcl.data.texts.vocabulary import train_tokenizer

SECRET = encode(noise(99))
KEYS = (
    "../../x",
    "/etc/x",
    "./x",
    "..",
    "a/../../../x",
    "C:\\x",
    "~/x",
    "x\n",
    "$(touch x)",
    "`touch x`",
    "| touch x ;",
)


@pytest.fixture
def shard(tmp_path) -> Path:
    """Samples whose keys are paths out of the folder; it lies two folders deep, beside a file that they may aim at."""
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    (tmp_path / "x.jpg").write_bytes(SECRET)
    entries = []
    for i, key in enumerate(KEYS):
        said = {"caption": "a dog", "question": "what?", "answers": ["dog"], "question_id": i}
        said |= {"image": "../../x.jpg", "image_path": "/etc/passwd", "url": "file:///etc/passwd"}
        entries += [(f"{key}.jpg", JPEG), (f"{key}.json", json.dumps(said).encode())]
    return write_tar(folder / "0.tar", entries)


@pytest.fixture
def unchanged(tmp_path, monkeypatch):
    """Runs a call in `outer/inner` and tells the files that it added anywhere below."""
    monkeypatch.chdir(tmp_path)

    def added_by(call) -> set[Path]:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        call()
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert all(after[path] == content for path, content in before.items())
        return {path.relative_to(tmp_path) for path in after.keys() - before.keys()}

    return added_by


def test_readers_take_the_bytes_of_the_shard_and_touch_no_file(shard, unchanged):
    found = []

    def read() -> None:
        assert open_shards(str(shard))[0].size == len(list(read_samples(str(shard))))
        found.extend(image_bytes(sample.fields) for sample in read_samples(str(shard)) if sample.problem is None)
        found.extend(load_retrieval_set(str(shard), max_words=9, max_pixels=10**6).images)
        found.extend(load_question_set(str(shard), max_words=9, max_pixels=10**6).images)
        next(loader(config(str(shard), shuffle_buffer=1, augment=NO_AUGMENT), batch_size=4))

    assert unchanged(read) == set()
    assert len(found) == 10 + 10 + 1 and set(found) == {JPEG}


def test_tools_and_commands_write_their_output_alone(shard, unchanged, tmp_path):
    tiny_tcl().save_pretrained(tmp_path / "model")
    shards = f"--shards={shard}"
    assert unchanged(lambda: run(["encode", "model", shards, "--out=a.npy", "--workers=0"])) == {
        Path("a.npy"),
        Path("a.ids.json"),
    }
    captions = unchanged(lambda: run(["encode", "model", shards, "--captions", "--out=b.safetensors"]))
    assert captions == {Path("b.safetensors")}
    assert unchanged(lambda: make_answer_list(str(shard), Path("answers.txt"))) == {Path("answers.txt")}
    made = unchanged(lambda: train_tokenizer(str(shard), Path("tokenizer"), vocab_size=100))
    assert {path.parts[0] for path in made} == {"tokenizer"}


def test_links_devices_and_folders_in_a_shard_are_no_samples(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(SECRET)
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for i, kind in enumerate(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
        ):
            for name, target in ((f"{i}.jpg", tmp_path / "secret.jpg"), (f"{i}.txt", "/etc/passwd")):
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = kind, str(target)
                tar.addfile(entry)
        for name, content in pair("good"):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    (sample,) = read_samples(str(tmp_path / "0.tar"))
    assert sample.key == "0.tar/good" and sample.fields["jpg"] == JPEG
    assert [shard.size for shard in open_shards(str(tmp_path / "0.tar"))] == [1]


def test_images_that_claim_to_be_enormous_are_refused_by_every_reader_of_shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = json.dumps({"caption": "a dog", "question": "what?", "answers": ["dog"], "question_id": 1}).encode()
    bomb = [("bomb.png", claims(100_000, 100_000)), ("bomb.json", said)]
    write_tar(tmp_path / "0.tar", [*bomb, ("x.jpg", JPEG), ("x.json", said.replace(b"1", b"2"))])
    loaded = load_retrieval_set("0.tar", max_words=9, max_pixels=10**8)
    asked = load_question_set("0.tar", max_words=9, max_pixels=10**8)
    assert loaded.bad == asked.bad == {"too many pixels": 1}
    tiny_tcl().save_pretrained("model")
    run(["encode", "model", "--shards=0.tar", "--out=a.npy", "--workers=0"])
    assert json.loads(Path("a.skipped.json").read_text()) == [{"id": "0.tar/bomb", "cause": "too many pixels"}]
