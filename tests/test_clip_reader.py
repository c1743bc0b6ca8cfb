"""Clips from shards to batches: what is in a batch, what may be missing, resuming to the bit, and workers that live."""

import json
import random
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import NO_AUGMENT, TOKENIZER, config, encode, loader, noise, write_tar
from media_files import FPS, film, grey, level, tone, wav
from test_loader import tensors_of

from tcl.config.audio import AudioConfig, SpectrogramConfig
from tcl.config.clips import ClipsConfig
from tcl.config.data import AugmentConfig, DataConfig
from tcl.config.video import VideoConfig
from tcl.data.audio.log_mel import log_mel
from tcl.data.batch import Batch
from tcl.data.feed.clip_reader import ClipReader
from tcl.data.feed.loader import TrainLoader
from tcl.data.feed.loader_state import LoaderState
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.captions_near import captions_near
from tcl.data.texts.sample_texts import BAD_TIMES, Caption, timed_captions
from tcl.data.texts.vocabulary import read_texts

SPECTROGRAM = SpectrogramConfig(sample_rate=16_000, window=512, hop=256)
FRAMES, SECONDS = 4, 0.5
FLIPS = replace(NO_AUGMENT, crop_scale=(0.3, 1.0), flip_prob=0.5)
SHORT = film([grey(i) for i in range(8)], sound=tone(1, 24_000))
MUTE = film([grey(i) for i in range(8)])
WAV = wav(tone(0.3, 16_000))


def reader(data: DataConfig, **options) -> ClipReader:
    audio = AudioConfig(spectrogram=SPECTROGRAM)
    return ClipReader(data, VideoConfig(frames=FRAMES, fps=FPS), audio, TOKENIZER, image_size=16, **options)


def clip_config(*shards: str, **options) -> DataConfig:
    options = {"clips": ClipsConfig(captions=3), "augment": FLIPS, **options}
    return config(*shards, **options)


def clips(data: DataConfig, required: tuple[str, ...] = ("video",), **options) -> TrainLoader:
    return loader(data, reader=reader(data, required=required), **options)


def sample(key: str, **files: bytes | dict) -> list[tuple[str, bytes]]:
    return [
        (f"{key}.{name}", json.dumps(content).encode() if isinstance(content, dict) else content)
        for name, content in files.items()
    ]


def write(folder: Path, *samples: list[tuple[str, bytes]], name: str = "000000.tar") -> str:
    folder.mkdir(exist_ok=True)
    return str(write_tar(folder / name, [entry for one in samples for entry in one]))


def by_key(batch: Batch) -> dict[str, int]:
    return {key.partition("/")[2]: row for row, key in enumerate(batch.keys)}


@pytest.fixture
def shards(tmp_path) -> str:
    """Two shards of each kind of sample."""
    for i in range(2):
        write(
            tmp_path / "shards",
            sample(f"inside{i}", mp4=SHORT, txt=b"a red dog\na blue cat\na green thing\na dog\na cat"),
            sample(f"beside{i}", mp4=MUTE, wav=wav(tone(1, 16_000)), json={"caption": "a dog"}),
            sample(f"mute{i}", mp4=MUTE, json={"captions": [{"text": "a cat", "start": 0, "end": 1}]}),
            sample(f"still{i}", jpg=encode(noise(i)), wav=WAV, txt=b"a photo"),
            sample(f"wordless{i}", mp4=SHORT),
            sample(f"silent{i}", mp4=film(sound=np.zeros(48_000, np.float32)), txt=b"a cat"),
            name=f"{i:06d}.tar",
        )
    return str(tmp_path / "shards" / "*.tar")


def test_a_batch_of_clips(shards):
    batches = clips(clip_config(shards), batch_size=12)
    batch = next(batches)
    row = by_key(batch)
    video, sounds, texts = (batch.inputs[name] for name in ("video", "audio", "text"))
    assert video.frames.shape == (12, FRAMES, 3, 16, 16) and video.frames.dtype == torch.uint8
    assert sounds.log_mel.shape == (12, SPECTROGRAM.frames(8_000), 80) and sounds.log_mel.dtype == torch.float32
    assert texts.ids.shape == texts.mask.shape and texts.ids.shape[:2] == texts.exist.shape == (12, 3)
    assert set(batch.present) == {"audio", "text"} and batch.present["audio"].dtype == torch.bool
    missing = {name: {key for key, i in row.items() if not batch.present[name][i]} for name in batch.present}
    assert missing["audio"] == {f"{name}{i}" for name in ("mute", "silent") for i in range(2)}
    assert missing["text"] == {"wordless0", "wordless1"}
    assert texts.exist.sum(1)[row["inside0"]] == 3 and texts.exist.sum(1)[row["beside0"]] == 1
    assert TOKENIZER.decode(texts.ids[row["beside0"], 0], skip_special_tokens=True) == "a dog"
    assert (texts.ids[..., 0] == TOKENIZER.cls_token_id).all() and (texts.mask[..., 0] == 1).all()
    assert sounds.heard.any(1).all() and sounds.log_mel.isfinite().all()
    assert sorted(batch.notices) == [("silent sound", f"00000{i}.tar/silent{i}") for i in range(2)]
    assert batches.bad.total == {} and batches.end_epoch() == {"silent sound": 2}
    assert "4" in batch.describe()
    assert len(set(batch.ids.tolist())) == 5 and batch.ids[row["inside0"]] == batch.ids[row["wordless1"]]


def test_the_sound_of_a_batch_is_the_log_mel_of_its_time():
    read = reader(clip_config("none.tar"), required=()).read
    clip = read({"wav": WAV}, "x", None)
    batch = reader(clip_config("none.tar"), required=()).batch([clip], 0)
    padded = torch.zeros(8_000)
    padded[:4_800] = torch.from_numpy(np.rint(tone(0.3, 16_000) * 32767) / 32768)
    assert batch.inputs["audio"].log_mel[0].sub(log_mel(padded, SPECTROGRAM)).abs().max() < 1e-3
    assert batch.inputs["audio"].heard[0].sum() == -(-4_800 // 256)
    assert not batch.present["video"][0] and batch.present["audio"][0]


def test_frames_captions_and_sound_are_of_the_same_time():
    """Every half second has a level, a caption and a tone: 200, 400, 600 and 800 Hz."""
    words = ["red", "green", "blue", "cat"]
    tones = np.concatenate([tone(0.5, 24_000, 200.0 * i) for i in (1, 2, 3, 4)])
    content = film([grey(i // 4 * 4) for i in range(16)], sound=tones)
    said = [{"text": text, "start": i / 2, "end": i / 2 + 0.5} for i, text in enumerate(words)]
    data = clip_config("none.tar", clips=ClipsConfig(captions=1), augment=NO_AUGMENT)
    seen = set()
    for seed in range(12):
        fields = {"mp4": content, "json": json.dumps({"captions": said}).encode()}
        clip = reader(data).read(fields, "x", random.Random(seed))
        middle = clip.frames[1:3].float().mean() - 30
        place = clip.captions[0]
        spectrum = np.abs(np.fft.rfft(clip.wave.samples))
        hertz = np.argmax(spectrum) * 2
        number = words.index(place)
        assert abs(middle / 48 - number) <= 0.55 and abs(hertz / 200 - 1 - number) <= 1.05
        seen.add(place)
    assert len(seen) >= 3


def test_evaluation_sees_the_middle_whole_and_the_first_captions():
    fields = {"mp4": film(), "txt": b"a dog\na cat\na photo\na thing"}
    clip = reader(clip_config("none.tar")).read(fields, "x", None)
    assert clip.captions == ["a dog", "a cat", "a photo"]
    levels = clip.frames.float().mean((1, 2, 3))
    assert [round(float(value - 30) / 12) for value in levels] == [6, 7, 8, 9]
    assert clip.frames[0].float().sub(level(6)).abs().max() < 4


def test_named_ids_say_which_clips_show_the_same():
    data = clip_config("none.tar")
    named = json.dumps({"image_id": 7, "captions": ["a dog"]}).encode()
    ids = [
        reader(data, named_ids=names).read({"mp4": content, "json": named}, "x", None).clip_id
        for names, content in ((True, SHORT), (True, MUTE), (False, SHORT), (False, MUTE))
    ]
    assert ids[0] == ids[1] and len(set(ids)) == 3


# Captions near a time


def test_captions_near_by_hand():
    timed = [Caption("a", 0, 1), Caption("b", 2, 4), Caption("c", 5, 6), Caption("d", 3, 10)]
    assert captions_near(timed, 3.2, 1, None) == ["b"]
    assert captions_near(timed, 3.2, 2, random.Random(0)) == ["b", "d"]
    assert captions_near(timed, 4.6, 3, None) == ["b", "c", "d"]
    assert captions_near(timed, 100, 1, None) == ["d"]
    assert captions_near([*timed, Caption("always")], 100, 1, None) == ["always"]
    plain = [Caption(text) for text in "abcdef"]
    assert captions_near(plain, 0, 2, None) == ["a", "b"]
    drawn = Counter(text for seed in range(600) for text in captions_near(plain, 0, 2, random.Random(seed)))
    assert set(drawn) == set("abcdef") and min(drawn.values()) > 150


@pytest.mark.parametrize(
    "captions",
    [
        [{"text": "a", "start": 2, "end": 1}],
        [{"text": "a", "start": 2}],
        [{"text": "a", "start": "1", "end": "2"}],
        [{"text": "a", "start": True, "end": 2}],
        [{"text": "a", "start": 0, "end": float("inf")}],
        [{"text": "a", "start": 0, "end": 10**400}],
    ],
)
def test_impossible_times_have_a_cause(captions):
    fields = {"json": json.dumps({"captions": captions}).encode()}
    with pytest.raises(BadSample, match=f"^{BAD_TIMES}$"):
        timed_captions(fields, str.strip)


def test_a_tokenizer_learns_from_timed_captions(tmp_path):
    said = {"captions": [{"text": "A dog!", "start": 0, "end": 1}, "a cat"]}
    assert list(read_texts(write(tmp_path, sample("a", mp4=MUTE, json=said)), 30)) == ["a dog", "a cat"]


# The stream


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_run_goes_on_to_the_bit(shards, workers):
    data = clip_config(shards, workers=workers, shuffle_buffer=4, augment=AugmentConfig())
    whole = clips(data, batch_size=2, seed=5)
    there = list(islice(whole, 10))
    whole.close()
    first = clips(data, batch_size=2, seed=5)
    for _ in range(4):
        next(first)
    state = LoaderState.from_json(json.loads(json.dumps(first.state.to_json())))
    first.close()
    second = clips(data, batch_size=2, seed=5, start=[state])
    here = list(islice(second, 6))
    second.close()
    for one, other in zip(there[4:], here, strict=True):
        assert one.keys == other.keys and one.notices == other.notices
        assert all(a.equal(b) for a, b in zip(tensors_of(one), tensors_of(other), strict=True))
    assert not all(a.equal(b) for a, b in zip(tensors_of(there[0]), tensors_of(there[1]), strict=True))


def damaged(content: bytes, rng: random.Random) -> bytes:
    """With some bytes replaced, in the headers and the index as a rule."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 3, 20))):
        index = made.rfind(b"moov") if rng.random() < 0.5 else 0
        at = index + rng.randrange(min(2_000, len(made) - index))
        made[at] = rng.randrange(256)
    return bytes(made)


def test_workers_live_whatever_the_files_are(tmp_path):
    rng = random.Random(0)
    odd = [sample(f"odd{i}", mp4=damaged(rng.choice((SHORT, MUTE)), rng), txt=b"a dog") for i in range(60)]
    odd += [sample(f"cut{i}", mp4=SHORT[: rng.randrange(len(SHORT))], txt=b"a dog") for i in range(20)]
    odd += [sample(f"wav{i}", mp4=MUTE, wav=damaged(WAV, rng), txt=b"a dog") for i in range(20)]
    good = [sample(f"good{i}", mp4=SHORT, txt=b"a dog") for i in range(20)]
    shuffled = odd + good
    rng.shuffle(shuffled)
    batches = clips(clip_config(write(tmp_path, *shuffled), workers=2, shuffle_buffer=120), batch_size=4)
    keys = Counter(key for batch in islice(batches, 40) for key in batch.keys)
    batches.close()
    assert {f"000000.tar/good{i}" for i in range(20)} <= keys.keys()
    assert batches.bad.total["truncated video, its index (moov) is missing"] > 5
    assert not any("while reading" in cause for cause in batches.bad.total), batches.bad.total
