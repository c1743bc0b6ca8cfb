"""`tcl index` and `tcl search` of clips, sounds and images: what is found is what TCLForClips finds."""

import contextlib
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_files import encode, noise, write_tar
from indexing import build, content, in_a_child, lines_of
from launching import ENVIRONMENT, TORCHRUN
from media_files import film, grey, media, quarter_turned, tone, wav
from PIL import Image
from test_untrusted_media import FOLDER, UNUSUAL
from tiny_pretrained import tiny_clips, tiny_tcl

import tcl.index.build
from tcl.commands.main import run
from tcl.config.clips_objective import ClipsObjectiveConfig
from tcl.data.shards.bad_sample import BadSample
from tcl.data.video.middle_frame import middle_frame
from tcl.errors import InputError
from tcl.index.description import read_description
from tcl.index.index import Index
from tcl.index.share import Share
from tcl.index.stages import Stages, open_stages
from tcl.index.store import Store
from tcl.index.write import Wanted, make_index, write_index
from tcl.inference.clip_spaces import space_between

RATE, TEXT, BATCH = 8000, "a red dog on mat", 3
WITH_AUDIO_TEXT = ClipsObjectiveConfig(at_weight=1)
KINDS = {"mp4": "video/mp4", "webm": "video/webm", "wav": "audio/wav", "flac": "audio/flac", "png": None}


def mixed(folder: Path, count: int = 12, first: int = 0) -> list[str]:
    """Clips of noise, some with sound, sounds, and images, some of them deeper; names in the order of bytes."""
    names = []
    for i in range(first, first + count):
        kind = ("mp4", "wav", "png")[i % 3]
        name = f"{'deep/er/' * (i % 2)}{i:03d}.{kind}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(one_of(kind, i))
        names.append(name)
    return sorted(names, key=os.fsencode)


def one_of(kind: str, i: int) -> bytes:
    if kind == "mp4":
        sound = tone(1, 24_000, 200 + 50 * i) if i % 2 else None
        return film([np.asarray(noise(9 * i + n, (48, 32))) for n in range(6)], sound=sound)
    return encode(noise(i, (40, 30)), "PNG") if kind == "png" else wav(tone(0.4 + i / 20, RATE, 150 + 90 * i), RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("media") / "media"
    mixed(folder)
    return folder


def stages_of(**options):
    return open_stages(tiny_clips(batch_size=BATCH, **options))


@pytest.fixture(scope="module")
def stages():
    return stages_of()


def embedded(model, path: str, to: str) -> np.ndarray:
    """Of one file, by the model's own methods."""
    modality = "audio" if path.endswith("wav") else "video"
    embed = {"audio": model.embed_audio, "video": model.embed_video}[modality]
    space = "va" if to == "seen" else space_between(model.student, modality, to)
    return embed(path).spaces[space][0]


def brute(model, folder: Path, text: str | None, query: Path | None) -> dict[str, float]:
    """Mean of the cosines with what is asked, by path, of all files one by one."""
    found = {}
    for path in (str(path) for path in folder.rglob("*") if path.is_file()):
        cosines = []
        if text is not None:
            other = "audio" if path.endswith("wav") else "video"
            cosines.append(embedded(model, path, "text") @ model.encode_text(text, to=other)[0])
        if query is not None:
            cosines.append(embedded(model, path, "seen") @ embedded(model, str(query), "seen"))
        found[path] = float(np.mean(cosines))
    return found


def same(hits, expected: dict[str, float], close: float) -> None:
    best = sorted(expected, key=lambda path: -expected[path])[: len(hits)]
    np.testing.assert_allclose([hit.similarity for hit in hits], [expected[path] for path in best], atol=close)
    np.testing.assert_allclose([expected[hit.path] for hit in hits], [expected[path] for path in best], atol=close)
    assert all(hit.match is None for hit in hits)


@pytest.mark.parametrize("graph", ["fac", "shared", "disjoint"])
@pytest.mark.parametrize(("storage", "close"), [("fp32", 1e-5), ("int8", 0.02)])
def test_search_is_brute_force_in_the_space_of_the_two(graph, storage, close, folder, tmp_path):
    """With disjoint spaces texts are compared with clips in one and with sounds in another, and all is one search."""
    stages = stages_of(graph=graph, objective=WITH_AUDIO_TEXT)
    built, info = build(tmp_path / "index", folder, stages, embeddings=storage)
    assert (built.images, built.encoded, info["skipped"]) == (12, 12, {})
    clip, sound, image = (folder / name for name in ("006.mp4", "deep/er/007.wav", "008.png"))
    with Index(tmp_path / "index", stages) as index:
        for text, query in ((TEXT, None), (None, clip), (None, sound), (None, image), (TEXT, sound)):
            same(index.search(text, query, k=12), brute(stages.model, folder, text, query), close)
        for query in (clip, sound, image):
            first = index.search(image=query, k=1)[0]
            assert first.path == str(query) and first.similarity == pytest.approx(1, abs=close)
            same(index.search(like=first.id, k=5), brute(stages.model, folder, None, query), 2 * close)
        assert {hit.path.rpartition(".")[2]: hit.type for hit in index.search(TEXT, k=12)} == {
            kind: KINDS[kind] for kind in ("mp4", "wav", "png")
        }


def test_queries_may_be_bytes_frames_and_pictures(folder, tmp_path, stages):
    build(tmp_path / "index", folder, stages, embeddings="fp32")
    picture = np.asarray(Image.open(folder / "008.png"))
    with Index(tmp_path / "index", stages) as index:
        expected = index.search(image=folder / "008.png", k=4)
        for query in (picture, Image.fromarray(picture), np.stack([picture]), (folder / "008.png").read_bytes()):
            same(index.search(image=query, k=4), {hit.path: hit.similarity for hit in expected}, 1e-5)
        with (folder / "006.mp4").open("rb") as file:
            assert index.search(image=file, k=3) == index.search(image=str(folder / "006.mp4"), k=3)


def test_who_asks_may_not_have_more_decoded_than_an_image_of_theirs_allows(stages):
    """48 x 32 pixels a frame, and a sound of half a second."""
    clip, sound = one_of("mp4", 0), one_of("wav", 1)
    assert stages.reader.see(clip, 64 * 32).modality == "video" and stages.reader.see(sound, 1000).modality == "audio"
    for given, pixels, cause in (
        (clip, 48 * 32 - 1, "video: too many pixels"),
        (sound, 10, "sound decodes to more than data.clips.max_decoded_bytes"),
        (encode(noise(1, (40, 30)), "PNG"), 40 * 30 - 1, "too many pixels"),
    ):
        with pytest.raises(BadSample, match=f"^{cause}$"):
            stages.reader.see(given, pixels)


def test_what_is_kept_of_each_kind(tmp_path, stages):
    """The picture of a clip is the frame in its middle, as it is to be seen; of a sound its spectrogram."""
    clip = film([grey(i, (96, 48)) for i in range(9)])
    for name, what in {
        "a.mp4": clip,
        "b.mp4": quarter_turned(clip, 1),
        "c.wav": wav(tone(1, RATE, 3000), RATE),
        "d.png": encode(noise(1, (40, 30)), "PNG"),
    }.items():
        (tmp_path / "media").mkdir(exist_ok=True)
        (tmp_path / "media" / name).write_bytes(what)
    build(tmp_path / "index", tmp_path / "media", stages)
    found = content(tmp_path / "index")
    sizes = [(item.width, item.height, item.type) for item in found.items]
    assert sizes == [(96, 48, "video/mp4"), (48, 96, "video/mp4"), (0, 0, "audio/wav"), (40, 30, None)]
    pictures = [np.asarray(Image.open(io.BytesIO(one))).astype(int) for one in found.pictures]
    assert [one.shape for one in pictures] == [(48, 96, 3), (96, 48, 3), (128, 256, 3), (30, 40, 3)]
    assert abs(pictures[0].mean() - grey(4).mean()) < 4
    with media(clip) as opened:
        np.testing.assert_allclose(middle_frame(opened), grey(4, (96, 48)), atol=4)
    loudest = pictures[2].sum(axis=(1, 2)).argmax()
    assert loudest < 32  # 3 kHz of 4: high


def test_what_a_model_cannot_compare_with_texts_is_not_indexed(folder, tmp_path):
    apart = stages_of(graph="disjoint")
    _, info = build(tmp_path / "apart", folder, apart)
    assert (info["images"], info["skipped"]) == (8, {"audio, which the model does not compare with text": 4})
    with Index(tmp_path / "apart", apart) as index:  # but it may be asked with
        found = index.search(image=folder / "deep/er/001.wav", k=8)
        same(
            found,
            {hit.path: brute(apart.model, folder, None, folder / "deep/er/001.wav")[hit.path] for hit in found},
            1e-3,
        )
    deaf = stages_of(objective=ClipsObjectiveConfig(va_weight=0))
    _, info = build(tmp_path / "deaf", folder, deaf)
    assert info["skipped"] == {"audio, which the model was not trained on": 4}
    with Index(tmp_path / "deaf", deaf) as index:
        assert len(index.search(TEXT, k=8)) == len(index.search(image=folder / "000.mp4", k=8)) == 8
        with pytest.raises(
            InputError, match=r"^image: .*wav' cannot be used: audio, which the model was not trained on"
        ):
            index.search(image=folder / "deep/er/001.wav")
    mute = stages_of(objective=ClipsObjectiveConfig(vt_weight=0))
    assert build(tmp_path / "mute", folder, mute)[1]["images"] == 12
    with Index(tmp_path / "mute", mute) as index:
        assert len(index.search(image=folder / "deep/er/001.wav", k=12)) == 12
        with pytest.raises(InputError, match=r"^text: 'text', which this model was not trained on; it knows 'video', "):
            index.search(TEXT)


def test_new_changed_gone_and_bad(folder, tmp_path, stages):
    own, index = tmp_path / "media", tmp_path / "index"
    mixed(own)
    clip = (own / "006.mp4").read_bytes()
    bad = {
        "cut.mp4": (clip[:-300], "truncated video"),
        "cut.wav": (one_of("wav", 1)[:2000], "truncated sound"),
        "empty.mp4": (b"", "empty media file"),
        "notes.txt": (b"a dog", "text in place of media"),
        "list.m3u8": (b"#EXTM3U\nfile:///etc/passwd\n", "text in place of media"),
        "silent.wav": (wav(np.zeros(RATE), RATE), "silent sound"),
        "broken.jpg": (b"\xff\xd8\xff" + bytes(100), "corrupt image"),
    }
    for name, (what, _) in bad.items():
        (own / name).write_bytes(what)
    _, info = build(index, own, stages)
    assert {one["id"]: one["cause"] for one in json.loads((index / "skipped.json").read_text())} == {
        name: cause for name, (_, cause) in bad.items()
    }
    assert info["images"] == 12 and build(index, own, stages)[0].encoded == 0
    (own / "000.mp4").unlink()
    (own / "cut.mp4").write_bytes(one_of("mp4", 50))
    (own / "006.mp4").write_bytes(one_of("wav", 50))  # the bytes say what it is
    mixed(own, 3, first=20)
    built, _ = build(index, own, stages)
    assert (built.images, built.encoded, built.dropped) == (15, 5, 2)
    with Index(index, stages) as opened:
        (hit,) = opened.search(image=own / "006.mp4", k=1)
        assert hit.path == str(own / "006.mp4") and hit.type == "audio/wav"


@pytest.fixture
def without_threads():
    """Of OpenCV: a process that is forked would wait for them."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("without_threads")
def test_stopped_anywhere_it_is_the_same(folder, tmp_path, stages, monkeypatch):
    """Killed at a random line of tcl/index, each time a process of its own."""
    monkeypatch.setattr(tcl.index.build, "COMMIT_SECONDS", 0)

    def lines(index: Path, stop: int | None) -> int:
        return lines_of(lambda: build(index, folder, stages), stop)

    long, rng = lines(tmp_path / "whole", None), random.Random(0)
    kills = 0
    for _ in range(5):
        stop = rng.randint(1, long // 2)
        kills += in_a_child(lambda stop=stop: lines(tmp_path / "killed", stop)) == signal.SIGKILL
    build(tmp_path / "killed", folder, stages, workers=2)
    assert kills >= 3 and content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.skipif(not FOLDER.is_dir(), reason="TCL_UNUSUAL_MEDIA_DIR")
def test_unusual_media(tmp_path, stages):
    _, info = build(tmp_path / "index", FOLDER, stages, workers=1)
    found, there = content(tmp_path / "index"), {path.name for path in FOLDER.iterdir()}
    as_media = {"text_named.mp4": "text in place of media"} | {
        name: "empty media file" for name in there if name.startswith("zero_bytes")
    }
    expected = UNUSUAL | as_media | {"silence.wav": "silent sound"}
    del expected["no_video_track.mp4"]  # a sound
    assert {one.id: one.cause for one in found.skipped} == expected
    types = {item.file.decode(): item.type for item in found.items}
    assert types.keys() == there - expected.keys() and info["images"] == len(types)
    assert types["no_video_track.mp4"] == "audio/mp4" and types["mp3_named.wav"] == "audio/mpeg"
    assert types["vp9_opus.webm"] == "video/webm" and types["silent_track.mp4"] == "video/mp4"
    for item, picture in zip(found.items, found.pictures, strict=True):
        assert (item.width > 0) == item.type.startswith("video/") and picture.startswith(b"\xff\xd8")


@pytest.mark.slow
def test_two_processes_write_the_index_of_one(folder, tmp_path):
    tiny_clips().save_pretrained(tmp_path / "clips")
    options = ["-m", "tcl", "index", str(tmp_path / "clips"), f"--media={folder}", "--batch_size=3", "--precision=fp32"]
    options += ["--device=cpu", "--workers=1"]
    command = [*TORCHRUN, *options, f"--out={tmp_path / 'two'}"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run([*options[2:], f"--out={tmp_path / 'one'}"])
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_shards(tmp_path, stages):
    """Of a sample the video, or else the image, or else the sound."""
    write_tar(
        tmp_path / "0.tar",
        [
            ("a.mp4", one_of("mp4", 0)),
            ("a.wav", one_of("wav", 0)),
            ("a.json", json.dumps({"captions": ["A dog!"]}).encode()),
            ("b.png", one_of("png", 1)),
            ("b.wav", one_of("wav", 1)),
            ("c.wav", one_of("wav", 2)),
            ("d.txt", b"a cat"),
        ],
    )
    write_index(tmp_path / "index", Wanted(shards=f"{tmp_path}/*.tar"), stages, Share(), workers=0)
    found = content(tmp_path / "index")
    assert [(item.key, item.type, item.caption) for item in found.items] == [
        ("a", "video/mp4", "a dog"),
        ("b", None, None),
        ("c", "audio/wav", None),
    ]
    assert [one.cause for one in found.skipped] == ["no video, image or sound"]


def test_hubs_by_a_bank_of_texts(folder, tmp_path, stages):
    bank = stages.model.encode_text(["a dog", "a cat", "a red thing"])
    np.save(tmp_path / "bank.npy", bank)
    build(tmp_path / "index", folder, stages, bank=str(tmp_path / "bank.npy"))
    with Index(tmp_path / "index", stages) as index:
        assert [hit.path for hit in index.search(TEXT, k=12, rescore=True)] != [
            hit.path for hit in index.search(TEXT, k=12)
        ]
    np.save(tmp_path / "bank.npy", bank[:, :5])
    with pytest.raises(InputError, match=r"^bank: .* holds \[3, 5\]; give at least one query, of 8 numbers as this"):
        build(tmp_path / "other", folder, stages, bank=str(tmp_path / "bank.npy"))


def test_an_index_knows_how_its_model_reads_clips(folder, tmp_path):
    """The same weights with other frames are another model."""
    build(tmp_path / "index", folder, stages_of())
    slower = tiny_clips()
    slower.pretrained.model.video.fps = 1.0
    with pytest.raises(InputError, match=r"^model: .* is of another one"):
        Index.open(tmp_path / "index", slower)


def test_a_former_index_has_images_alone(tmp_path):
    """Its catalogue has no column for what plays."""
    (tmp_path / "photos").mkdir()
    noise(1).save(tmp_path / "photos" / "a.png")
    stages = Stages(tiny_tcl(), "tiny")
    build(tmp_path / "index", tmp_path / "photos", stages)
    with contextlib.closing(sqlite3.connect(tmp_path / "index" / "catalogue.sqlite")) as tables:
        tables.execute("ALTER TABLE items DROP COLUMN type")
        tables.commit()
    with Index(tmp_path / "index", stages) as index:
        assert [hit.type for hit in index.search("a dog", k=1)] == [None]
    noise(2).save(tmp_path / "photos" / "b.png")
    assert build(tmp_path / "index", tmp_path / "photos", stages)[0].encoded == 1
    store = Store(tmp_path / "index", read_description(tmp_path / "index"), writable=False)
    assert [item.type for item in store.catalogue.items()] == [None, None]
    store.close()


def test_the_commands(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = tiny_clips(batch_size=BATCH)
    model.save_pretrained("clips")
    how = ["--device=cpu", "--precision=fp32", "--batch_size=3"]
    run(["index", "clips", f"--media={folder}", "--out=index", *how])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("index: 12 clips and sounds (12 encoded, ") and said[1].startswith(
        "faiss, flat; 44 bytes each, "
    )
    run(["search", "index", "--like", str(folder / "deep/er/001.wav"), "-k=1", *how])
    assert capsys.readouterr().out == f"+1.000  {folder}/deep/er/001.wav\n"
    run(["search", "index", TEXT, "-k=12", "--json", *how])
    found = {one["path"]: one["similarity"] for one in json.loads(capsys.readouterr().out)}
    expected = brute(model, folder, TEXT, None)
    assert found == {path: pytest.approx(cosine, abs=2e-3) for path, cosine in expected.items()}
    with pytest.raises(InputError, match=r"^matcher: .*clips is a model of clips, which nothing matches"):
        run(["index", "clips", f"--media={folder}", "--out=other", "--matcher=clips", *how])
    with pytest.raises(InputError, match=r"^tokens: .*clips does not match images with texts; accepted: none"):
        run(["index", "clips", f"--media={folder}", "--out=other", "--tokens=int8", *how])


def test_milvus_gives_the_same_answers(folder, tmp_path, stages):
    build(tmp_path / "faiss", folder, stages)
    build(tmp_path / "milvus", folder, stages, engine="milvus", uri=str(tmp_path / "vectors.db"))
    with Index(tmp_path / "faiss", stages) as one, Index(tmp_path / "milvus", stages) as other:
        for asked in ({"text": TEXT}, {"image": folder / "deep/er/001.wav", "k": 5}, {"text": TEXT, "folder": "deep"}):
            assert one.search(**asked) == other.search(**asked)


def test_files_that_are_added_one_by_one(folder, tmp_path, stages):
    make_index(tmp_path / "index", Wanted(embeddings="fp32"), stages)
    paths = [folder / name for name in ("000.mp4", "deep/er/001.wav", "002.png", "deep/er/003.mp4")]
    with Index(tmp_path / "index", stages) as index:
        ids = index.add(paths)
        assert [index.search(image=path, k=1)[0].id for path in paths] == ids
        (tmp_path / "bad.mp4").write_bytes(b"no video")
        with pytest.raises(InputError, match=r"bad\.mp4 cannot be used: text in place of media"):
            index.add([tmp_path / "bad.mp4"])
        assert len(index) == 4


def test_images_are_indexed_and_served_where_nothing_decodes_media():
    """PyAV is asked for by those alone who have a model of clips."""
    modules = "tcl.index.write, tcl.index.stages, tcl.serve.run, tcl.commands.encode, tcl.inference.embed_stream"
    script = f"import sys; sys.modules['av'] = None; import {modules}; print('tcl.data.media' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
