"""`tcl shards --from clips`: videos, sounds and timed captions become samples, and what cannot be used is named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from data_files import TOKENIZER, config, encode, noise
from media_files import film, sound_file, tone, wav
from test_make_shards import read, report, run

from tcl.annotations.clip_rows import clip_row
from tcl.annotations.read_rows import read_rows
from tcl.config.audio import AudioConfig
from tcl.config.video import VideoConfig
from tcl.data.feed.clip_reader import ClipReader
from tcl.errors import InputError

FILM, TONE = film(), wav(tone(1, 16_000))
OPUS = sound_file(tone(1, 48_000), 48_000, "libopus", "ogg")


@pytest.fixture
def media(tmp_path) -> Path:
    folder = tmp_path / "media"
    (folder / "sounds").mkdir(parents=True)
    files = {
        "film.mp4": FILM,
        "named.avi": film(container="webm", codec="libvpx-vp9", options={"deadline": "realtime"}),
        "sounds/tone.mp3": TONE,
        "sounds/opus.ogg": OPUS,
        "photo.png": encode(noise(), "PNG"),
        "cut.mp4": FILM[: len(FILM) // 2],
        "empty.wav": b"",
        "text.mp4": b"404",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def lines(path: Path, rows: list) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_clips(tmp_path, media):
    timed = [{"text": "a dog", "start": 0, "end": 0.5}, {"text": " ", "start": 0, "end": 0.5}, "a cat", None]
    rows = [
        {"video": "film.mp4", "audio": "sounds/tone.mp3", "captions": timed, "label": "left", "spoken": "not said"},
        {"video": "named.avi", "caption": "a photo", "start": 0.5, "end": 1.5, "image": "poster.jpg"},
        {"image": "photo.png", "audio": "sounds/opus.ogg", "image_id": 3, "fold": 2, "captions": ["x"]},
        {"audio": "sounds/tone.mp3"},
        {"video": "film.mp4", "text": ["one", "two"], "start": [0, 1.5], "end": [1, 2]},
    ]
    run("clips", lines(tmp_path / "rows.jsonl", rows), media, tmp_path / "out")
    samples = read(tmp_path / "out")
    assert [sorted(sample.keys() - {"__key__", "json"}) for sample in samples] == [
        ["mp4", "wav"],
        ["webm"],
        ["opus", "png"],
        ["wav"],
        ["mp4"],
    ]
    assert samples[0]["mp4"] == FILM and samples[0]["wav"] == TONE and samples[2]["opus"] == OPUS
    assert [json.loads(sample["json"]) for sample in samples] == [
        {"captions": [timed[0], "a cat"], "label": "left", "video": "film.mp4", "audio": "sounds/tone.mp3"},
        {"captions": ["a photo"], "start": 0.5, "end": 1.5, "video": "named.avi", "image": "poster.jpg"},
        {"captions": ["x"], "image_id": 3, "fold": 2, "image": "photo.png", "audio": "sounds/opus.ogg"},
        {"audio": "sounds/tone.mp3"},
        {
            "captions": [{"text": "one", "start": 0, "end": 1}, {"text": "two", "start": 1.5, "end": 2}],
            "video": "film.mp4",
        },
    ]
    assert report(tmp_path / "out")["blank_captions"] == 2
    reader = ClipReader(config("x"), VideoConfig(frames=2, fps=8), AudioConfig(), TOKENIZER, image_size=16, required=())
    clips = [reader.read({k: v for k, v in sample.items() if k != "__key__"}, "x", None) for sample in samples]
    assert [(clip.frames is not None, clip.wave is not None, len(clip.captions)) for clip in clips] == [
        (True, True, 2),
        (True, False, 1),
        (True, True, 1),
        (False, True, 0),
        (True, False, 2),
    ]


def test_sounds_may_lie_elsewhere(tmp_path, media):
    rows = lines(tmp_path / "rows.jsonl", [{"image": "photo.png", "audio": "tone.mp3"}] * 2)
    run("clips", rows, media, tmp_path / "out", "--sounds", str(media / "sounds"))
    assert [sorted(sample.keys() - {"__key__"}) for sample in read(tmp_path / "out")] == [["json", "png", "wav"]] * 2
    run("clips", lines(tmp_path / "list.json", [[{"video": "film.mp4"}]]), media, tmp_path / "list")
    assert len(read(tmp_path / "list")) == 1


def test_what_cannot_be_used_is_skipped_and_named(tmp_path, media):
    expected = [
        ({"video": "cut.mp4"}, "cut.mp4", "truncated video, its index (moov) is missing"),
        ({"video": "film.mp4", "audio": "empty.wav"}, "empty.wav", "empty sound file"),
        ({"video": "text.mp4"}, "text.mp4", "text in place of video"),
        ({"video": "gone.mp4"}, "gone.mp4", "missing image file"),
        ({"video": "../film.mp4"}, "../film.mp4", "path leaves the image folder"),
        ({"audio": "film.mp4"}, "film.mp4", "no sound track"),
        ({"video": "sounds/tone.mp3"}, "sounds/tone.mp3", "no video track"),
        ({"captions": ["a dog"]}, None, 'no "video", "image" or "audio"'),
        ([], None, 'no "video", "image" or "audio"'),
        ({"video": "film.mp4", "captions": [3]}, "film.mp4", "caption in JSON is not text"),
        ({"video": "film.mp4", "captions": {"a": 1}}, "film.mp4", "caption in JSON is not text"),
        (
            {"video": "film.mp4", "captions": ["a"], "start": [1], "end": [0]},
            "film.mp4",
            "times of a caption are not seconds, start <= end",
        ),
        (
            {"video": "film.mp4", "captions": ["a"], "start": [1, 2], "end": [2]},
            "film.mp4",
            'not as many "start" and "end" as captions',
        ),
        (
            {"video": "film.mp4", "start": 3, "end": "4"},
            "film.mp4",
            '"start" and "end" of the clip are not seconds, start <= end',
        ),
    ]
    rows = [*(row for row, _, _ in expected), {"video": "film.mp4"}]
    run("clips", lines(tmp_path / "rows.jsonl", rows), media, tmp_path / "out")
    found = [(row["image"], row["cause"]) for row in report(tmp_path / "out")["skipped"]]
    assert found == [(name, cause) for _, name, cause in expected]
    assert len(read(tmp_path / "out")) == 1


def test_the_same_files_give_the_same_bytes_whatever_the_workers(tmp_path, media):
    rows = lines(tmp_path / "rows.jsonl", [{"video": "film.mp4"}, {"video": "cut.mp4"}, {"audio": "sounds/opus.ogg"}])
    for workers in "13":
        run("clips", rows, media, tmp_path / workers, "--workers", workers)
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "3" / path.name).read_bytes()


def test_mistakes_are_one_line(tmp_path, media, capsys):
    for options, said in (
        (
            ["--sounds", str(tmp_path / "gone")],
            f"sounds: {tmp_path / 'gone'} is no folder; give the one that sound paths",
        ),
        (["--split", "train"], "split: 'train' means nothing to --from clips"),
    ):
        with pytest.raises(SystemExit):
            run("clips", lines(tmp_path / "rows.jsonl", [{"video": "film.mp4"}]), media, tmp_path / "out", *options)
        assert said in capsys.readouterr().err
    with pytest.raises(InputError, match="is it --from coco"):
        read_rows("clips", lines(tmp_path / "coco.json", [{"images": [], "annotations": [{"caption": "a"}]}]))
    with pytest.raises(InputError, match="use --from clips"):
        read_rows("jsonl", lines(tmp_path / "list.json", [[{"video": "film.mp4"}]]))


def test_a_row_without_captions_says_so_by_having_none():
    assert clip_row("line 1", {"video": "a.mp4", "captions": []}).sample == {"video": "a.mp4"}
    assert clip_row("line 1", {"video": "a.mp4", "captions": ["", None]}).blank_captions == 2


def test_without_its_package_it_is_one_line(tmp_path, media):
    rows = lines(tmp_path / "rows.jsonl", [{"video": "film.mp4"}])
    code = (
        "import sys; sys.modules['av'] = None; from pathlib import Path; from tcl.errors import InputError\n"
        "from tcl.annotations.read_rows import read_rows; import tcl.annotations.make_shards\n"
        f"rows = lambda: read_rows('clips', Path({str(rows)!r}))\n"
        "for act in (rows, lambda: __import__('tcl.data.feed.clip_reader')):\n"
        "    try: act()\n"
        "    except InputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["av: not installed; run pip install 'tcl-vlp[media]'"] * 2, done.stderr
