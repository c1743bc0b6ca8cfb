"""A loaded model of clips: each modality in the space of each other one, retrieval, and what is refused in one line."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import TOKENIZER, encode, noise
from media_files import film, tone, wav
from tiny_pretrained import PLAIN, tiny_clips
from torch.nn import functional as F

from tcl import TCLForClips, load_model
from tcl.config.clips_objective import ClipsObjectiveConfig
from tcl.config.data import DataConfig
from tcl.data.feed.clip_reader import ClipReader
from tcl.data.video.clips import Clips
from tcl.errors import InputError
from tcl.models.spaces import GRAPHS
from tcl.objectives.clips import Parts

RATE = 8000
FILM = film([np.asarray(noise(i, (64, 48))) for i in range(16)], sound=tone(2, 24_000))
MUTE = film([np.asarray(noise(i, (64, 48))) for i in range(8)])
WAV = wav(tone(0.6, RATE), RATE)
TEXTS = ["a photo of dog", "red cat on mat", "blue"]
WITH_AUDIO_TEXT = ClipsObjectiveConfig(at_weight=1)


def as_evaluated(model: TCLForClips, **fields: bytes) -> dict[str, dict[str, torch.Tensor]]:
    """By modality and space, [1, dim], what the networks make of a sample of a shard."""
    known, encoders = model.pretrained.model, model.student.encoders
    reader = ClipReader(DataConfig(), known.video, known.audio, TOKENIZER, image_size=32, required=())
    inputs = reader.batch([reader.read(fields, "key", None)], 0).inputs
    with torch.no_grad():
        return {
            "video": encoders.embed_clips(Clips(encoders.video_encoder.prepare(inputs["video"].frames))),
            "audio": encoders.embed_sounds(inputs["audio"]),
        }


def by_hand(rows: torch.Tensor) -> np.ndarray:
    return F.normalize(rows.double(), dim=-1).numpy()


@pytest.mark.parametrize("graph", GRAPHS)
def test_each_modality_in_the_space_of_each_other_one(graph, tmp_path):
    model = tiny_clips(graph=graph, objective=WITH_AUDIO_TEXT)
    path = tmp_path / "a.mp4"
    path.write_bytes(FILM)
    spaces = {"video audio": "va", "video text": "vat", "audio text": GRAPHS[graph].audio_text}
    found = as_evaluated(model, mp4=FILM)
    for pair, space in spaces.items():
        for one, other in (pair.split(), pair.split()[::-1]):
            if one == "text":
                ids = TOKENIZER(["[CLS] red cat on mat"], add_special_tokens=False, return_tensors="pt")
                with torch.no_grad():
                    wanted = model.student.encoders.embed_texts(ids["input_ids"], ids["attention_mask"])[space]
                given = model.encode_text("Red cat on (mat)!", to=other)
            else:
                wanted = found[one][space]
                encode_it = model.encode_video if one == "video" else model.encode_audio
                given = encode_it(path, to=other)
            assert given.dtype == np.float32
            np.testing.assert_allclose(given, by_hand(wanted), atol=1e-5, err_msg=f"{one} to {other}")


def test_sounds_beside_and_photographs_are_seen_as_in_evaluation():
    model, picture = tiny_clips(), encode(noise(3, (40, 36)))
    found = as_evaluated(model, jpg=picture, wav=WAV)
    np.testing.assert_allclose(model.encode_video(picture, to="audio"), by_hand(found["video"]["va"]), atol=1e-5)
    np.testing.assert_allclose(model.encode_audio(io.BytesIO(WAV)), by_hand(found["audio"]["va"]), atol=1e-5)


@pytest.mark.parametrize(
    ("count", "seen"), [(4, [0, 1, 2, 3]), (3, [0, 1, 2, 0]), (1, [0, 0, 0, 0]), (9, [2, 3, 4, 5])]
)
def test_frames_that_are_numbers(count, seen):
    model = tiny_clips()
    frames = np.stack([np.asarray(noise(i, (32, 32))) for i in range(count)])
    chosen = torch.from_numpy(frames[seen]).permute(0, 3, 1, 2)[None]
    encoders = model.student.encoders
    with torch.no_grad():
        wanted = by_hand(encoders.embed_clips(Clips(encoders.video_encoder.prepare(chosen)))["vat"])
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    for given in (frames, tensor, [tensor]):
        np.testing.assert_allclose(model.encode_video(given), wanted, atol=1e-5)


def test_waves_that_are_numbers_are_heard_as_files_of_them():
    """At another rate than the model's, too; of a longer one the middle."""
    model, rate = tiny_clips(), 24_000
    samples = np.random.default_rng(0).integers(-8000, 8000, 3 * rate).astype(np.float32) / 2**15
    as_file = io.BytesIO()
    with wave.open(as_file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((samples * 2**15).astype("<i2").tobytes())
    from_file = model.encode_audio(as_file.getvalue())
    np.testing.assert_allclose(model.encode_audio(samples, rate=rate), from_file, atol=1e-5)
    np.testing.assert_allclose(model.encode_audio(torch.from_numpy(samples), rate=rate), from_file, atol=1e-5)
    others = model.encode_audio([samples[:rate], samples[rate : 2 * rate]], rate=rate)
    np.testing.assert_allclose(others[1], from_file[0], atol=1e-3)
    assert abs(others[0] - from_file[0]).max() > 0.01


def test_any_two_modalities_find_each_other(tmp_path):
    model = tiny_clips(batch_size=2)
    for i in range(5):
        (tmp_path / f"{i}.mp4").write_bytes(film([np.asarray(noise(9 * i + n)) for n in range(8)]))
    videos = model.embed_video(sorted(tmp_path.glob("*.mp4")))
    sounds = model.embed_audio([tone(0.5 + i / 8, RATE, 200 + 150 * i) for i in range(5)], rate=RATE)
    texts = model.embed_text(TEXTS)
    assert videos.items[2] == tmp_path / "2.mp4"
    for query, corpus, space in ((texts, videos, "vat"), (videos, sounds, "va"), (sounds, texts, "vat")):
        cosines = query.spaces[space].astype(np.float64) @ corpus.spaces[space].T
        found = model.retrieve(query, corpus, k=3)
        np.testing.assert_array_equal(found.ids, np.argsort(-cosines, axis=1)[:, :3])
        np.testing.assert_allclose(found.similarities, -np.sort(-cosines, axis=1)[:, :3], atol=1e-5)
        np.testing.assert_array_equal(found.match_scores, found.similarities)
    np.testing.assert_array_equal(model.retrieve(TEXTS, videos, 2).ids, model.retrieve(texts, videos, 2).ids)
    np.testing.assert_array_equal(model.retrieve(videos, TEXTS, 2).ids, model.retrieve(videos, texts, 2).ids)


@pytest.mark.parametrize(
    ("graph", "objective"),
    [
        ("shared", ClipsObjectiveConfig()),
        ("disjoint", WITH_AUDIO_TEXT),
        ("fac", ClipsObjectiveConfig(vt_weight=0)),
        ("fac", ClipsObjectiveConfig(va_weight=0)),
    ],
)
def test_it_is_exported_and_loaded_as_it_is(graph, objective, tmp_path):
    model = tiny_clips(graph=graph, objective=objective)
    model.save_pretrained(tmp_path / "export")
    again = load_model(tmp_path / "export", **PLAIN)
    assert type(again) is TCLForClips
    assert again.modalities == model.modalities
    partner = "audio" if objective.va_weight else "text"
    np.testing.assert_array_equal(again.encode_video(FILM, to=partner), model.encode_video(FILM, to=partner))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, p: m.encode_video(p, to="image"), r"to: 'image', which .* knows 'video', 'audio', 'text'$"),
        (
            lambda m, p: m.encode_video(p, to="video"),
            r"to: 'video', .* compare with 'video'; accepted: 'audio', 'text'$",
        ),
        (
            lambda m, p: m.encode_video([FILM, p]),
            r"clips\[1\]: '.*notes\.mp4' cannot be used: text in place of video; g",
        ),
        (lambda m, p: m.encode_video(FILM[:-900]), r"clips\[0\]: [\d,]+ bytes cannot be used: truncated video.*; give"),
        (lambda m, p: m.encode_video(p.parent / "none.mp4"), r"clips\[0\]: '.*none\.mp4' is no file; give an MP4"),
        (lambda m, p: m.encode_video(WAV), r"clips\[0\]: .* cannot be used: no video track; give an MP4"),
        (lambda m, p: m.encode_video([]), r"clips: there are none; give at least one$"),
        (lambda m, p: m.encode_video(7), r"clips: a int cannot be one; give a path"),
        (lambda m, p: m.encode_video([7]), r"clips\[0\]: a int cannot be one; give a path"),
        (lambda m, p: m.encode_video(np.zeros((4, 4, 3), np.uint8)), r"clips\[0\]: frames of shape \[4, 4, 3\]; acc"),
        (lambda m, p: m.encode_video(np.zeros((2, 4, 4, 5), np.uint8)), r"clips\[0\]\[0\]: a numpy array of shape"),
        (lambda m, p: m.encode_audio(MUTE), r"sounds\[0\]: .* cannot be used: no sound in the clip; give a WAV"),
        (lambda m, p: m.encode_audio(wav(np.zeros(RATE), RATE)), r"sounds\[0\]: .* cannot be used: silent sound; give"),
        (lambda m, p: m.encode_audio([WAV, p]), r"sounds\[1\]: '.*notes\.mp4' cannot be used: text in place of sound"),
        (
            lambda m, p: m.encode_audio(encode(noise())),
            r"sounds\[0\]: .* cannot be used: unknown format of sound; give",
        ),
        (
            lambda m, p: m.encode_audio(tone(1, RATE)),
            r"rate: None, and sounds\[0\] is an array; give its samples a sec",
        ),
        (
            lambda m, p: m.encode_audio(tone(1, RATE), rate=100),
            r"rate: 100 .*samples a second of the arrays, an integer",
        ),
        (
            lambda m, p: m.encode_audio(np.zeros(9, np.int16), rate=RATE),
            r"sounds\[0\]: .* type int16; accepted: floats",
        ),
        (lambda m, p: m.encode_audio(np.ones((2, 9)), rate=RATE), r"sounds\[0\]: an array of shape \[2, 9\] and type"),
        (
            lambda m, p: m.encode_audio(900 * tone(1, RATE), rate=RATE),
            r"sounds\[0\]: samples of up to 450; accepted: 1",
        ),
        (
            lambda m, p: m.encode_audio(np.zeros(RATE), rate=RATE),
            r"sounds\[0\]: silent sound; give one that can be heard",
        ),
        (lambda m, p: m.encode_text(["dog", "?!"]), r"texts\[1\]: '\?!' has no words; give a text$"),
        (
            lambda m, p: m.retrieve("dog", TEXTS, 1),
            r"corpus: 'text', .* compare with 'text'; accepted: 'video', 'audio'",
        ),
        (lambda m, p: m.retrieve("dog", m.embed_video(FILM), 2), r"k: 2, of a corpus of 1; accepted: 1 to 1$"),
    ],
)
def test_what_cannot_be_used_is_one_line(call, said, tmp_path):
    notes = Path(tmp_path / "notes.mp4")
    notes.write_text("no video")
    with pytest.raises(InputError, match=f"^{said}") as refused:
        call(tiny_clips(batch_size=1), notes)
    assert len(str(refused.value).splitlines()) == 1


def test_what_training_never_compared(tmp_path):
    """Sound and text have no space of their own without a loss; a modality without one is not known at all."""
    apart = tiny_clips(graph="disjoint")
    said = r"^to: 'text', which this model does not compare with 'audio'; accepted: 'video'$"
    with pytest.raises(InputError, match=said):
        apart.encode_audio(WAV, to="text")
    with pytest.raises(InputError, match=r"^corpus: 'audio', .* compare with 'text'; accepted: 'video'$"):
        apart.retrieve("dog", apart.embed_audio(WAV), 1)
    deaf = tiny_clips(objective=ClipsObjectiveConfig(va_weight=0))
    with pytest.raises(
        InputError, match=r"^sounds: 'audio', which this model was not trained on; it knows 'video', 't"
    ):
        deaf.embed_audio(WAV)
    with pytest.raises(
        InputError, match=r"^to: 'audio', which this model was not trained on; it knows 'video', 'text'"
    ):
        deaf.encode_video(FILM, to="audio")


def test_a_description_of_a_modality_that_there_is_not():
    with pytest.raises(
        InputError, match=r"^config\.json: untrained: 'smell' is not possible; accepted: null, 'audio' or"
    ):
        Parts(untrained="smell").check("config.json")
