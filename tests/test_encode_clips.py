"""`tcl encode` of clips and sounds: the vectors are those of the Python calls, and what is bad is listed."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_files import encode, noise, pair, write_tar
from media_files import FPS, film, tone, wav
from test_encode import read, skipped
from test_untrusted_media import FOLDER, UNUSUAL
from tiny_pretrained import tiny_clips, tiny_tcl

from tcl.commands.main import run
from tcl.errors import InputError

RATE = 8000
CLOSE = {"atol": 1e-5}
HOW = ["--device=cpu", "--precision=fp32", "--batch_size=6"]


@pytest.fixture
def media(tmp_path, monkeypatch) -> Path:
    """Five clips, of which two have sound, two sounds, a picture, and what is none of them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "media"
    (folder / "deep").mkdir(parents=True)
    for i in range(5):
        sound = tone(2, 24_000, 300 + 200 * i) if i in (1, 3) else None
        frames = [np.asarray(noise(9 * i + n, (64, 48))) for n in range(8 + 4 * i)]
        (folder / f"{'deep/' * (i % 2)}{i}.mp4").write_bytes(film(frames, sound=sound))
    for i in range(2):
        (folder / f"{i}.wav").write_bytes(wav(tone(0.5 + i, RATE, 440 * (i + 1)), RATE))
    (folder / "still").write_bytes(encode(noise(5, (40, 30))))
    (folder / "notes.txt").write_text("a dog")
    (folder / "cut.mp4").write_bytes(film()[:-600])
    return folder


@pytest.fixture(scope="module")
def model():
    return tiny_clips(batch_size=6)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_clips(workers, media, model, capsys):
    model.save_pretrained("run")
    for options, to in (([], "text"), (["--to=audio"], "audio")):
        run(["encode", "run", "--clips=media", "--out=clips.npy", f"--workers={workers}", *options, *HOW])
        ids, rows = read("clips.npy")
        assert ids == ["0.mp4", "2.mp4", "4.mp4", "deep/1.mp4", "deep/3.mp4", "still"]
        np.testing.assert_allclose(rows, model.encode_video([media / one for one in ids], to=to), **CLOSE)
    assert skipped("clips.npy") == {
        "0.wav": "no video track",
        "1.wav": "no video track",
        "cut.mp4": "truncated video",
        "notes.txt": "text in place of video",
    }
    assert "skipped 4 (2 no video track, 1 " in capsys.readouterr().out


def test_sounds_and_the_sound_of_clips(media, model):
    model.save_pretrained("run")
    (media / "silent.wav").write_bytes(wav(np.zeros(RATE), RATE))
    run(["encode", "run", "--sounds=media", "--out=sounds.safetensors", *HOW])
    run(["encode", "run", "--sounds=media", "--to=text", "--out=sounds.npy", *HOW])
    ids, rows = read("sounds.npy")
    assert ids == ["0.wav", "1.wav", "deep/1.mp4", "deep/3.mp4"]
    np.testing.assert_allclose(rows, model.encode_audio([media / one for one in ids], to="text"), **CLOSE)
    causes = skipped("sounds.npy")
    assert {causes[name] for name in ("0.mp4", "2.mp4", "4.mp4")} == {"no sound in the clip"}
    assert causes["silent.wav"] == "silent sound" and causes["notes.txt"] == "text in place of sound"
    assert causes["still"] == "unknown format of sound"
    assert skipped("sounds.safetensors") == causes


@pytest.mark.parametrize("workers", ["0", "2"])
def test_samples_of_shards(workers, media, model):
    """As the files of which they are made; a part of a video as a video of that part, as far as its encoding allows."""
    model.save_pretrained("run")
    first, second = ([np.asarray(noise(seed, (64, 48)))] * FPS for seed in (50, 60))  # a second each
    part = json.dumps({"start": 1, "end": 2}).encode()
    files = {name: (media / name).read_bytes() for name in ("0.mp4", "deep/1.mp4", "0.wav", "still", "cut.mp4")}
    write_tar("0.tar", [("a.mp4", files["0.mp4"]), ("b.mp4", files["deep/1.mp4"]), ("b.txt", b"a dog")])
    write_tar("1.tar", [("c.jpg", files["still"]), ("c.wav", files["0.wav"]), ("d.wav", files["0.wav"])])
    write_tar("2.tar", [("e.mp4", film(first + second)), ("e.json", part), ("f.mp4", files["cut.mp4"])])
    run(["encode", "run", "--shards={0..2}.tar", "--out=clips.npy", f"--workers={workers}", *HOW])
    ids, rows = read("clips.npy")
    assert ids == ["0.tar/a", "0.tar/b", "1.tar/c", "2.tar/e"]
    whole = model.encode_video([files["0.mp4"], files["deep/1.mp4"], files["still"], film(second)])
    np.testing.assert_allclose(rows[:3], whole[:3], **CLOSE)
    assert rows[3] @ whole[3] > max(0.99, rows[3] @ model.encode_video(film(first))[0])
    assert skipped("clips.npy") == {"1.tar/d": "no video or image", "2.tar/f": "truncated video"}
    run(["encode", "run", "--shards={0..2}.tar", "--sound", "--out=sounds.npy", f"--workers={workers}", *HOW])
    ids, rows = read("sounds.npy")
    assert ids == ["0.tar/b", "1.tar/c", "1.tar/d"]
    heard = model.encode_audio([files["deep/1.mp4"], files["0.wav"], files["0.wav"]])
    np.testing.assert_allclose(rows, heard, **CLOSE)
    assert skipped("sounds.npy") == {
        "0.tar/a": "no sound in the clip",
        "2.tar/e": "no sound in the clip",
        "2.tar/f": "truncated video",
    }


def test_texts_for_either(media, model, tmp_path):
    model.save_pretrained("run")
    Path("texts.txt").write_bytes("a red dog\n?!\n\u200b\nBlue thing!\n".encode())
    for options, to in (([], "video"), (["--to=audio"], "audio")):
        run(["encode", "run", "--texts=texts.txt", "--out=texts.npy", *options, *HOW])
        ids, rows = read("texts.npy")
        assert ids == ["1", "4"]
        np.testing.assert_allclose(rows, model.encode_text(["a red dog", "Blue thing!"], to=to), **CLOSE)
        assert skipped("texts.npy") == {"2": "empty caption", "3": "empty caption"}
    write_tar(tmp_path / "0.tar", [*pair("a", "a dog on mat"), *pair("b", "a cat")])
    run(["encode", "run", "--shards=0.tar", "--captions", "--out=captions.npy", *HOW])
    np.testing.assert_allclose(read("captions.npy")[1], model.encode_text(["a dog on mat", "a cat"]), **CLOSE)


def test_hubness_of_clips_comes_from_texts_in_their_space(media, model):
    model.save_pretrained("run")
    Path("texts.txt").write_text("a red dog\na cat\n")
    run(["encode", "run", "--texts=texts.txt", "--out=texts.npy", *HOW])
    run(["encode", "run", "--clips=media", "--bank=texts.npy", "--out=clips.npy", *HOW])
    assert np.load("clips.hubness.npy").shape == (6,)
    with pytest.raises(InputError, match=r"^bank: features of width 8, candidates of width 12"):
        run(["encode", "run", "--clips=media", "--to=audio", "--bank=texts.npy", "--out=clips.npy", *HOW])


@pytest.mark.skipif(not FOLDER.is_dir(), reason="TCL_UNUSUAL_MEDIA_DIR")
def test_unusual_media(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("run")
    run(["encode", "run", f"--clips={FOLDER}", "--out=clips.npy", *HOW])
    ids, _ = read("clips.npy")
    videos = {path.name for path in FOLDER.iterdir() if path.suffix in (".mp4", ".webm")}
    assert set(ids) == videos - UNUSUAL.keys()
    causes = skipped("clips.npy")
    assert {name: causes[name] for name in UNUSUAL.keys() & videos} == {
        name: cause for name, cause in UNUSUAL.items() if name in videos
    }
    run(["encode", "run", f"--sounds={FOLDER}", "--out=sounds.npy", *HOW])
    causes = skipped("sounds.npy")
    assert causes["silence.wav"] == causes["silent_track.mp4"] == "silent sound"
    assert causes["no_audio_track.mp4"] == causes["one_frame.mp4"] == "no sound in the clip"
    assert len(read("sounds.npy")[0]) + len(causes) == len(list(FOLDER.iterdir()))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("clips", ["--images=media"], "images: run is a model of clips; give --clips, which takes images too, or --so"),
        ("clips", ["--shards=none.tar"], "shards 'none.tar': none.tar does not exist"),
        ("clips", ["--clips=media", "--sound"], "sound: it is that of --shards; for a folder give --sounds"),
        ("clips", ["--clips=media", "--to=video"], "to: 'video', which this model does not compare with 'video'; acc"),
        ("clips", ["--clips=media", "--to=smell"], "to: .*smell"),
        ("clips", ["--clips=none"], "clips: none is no folder; give one that holds clips$"),
        ("clips", ["--sounds=empty"], "sounds: empty holds no sounds; accepted: WAV, FLAC, "),
        ("clips", ["--clips=media", "--codes"], r"out: out\.npy ends in \.npy; codes are kept in"),
        ("apart", ["--sounds=media", "--to=text"], "to: 'text', which this model does not compare with 'audio'; acce"),
        (
            "pairs",
            ["--clips=media"],
            "clips: run is a TCL, which has seen no clips; give a model of `tcl pre",
        ),
        (
            "pairs",
            ["--shards=0.tar", "--sound"],
            "sound: run is a TCL, which has seen no clips; give a model of `tcl p",
        ),
        ("pairs", ["--texts=t.txt", "--to=video"], "to: run is a TCL, which has seen no clips; give a model of `tcl p"),
    ],
)
def test_what_cannot_be_embedded_is_one_line(kind, options, said, media):
    models = {"clips": tiny_clips, "apart": lambda: tiny_clips(graph="disjoint"), "pairs": tiny_tcl}
    models[kind]().save_pretrained("run")
    Path("empty").mkdir()
    Path("t.txt").write_text("a dog\n")
    write_tar(Path("0.tar"), pair("a"))
    with pytest.raises(InputError, match=f"^{said}") as refused:
        run(["encode", "run", *options, "--out=out.npy", "--device=cpu"])
    assert len(str(refused.value).splitlines()) == 1 and not Path("out.npy").exists()


def test_codes_of_clips_there_are_none(media):
    tiny_clips().save_pretrained("run")
    with pytest.raises(InputError, match=r"^codes: run is a TCLForClips, without codebooks; give a model"):
        run(["encode", "run", "--clips=media", "--codes", "--out=out.safetensors", "--device=cpu"])
    assert json.loads(Path("run/config.json").read_text())["kind"] == "clips"
