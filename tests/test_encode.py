"""`tcl encode`: the vectors are those of the Python calls, the ids say whose they are, and what is bad is listed."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from data_files import encode, noise, pair, write_tar
from safetensors import SafetensorError
from safetensors.numpy import load_file
from test_inference_inputs import claims
from tiny_pretrained import tiny_tcl

from tcl import TCL
from tcl.commands.main import run
from tcl.data.images.read_images import images_of_folder, stream_images
from tcl.errors import InputError

CLOSE = {"atol": 1e-6}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tcl"
    tiny_tcl().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(model_folder) -> TCL:
    return TCL.from_pretrained(model_folder, device="cpu", precision="fp32")


@pytest.fixture
def encode_command(model_folder, tmp_path, monkeypatch):
    """Runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run_it(*options: str) -> None:
        run(["encode", str(model_folder), "--device=cpu", "--precision=fp32", "--batch_size=3", *options])

    return run_it


def read(name: str) -> tuple[list[str], np.ndarray]:
    """The ids and the embeddings of a .npy, which is written so that no pickle is needed."""
    return json.loads(Path(name).with_suffix(".ids.json").read_text()), np.load(name, allow_pickle=False)


def skipped(name: str) -> dict[str, str]:
    return {one["id"]: one["cause"] for one in json.loads(Path(name).with_suffix(".skipped.json").read_text())}


def photos(folder: Path, count: int) -> dict[str, Path]:
    """By their ids, in sorted order."""
    paths = {f"{'deep/er/' * (i % 2)}{i:02d}.{'png' if i % 3 else 'JPG'}": i for i in range(count)}
    for name, i in paths.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(i, (40, 30)).save(folder / name)
    return {name: folder / name for name in sorted(paths)}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_folder(workers, encode_command, model, tmp_path, capsys):
    expected = photos(tmp_path / "photos", 10)
    (tmp_path / "photos" / "notes.txt").write_text("no image by its name")
    encode_command("--images=photos", "--out=photos.npy", f"--workers={workers}")
    ids, embeddings = read("photos.npy")
    assert ids == list(expected)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, model.encode_image(list(expected.values())), **CLOSE)
    assert capsys.readouterr().out.splitlines() == [
        "photos.npy: 10 embeddings of 8 numbers",
        "skipped 1 (1 text, no image); photos.skipped.json lists them",
    ]
    assert skipped("photos.npy") == {"notes.txt": "text, no image"}


def test_bad_images_are_skipped_counted_and_listed(encode_command, model, tmp_path, capsys):
    expected = photos(tmp_path / "photos", 4)
    bad = {"a.jpg": b"no image", "b.png": b"", "c.jpg": encode(noise(size=(64, 64)))[:-300]}
    bad["d.png"] = claims(100_000, 100_000)
    for name, content in bad.items():
        (tmp_path / "photos" / name).write_bytes(content)
    (tmp_path / "photos" / "gone.jpg").symlink_to("nowhere.jpg")
    encode_command("--images=photos", "--out=photos.npy")
    ids, embeddings = read("photos.npy")
    assert ids == list(expected)
    np.testing.assert_allclose(embeddings, model.encode_image(list(expected.values())), **CLOSE)
    causes = {"a.jpg": "corrupt image", "b.png": "empty image file", "c.jpg": "truncated image"}
    assert skipped("photos.npy") == causes | {"d.png": "too many pixels", "gone.jpg": "file cannot be read"}
    said = capsys.readouterr().out.splitlines()[1]
    assert said.startswith("skipped 5 (1 ") and said.endswith("); photos.skipped.json lists them")
    for name in (*bad, "gone.jpg"):
        (tmp_path / "photos" / name).unlink()
    encode_command("--images=photos", "--out=photos.npy")
    assert not Path("photos.skipped.json").exists()  # of the run before


@pytest.mark.parametrize("workers", ["0", "2"])
def test_shards_whose_names_are_the_same(workers, encode_command, model, tmp_path):
    images, expected = {}, []
    for folder, count in (("a", 4), ("b", 2), ("c", 5)):
        (tmp_path / folder).mkdir()
        shard = tmp_path / folder / ("1.tar" if folder == "c" else "0.tar")
        entries = []
        for i in range(count):
            images[folder, i] = noise(len(images), (40, 30))
            entries += pair(f"s{i}", image=encode(images[folder, i], "PNG"))
            expected.append(f"1.tar/s{i}" if folder == "c" else f"{shard}/s{i}")
        write_tar(shard, [*entries, ("t.txt", b"a dog")])
    encode_command(f"--shards={tmp_path}/*/*.tar", "--out=out.safetensors", f"--workers={workers}")
    found = load_file("out.safetensors")
    assert json.loads(found["ids"].tobytes()) == expected
    np.testing.assert_allclose(found["embeddings"], model.encode_image(list(images.values())), **CLOSE)
    assert set(skipped("out.safetensors").values()) == {"no image"}
    assert len(skipped("out.safetensors")) == 3


def test_a_truncated_shard_gives_what_was_whole(encode_command, tmp_path):
    write_tar(tmp_path / "0.tar", [entry for i in range(6) for entry in pair(f"s{i}")])
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[: len(whole) // 4 - 300])
    encode_command("--shards=0.tar", "--out=out.npy")
    ids, embeddings = read("out.npy")
    assert 0 < len(ids) < 6 and len(embeddings) == len(ids)
    assert list(skipped("out.npy").values()) == ["truncated tar, or fewer samples than its count"]


def test_captions_of_shards(encode_command, model, tmp_path):
    several = [("x.jpg", b""), ("x.json", json.dumps({"captions": ["A red dog!", "a cat", " "]}).encode())]
    write_tar(tmp_path / "0.tar", [*pair("a", "a dog on mat"), *several, ("y.txt", b"?!"), *pair("z", "a cat")])
    encode_command("--shards=0.tar", "--captions", "--out=captions.npy")
    ids, embeddings = read("captions.npy")
    assert ids == ["0.tar/a#0", "0.tar/x#0", "0.tar/x#1", "0.tar/z#0"]
    expected = model.encode_text(["a dog on mat", "a red dog", "a cat", "a cat"])
    np.testing.assert_allclose(embeddings, expected, **CLOSE)
    assert skipped("captions.npy") == {"0.tar/y": "empty caption"}


def test_a_file_of_texts(encode_command, model, tmp_path, monkeypatch):
    monkeypatch.setattr("tcl.inference.embed_stream.TEXTS_AT_A_TIME", 3)
    texts = ["a dog", "a red cat on mat", "thing", "a blue dog", "green", "a photo of a dog", "a cat"]
    lines = [
        *(text.encode() for text in texts[:5]),
        b"\xff\xfe",
        b"...",
        "\u200b".encode(),
        *(text.encode() for text in texts[5:]),
    ]
    (tmp_path / "texts.txt").write_bytes(b"\n".join(lines))
    encode_command("--texts=texts.txt", "--out=texts.npy")
    ids, embeddings = read("texts.npy")
    assert ids == ["1", "2", "3", "4", "5", "9", "10"]
    np.testing.assert_allclose(embeddings, model.encode_text(texts), **CLOSE)
    assert skipped("texts.npy") == {"6": "caption is not UTF-8", "7": "empty caption", "8": "empty caption"}


def test_only_a_few_batches_are_decoded_ahead(tmp_path, model):
    """However many images there are: the reader is asked for more only when a batch was taken."""
    files = images_of_folder(photos(tmp_path / "photos", 12)["00.JPG"].parent)
    read = []

    def watched(path):
        read.append(path)
        return files.read(path)

    batches = stream_images(
        type(files)(files.paths, watched), model.transform, batch_size=2, max_pixels=10**6, workers=0
    )
    for taken in range(1, 4):
        next(batches)
        assert len(read) <= 2 * taken + 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--images=photos", "--out=a.csv"], r"out: a\.csv ends in \.csv; accepted: \.npy and \.safetensors$"),
        (["--images=photos", "--out=photos/00.JPG/a.npy"], r"out: photos/00\.JPG/a\.npy cannot be written \("),
        (["--images=photos", "--out=d.npy"], r"out: d\.npy is a folder; name a file$"),
        (["--images=foto", "--out=a.npy"], "images: foto is no folder; give one that holds images$"),
        (["--images=none", "--out=a.npy"], "images: none holds no images; accepted: jpg, "),
        (["--images=bad", "--out=a.npy"], r"nothing that can be used: 1 corrupt image; give"),
        (["--shards=no*.tar", "--out=a.npy"], r"shards 'no\*\.tar': no file matches"),
        (["--texts=nowhere", "--out=a.npy"], r"texts: nowhere cannot be read \(No such file"),
        (["--texts=photos", "--out=a.npy"], r"texts: photos cannot be read \(Is a directory"),
        (["--images=photos", "--captions", "--out=a.npy"], "captions: they are those of --shards; "),
        (["--images=photos", "--shards=x", "--out=a.npy"], "shards: not allowed with argument --images; "),
        (["--out=a.npy"], "one of the arguments --images --shards --clips --sounds --texts is required; "),
        (["--images=photos", "--out=a.npy", "--workers=-1"], "workers: -1 is not possible; accepted: 0 or more$"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(options, said, encode_command, tmp_path):
    photos(tmp_path / "photos", 1)
    for name in ("none", "bad", "d.npy"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"no image")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"^{said}"):
        encode_command(*options)
    assert sorted(tmp_path.rglob("*")) == before


def no_room_for_an_array(file: io.BufferedWriter, array, **options):
    file.write(b"half")
    raise OSError(28, "No space left on device")


def no_room_for_tensors(tensors, path: Path, **options):
    path.write_bytes(b"half")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("out", "place", "full"),
    [
        ("a.npy", "numpy.save", no_room_for_an_array),
        ("a.safetensors", "tcl.checkpoints.weights_file.save_file", no_room_for_tensors),
    ],
)
def test_a_full_disk_leaves_the_file_of_before(encode_command, tmp_path, monkeypatch, out, place, full):
    photos(tmp_path / "photos", 2)
    encode_command("--images=photos", f"--out={out}")
    before = Path(out).read_bytes()
    monkeypatch.setattr(place, full)
    with pytest.raises(InputError, match=rf"^out: {out} cannot be written \(No space left on device\)"):
        encode_command("--images=photos", f"--out={out}")
    assert Path(out).read_bytes() == before and not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("out", ["a.npy", "a.safetensors"])
def test_embeddings_can_be_read_by_others(encode_command, tmp_path, out):
    """Of the team: not only by who encoded them."""
    photos(tmp_path / "photos", 1)
    encode_command("--images=photos", f"--out={out}")
    Path("plain").touch()
    assert Path(out).stat().st_mode == Path("plain").stat().st_mode


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_what_each_row_gets_from_a_bank_lies_beside_the_embeddings(suffix, encode_command, model, tmp_path):
    expected = photos(tmp_path / "photos", 5)
    (tmp_path / "captions.txt").write_text("a dog\na cat on a mat\na red photo\n")
    encode_command("--texts=captions.txt", f"--out=bank.{suffix}")
    more = ["--bank_method=sinkhorn", "--bank_temperature=0.1", "--bank_iterations=3"]
    encode_command("--images=photos", f"--bank=bank.{suffix}", *more, f"--out=out.{suffix}")
    hubness = np.load("out.hubness.npy") if suffix == "npy" else load_file("out.safetensors")["hubness"]
    bank = model.embed_texts(["a dog", "a cat on a mat", "a red photo"])
    balanced = model.embed_images(list(expected.values())).balanced(bank, "sinkhorn", temperature=0.1, iterations=3)
    assert hubness.dtype == np.float32 and hubness.std() > 0
    np.testing.assert_allclose(hubness, balanced.hubness, **CLOSE)
    encode_command("--images=photos", f"--out=out.{suffix}")
    assert not Path("out.hubness.npy").exists()  # of the run before
    assert suffix == "npy" or "hubness" not in load_file("out.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "none.npy",
            None,
            r"^bank: none\.npy cannot be read \(No such file or directory\); give a \.npy or \.safetens",
        ),
        (
            "text.npy",
            b"a dog",
            r"^bank: text\.npy is no array of numbers; give a \.npy or \.safetensors of `tcl encode`$",
        ),
        ("ids.npy", np.arange(3), r"^bank: ids\.npy holds no embeddings, float32 \[n, embed_dim\]; give "),
        ("other.npy", np.ones((2, 5), np.float32), r"^bank: features of width 5, candidates of width 8; give both as"),
        ("other.safetensors", None, r"^bank: .*other\.safetensors"),
    ],
)
def test_a_bank_that_cannot_be_used(name, content, message, encode_command, tmp_path):
    photos(tmp_path / "photos", 1)
    if isinstance(content, np.ndarray):
        np.save(name, content)
    elif content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        encode_command("--images=photos", f"--bank={name}", "--out=out.npy")
    assert not Path("out.npy").exists()
