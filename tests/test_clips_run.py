"""Clips go through the same trainer as pairs: they resume to the bit, are exported, and start from models of pairs."""

import json
import math
from pathlib import Path

import pytest
import torch
from clips_run import clips_run
from launching import launch
from safetensors.torch import load_file
from small_run import rows, train

from tcl import load_model
from tcl.commands.main import run
from tcl.commands.task_options import parse_pretrain
from tcl.data.feed.clip_reader import ClipReader
from tcl.data.shards.read_shard import read_samples
from tcl.data.texts.tokenize import load_tokenizer
from tcl.data.video.clips import Clips
from tcl.errors import InputError
from tcl.exports.pretrained import load_pretrained


def test_a_run_resumes_to_the_bit_and_is_exported(tmp_path, capsys):
    common = [*clips_run(tmp_path), "--train.steps=4", "--model.spaces.graph=shared"]
    whole = train(common, tmp_path / "whole", "--train.save_every=2")
    last = rows(tmp_path / "whole")[-1]
    assert all(math.isfinite(last[name]) for name in ("loss", "va", "vt", "grad_norm"))
    assert 0 < last["with_audio"] <= 1 and 0 < last["with_text"] <= 1

    again = train(common, tmp_path / "again", f"--train.resume={whole.with_name('step_00000002')}")
    ours, theirs = load_file(again / "student.safetensors"), load_file(whole / "student.safetensors")
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
    assert any(name.endswith("batches") for name in ours)

    run(["export", str(whole), str(tmp_path / "export")])
    loaded = load_model(tmp_path / "export", device="cpu").student.state_dict()
    assert all(loaded[name].equal(theirs[name]) for name in theirs)


def test_the_image_and_text_encoders_of_a_model_of_pairs_are_taken_over(tmp_path):
    options = clips_run(tmp_path)
    of_clips = ("--objective", "--data.clips", "--model.video", "--model.audio", "--model.spaces")
    of_pairs = [one for one in options if not one.startswith(of_clips)]
    more = ["--objective.queue_size=20", "--train.steps=1", "--data.max_bad_fraction=1"]
    pairs = train([*of_pairs, *more], tmp_path / "p")
    clips = train([*options, f"--init={pairs}", "--model.text.fusion_layers=1", "--train.steps=1"], tmp_path / "c")
    given, found = (load_file(folder / "student.safetensors") for folder in (pairs, clips))
    embeddings = "encoders.text_encoder.bert.embeddings.word_embeddings.weight"
    torch.testing.assert_close(found[embeddings], given[embeddings], atol=1e-3, rtol=0)
    torch.testing.assert_close(
        found["encoders.video_encoder.image_encoder.vit.pos_embed"],
        given["encoders.image_encoder.vit.pos_embed"],
        atol=1e-3,
        rtol=0,
    )


def test_options_that_clips_do_not_have(tmp_path):
    with pytest.raises(InputError, match=r"^data\.augment\.on_device: True is not possible; accepted: false"):
        train([*clips_run(tmp_path), "--data.augment.on_device=true"], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [None, "zero2", "zero3"])
def test_two_processes_save_and_go_on(tmp_path, sharding):
    more = [f"--train.deepspeed={sharding}"] if sharding else []
    arguments = [*clips_run(tmp_path), *more, "--model.video.temporal=attention", f"--output_dir={tmp_path / 'run'}"]
    done = launch("pretrain.py", *arguments, "--train.steps=2")
    assert done.returncode == 0, done.stderr
    done = launch("pretrain.py", *arguments, "--train.steps=3", "--train.resume=auto")
    assert done.returncode == 0, done.stderr
    weights = load_file(tmp_path / "run" / "checkpoints" / "step_00000003" / "student.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert weights["encoders.spaces.heads.va_vat.layers.1.batches"] == 3


def test_held_out_clips_are_found_by_each_other(tmp_path):
    """Recalls against ranks by hand, of the clips that have both."""
    options = clips_run(tmp_path)
    run_folder = tmp_path / "run"
    checkpoint = train([*options, f"--data.val={tmp_path / 'clips'}/*.tar", "--train.steps=1"], run_folder)
    found = json.loads(next(run_folder.rglob("retrieval.json")).read_text())
    student = load_pretrained(str(checkpoint)).student
    reader, clips = reader_of(options, tmp_path), []
    for url in sorted(map(str, (tmp_path / "clips").glob("*.tar"))):
        clips += [reader.read(sample.usable(), sample.key, None) for sample in read_samples(url)]
    batch, encoders = reader.batch(clips, 0), student.encoders
    frames = encoders.video_encoder.prepare(batch.inputs["video"].frames)
    exist = batch.inputs["text"].exist
    with torch.no_grad():
        video = encoders.embed_clips(Clips(frames))["vat"]
        text = encoders.embed_captions(batch.inputs["text"], exist)["vat"]
    owners = [b for b in range(len(clips)) for k in range(exist.shape[1]) if exist[b, k]]
    cosines = torch.nn.functional.cosine_similarity(video[:, None], text[exist][None], dim=2)
    ranks = []
    for b in set(owners):
        best = max(cosines[b, c].item() for c, owner in enumerate(owners) if owner == b)
        ranks.append(1 + sum(cosines[b, c].item() > best for c in range(len(owners))))
    assert found["video2text_candidates"] == len(owners)
    assert found["text2video_candidates"] == len(set(owners))
    assert found["video2text_r5"] == pytest.approx(100 * sum(rank <= 5 for rank in ranks) / len(ranks), rel=1e-6)
    assert found.keys() >= {"audio2text_r1", "video2audio_median_rank", "text2audio_r10"}


def reader_of(options: list[str], folder: Path) -> ClipReader:
    config = parse_pretrain([*options, f"--output_dir={folder / 'none'}"])
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    return ClipReader(config.data, config.model.video, config.model.audio, tokenizer, image_size=32)
