"""TCL of video and text through the trainer: read, resumed to the bit, exported, judged, and learned from."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from clips_run import clips_run
from data_files import TOKENIZER, encode, noise, write_tar
from launching import launch
from media_files import FPS, film, grey, level, tone
from moving_squares import FRAMES, KINDS, SIDE, moving_squares
from safetensors.torch import load_file
from small_run import rows, train
from test_clip_reader import SPECTROGRAM, clip_config

from tcl import load_model
from tcl.commands.main import run
from tcl.config.audio import AudioConfig
from tcl.config.data import AugmentConfig
from tcl.config.video import VideoConfig
from tcl.data.feed.video_text_reader import VideoTextReader
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.errors import InputError

TIMED = [{"text": "a dog", "start": 0, "end": 0.4}, {"text": "a cat", "start": 9, "end": 9}]


def reader(hears: bool = True, **augment) -> VideoTextReader:
    data = clip_config("none.tar", augment=AugmentConfig(**{"randaugment_ops": 0, "blur_prob": 0.0, **augment}))
    video, audio = VideoConfig(frames=4, fps=FPS), AudioConfig(spectrogram=SPECTROGRAM)
    return VideoTextReader(data, video, audio, TOKENIZER, image_size=16, mlm_probability=0.5, hears=hears)


def test_two_views_show_the_same_seconds_with_the_caption_that_is_nearest():
    content = film([grey(i) for i in range(16)], sound=tone(2, 24_000))
    read = reader(crop_scale=(0.2, 0.5), color_jitter_prob=0.0, grayscale_prob=0.0)
    for seed in range(4):
        clip = read.read({"mp4": content, "json": json.dumps({"captions": TIMED}).encode()}, "x", random.Random(seed))
        assert clip.captions == ["a dog"]
        for frames in (clip.frames, clip.other_frames):
            numbers = [round((value - level(0)) / 12) for value in frames.float().mean((1, 2, 3)).tolist()]
            assert numbers == list(range(numbers[0], numbers[0] + 4))
        assert (clip.frames.float() - clip.other_frames.float()).abs().max() < 4, "grey frames, however they are cut"


def test_two_views_are_cut_each_in_its_own_way_and_all_frames_of_one_alike():
    picture = np.asarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3)), np.uint8)
    smooth = np.kron(picture[::8, ::8], np.ones((8, 8, 1), np.uint8))
    clip = reader(crop_scale=(0.2, 0.4)).read({"mp4": film([smooth] * 8), "txt": b"a dog"}, "x", random.Random(0))
    for frames in (clip.frames, clip.other_frames):
        assert (frames.float() - frames[:1].float()).abs().mean() < 2
    assert (clip.frames.float() - clip.other_frames.float()).abs().mean() > 10
    still = reader(crop_scale=(0.2, 0.4)).read({"jpg": encode(noise(1)), "txt": b"a dog"}, "x", random.Random(0))
    assert still.frames.equal(still.frames[:1].expand_as(still.frames)) and not still.frames.equal(still.other_frames)


def test_a_batch_has_views_masked_texts_and_sounds_where_there_are_any():
    read = reader()
    samples = [
        {"mp4": film([grey(1)] * 8, sound=tone(1, 24_000)), "txt": b"a red dog and a blue cat"},
        {"jpg": encode(noise(2)), "txt": b"a photo"},
    ]
    batch = read.batch([read.read(one, str(i), random.Random(i)) for i, one in enumerate(samples)], seed=3)
    images, texts = batch.inputs["image"], batch.inputs["text"]
    assert images.view.shape == images.other_view.shape == (2, 4, 3, 16, 16) and images.view.dtype == torch.uint8
    assert batch.present["audio"].tolist() == [True, False] and len(set(batch.ids.tolist())) == 2
    masked = texts.masked
    assert len(masked.positions) and texts.ids.flatten()[masked.positions].equal(masked.labels)
    assert "image (2, 4, 3, 16, 16)" in batch.describe()


def test_sound_that_nothing_is_learned_from_is_not_read():
    content = film([grey(1)] * 8)
    fields = {"mp4": content, "wav": b"no sound at all", "txt": b"a dog"}
    quiet = reader(hears=False)
    clip = quiet.read(fields, "x", random.Random(0))
    batch = quiet.batch([clip], 0)
    assert "audio" not in batch.inputs and batch.present == {}
    with pytest.raises(BadSample):
        reader().read(fields, "x", random.Random(0))


def test_samples_without_a_clip_or_a_caption_are_counted():
    for fields, cause in (
        ({"mp4": film([grey(1)])}, "missing caption"),
        ({"wav": b"x", "txt": b"a dog"}, "no video or image"),
        ({"txt": b"a dog"}, "no video or image"),
    ):
        with pytest.raises(BadSample, match=rf"^{cause}$"):
            reader(hears=False).read(fields, "x", random.Random(0))


def test_parts_of_one_video_are_different_clips():
    content, ids = film([grey(i) for i in range(16)]), set()
    for part in ({"start": 0, "end": 1}, {"start": 1, "end": 2}, {}, {}):
        said = json.dumps({"caption": "a dog", **part}).encode()
        ids.add(reader().read({"mp4": content, "json": said}, "x", random.Random(0)).clip_id)
    assert len(ids) == 3


def video_text_run(folder: Path) -> list[str]:
    """Every seventh sample of `clips_run` has no caption."""
    options = [one for one in clips_run(folder) if not one.startswith("--objective")]
    return [*options, "--objective=video_text", "--objective.queue_size=20", "--data.max_bad_fraction=1"]


def test_a_run_resumes_to_the_bit_and_is_exported_and_judged(tmp_path, capsys):
    val = f"{tmp_path / 'clips'}/*.tar"
    common = [*video_text_run(tmp_path), "--objective.va_weight=1", "--train.steps=4", "--eval.rerank_k=3"]
    whole = train(common, tmp_path / "whole", "--train.save_every=2", f"--data.val={val}", "--eval.every=4")
    losses = [row for row in rows(tmp_path / "whole") if "loss" in row]
    names = ("loss", "i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text", "itm", "mlm", "va", "grad_norm")
    assert all(math.isfinite(losses[-1][name]) for name in names) and 0 < losses[-1]["with_audio"] <= 1
    judged = rows(tmp_path / "whole")[-1]
    assert judged["eval_rerank_t2i_r10"] >= judged["eval_rerank_t2i_r1"]
    assert len((tmp_path / "whole" / "results" / "retrieval.jsonl").read_text().splitlines()) == 27 + 54
    assert "data:image/jpeg" in (tmp_path / "whole" / "results" / "gallery.html").read_text()

    again = train(common, tmp_path / "again", f"--train.resume={whole.with_name('step_00000002')}")
    for file in ("student.safetensors", "teacher.safetensors"):
        ours, theirs = load_file(again / file), load_file(whole / file)
        assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)

    run(["export", str(whole), str(tmp_path / "export")])
    assert "TCLForVideo.from_pretrained" in (tmp_path / "export" / "README.md").read_text()
    weights = load_file(whole / "student.safetensors")
    loaded = load_model(tmp_path / "export", device="cpu").student.state_dict()
    assert all(loaded[name].equal(weights[name]) for name in weights)
    capsys.readouterr()
    judge = ["evaluate", "--task=retrieval", "--objective=video_text", f"--init={tmp_path / 'export'}"]
    more = ["--eval.rerank_k=3", "--data.workers=0", f"--output_dir={tmp_path / 'judged'}", "--train.precision=fp32"]
    run([*judge, f"--data.val={val}", "--data.max_tokens=25", *more])
    found = json.loads((tmp_path / "judged" / "results" / "metrics.json").read_text())
    assert found["rerank_mean"] == pytest.approx(judged["eval_rerank_mean"])


def test_a_run_starts_from_a_model_of_pairs_or_of_clips(tmp_path, capsys):
    options = clips_run(tmp_path)
    of_clips = ("--objective", "--data.clips", "--model.video", "--model.audio", "--model.spaces")
    few = ["--train.steps=1", "--data.max_bad_fraction=1"]
    of_pairs = [*(one for one in options if not one.startswith(of_clips)), *few, "--objective.queue_size=20"]
    own = [one for one in options if not one.startswith("--objective")]
    own += ["--objective=video_text", "--objective.queue_size=20", "--objective.va_weight=1", *few]
    pairs = train(of_pairs, tmp_path / "pairs")
    clips = train([*options, "--model.text.fusion_layers=1", "--train.steps=1"], tmp_path / "clips_run")
    capsys.readouterr()
    from_pairs = load_file(train([*own, f"--init={pairs}"], tmp_path / "a") / "student.safetensors")
    assert "they start random" in capsys.readouterr().out
    given = load_file(pairs / "student.safetensors")
    for name in ("encoders.vision_proj.weight", "encoders.text_proj.weight", "itm_head.weight"):
        torch.testing.assert_close(from_pairs[name], given[name], atol=1e-3, rtol=0)
    from_clips = load_file(train([*own, f"--init={clips}"], tmp_path / "b") / "student.safetensors")
    given = load_file(clips / "student.safetensors")
    for name, place in (
        ("image_encoder.video.image_encoder.vit.pos_embed", "video_encoder.image_encoder.vit.pos_embed"),
        ("text_encoder.bert.embeddings.word_embeddings.weight",) * 2,
    ):
        torch.testing.assert_close(from_clips[f"encoders.{name}"], given[f"encoders.{place}"], atol=1e-3, rtol=0)
    sound = "audio_encoder.vit.pos_embed"
    torch.testing.assert_close(from_clips[f"sound.{sound}"], given[f"encoders.{sound}"], atol=1e-3, rtol=0)


def test_a_dry_run_tells_its_batch_and_its_memory(tmp_path, capsys):
    run(["pretrain", *video_text_run(tmp_path), f"--output_dir={tmp_path / 'run'}", "--dry_run"])
    out = capsys.readouterr().out
    assert "image (4, 2, 3, 32, 32)" in out and "activations" in out and "not usable: " in out


@pytest.mark.parametrize(
    "option, line",
    [
        ("--data.augment.on_device=true", r"data\.augment\.on_device: True is not possible; accepted: false"),
        ("--model.video.frames=0", r"model\.video\.frames: 0 is not possible; accepted: frames, 1 to 1024"),
        ("--model.video.frames=1025", r"model\.video\.frames: 1025 is not possible; accepted: frames, 1 to 1024"),
        ("--objective.distil_itm_weight=1", r"objective\.distil_itm_weight: 1\.0 is not possible; accepted: 0, unless"),
    ],
)
def test_options_that_clips_do_not_have(tmp_path, option, line):
    with pytest.raises(InputError, match=rf"^{line}"):
        train([*video_text_run(tmp_path), option], tmp_path / "run")


def test_clips_that_nothing_can_be_asked_of_are_no_evaluation(tmp_path):
    wordless = write_tar(tmp_path / "val.tar", [("0.mp4", film([grey(1)])), ("1.txt", b"a dog")])
    with pytest.raises(InputError, match=r"^data\.val: .* holds no usable image-text pair: .*no video or image 1"):
        train([*video_text_run(tmp_path), f"--data.val={wordless}"], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [None, "zero2", "zero3"])
def test_two_processes_save_and_go_on(tmp_path, sharding):
    more = [f"--train.deepspeed={sharding}"] if sharding else []
    arguments = [*video_text_run(tmp_path), *more, "--objective.va_weight=1", f"--output_dir={tmp_path / 'run'}"]
    done = launch("pretrain.py", *arguments, "--train.steps=2")
    assert done.returncode == 0, done.stderr
    done = launch("pretrain.py", *arguments, "--train.steps=3", "--train.resume=auto")
    assert done.returncode == 0, done.stderr
    weights = load_file(tmp_path / "run" / "checkpoints" / "step_00000003" / "student.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


@pytest.mark.slow
def test_what_moves_which_way_is_learned(tmp_path):
    """Twelve held-out clips of three colours and four ways; chance is 8 %, colours alone tell 25, with the axis 50."""
    shard = moving_squares(tmp_path / "train.tar", 10 * len(KINDS))
    train_tokenizer(shard, tmp_path / "tokenizer", vocab_size=100)
    sizes = "{hidden_size: 32, num_hidden_layers: 4, num_attention_heads: 2, intermediate_size: 64, "
    options = [
        f"--data.train=[{{'shards': '{shard}'}}]",
        f"--data.val={moving_squares(tmp_path / 'val.tar', len(KINDS), first=3)}",
        "--data.workers=0",
        "--objective=video_text",
        "--objective.queue_size=24",
        "--objective.momentum=0.98",
        "--objective.alpha=0",
        "--data.augment={flip_prob: 0, crop_scale: [0.9, 1], color_jitter_prob: 0, grayscale_prob: 0, blur_prob: 0, "
        "randaugment_ops: 0}",
        f"--model.video={{frames: {FRAMES}, fps: {FPS}, temporal: attention}}",
        f"--model.image={{image_size: {SIDE}, overrides: {{embed_dim: 32, depth: 2, num_heads: 2, patch_size: 8}}, "
        "position_std: 0.5}",
        f"--model.text.tokenizer={tmp_path / 'tokenizer'}",
        f"--model.text.overrides={sizes}hidden_dropout_prob: 0, initializer_range: 0.1}}",
        "--model.embed_dim=16",
        "--optim.lr=0.003",
        "--optim.warmup_steps=20",
        "--train.batch_size=24",
        "--train.steps=300",
        "--train.precision=fp32",
        "--train.log_every=50",
        "--eval.every=300",
        "--eval.rerank_k=4",
    ]
    train(options, tmp_path / "run")
    found = rows(tmp_path / "run")[-1]
    assert found["eval_t2i_r1"] > 50 and found["eval_rerank_t2i_r1"] > 30
