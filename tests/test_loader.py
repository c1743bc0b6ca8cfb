"""The training loader as a whole: splitting, resuming, determinism, and when it stops."""

import json
import math
import os
import pickle
import re
import signal
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import chain, islice

import pytest
import torch
from data_files import (
    JPEG,
    NO_AUGMENT,
    TOKENIZER,
    config,
    encode,
    loader,
    noise,
    pair,
    pairs,
    write_shards,
    write_tar,
)

from tcl.config.data import SourceConfig
from tcl.data.batch import Batch, inputs_to, map_tensors, to_device
from tcl.data.feed.bad_samples import BadSamples
from tcl.data.feed.loader_state import LoaderState
from tcl.data.images.image_views import prepare_images
from tcl.data.images.normalise import normalise
from tcl.data.shards import read_shard
from tcl.errors import InputError


def tensors_of(value) -> list[torch.Tensor]:
    """All in a batch, in order."""
    found = []
    map_tensors(value, lambda tensor: found.append(tensor) or tensor)
    return found


def equal(a: Batch, b: Batch) -> bool:
    pairs_of_tensors = list(zip(tensors_of(a), tensors_of(b), strict=True))
    steps = [(x.inputs["image"].steps, x.inputs["image"].other_steps) for x in (a, b)]
    return a.keys == b.keys and steps[0] == steps[1] and all(x.equal(y) for x, y in pairs_of_tensors)


def take(batches, count: int) -> list[Batch]:
    return list(islice(batches, count))


@pytest.fixture
def shards(tmp_path) -> str:
    return write_shards(tmp_path / "shards", [9, 4, 11, 8])


# What a batch is


def test_batch(shards):
    batches = loader(config(shards))
    batch = next(batches)
    assert batches.samples == 32
    assert len(batch) == 4
    assert batch.inputs["image"].view.shape == batch.inputs["image"].other_view.shape == (4, 3, 16, 16)
    assert batch.inputs["image"].view.dtype == batch.inputs["image"].other_view.dtype == torch.uint8
    assert not batch.inputs["image"].view.equal(batch.inputs["image"].other_view)
    assert TOKENIZER.decode(batch.inputs["text"].ids[0]) == "[CLS] a photo of a dog"
    assert batch.inputs["text"].mask.equal(torch.ones_like(batch.inputs["text"].ids))
    texts = batch.inputs["text"]
    assert texts.ids.flatten()[texts.masked.positions].equal(texts.masked.labels)
    assert (texts.masked.ids != texts.ids).sum() <= len(texts.masked.positions)
    assert all(key.split("/")[0] == f"00000{key.split('/')[1][1]}.tar" for key in batch.keys)


def test_images_are_normalised_by_hand(shards):
    batch = next(loader(config(shards), named_ids=True))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    images = batch.inputs["image"]
    found = prepare_images(images, partial(normalise, mean=torch.tensor(mean), std=torch.tensor(std)))
    for name in ("view", "other_view"):
        pixels, image = getattr(images, name), getattr(found, name)
        assert image.dtype == torch.float32 and image.is_contiguous()
        for b, c, y, x in ((0, 0, 0, 0), (1, 1, 5, 3), (3, 2, 15, 15)):
            by_hand = (pixels[b, c, y, x].item() / 255 - mean[c]) / std[c]
            assert image[b, c, y, x].item() == pytest.approx(by_hand, abs=1e-5)


def test_batch_moves_between_devices(shards):
    batch = next(loader(config(shards), named_ids=True))
    moved = to_device(batch, "meta")
    assert {tensor.device.type for tensor in tensors_of(moved)} == {"meta"} and len(tensors_of(moved)) == 8
    assert moved.keys == batch.keys


def test_pinning_reaches_every_tensor(shards, monkeypatch):
    """DataLoader pins what has a pin_memory method; without a GPU, a stand-in shows what it is called on."""
    loaded = next(iter(loader(config(shards), named_ids=True)._stream))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    pinned = loaded.pin_memory()
    both = list(zip(tensors_of(pinned.batch), tensors_of(loaded.batch), strict=True))
    assert len(both) == 8 and all(one.equal(other + 1) for one, other in both)
    assert (pinned.batch.keys, pinned.position) == (loaded.batch.keys, loaded.position)


def test_only_images_change_their_precision(shards):
    batch = next(loader(config(shards), named_ids=True))
    images = prepare_images(batch.inputs["image"], torch.Tensor.float)
    halved = inputs_to(replace(batch, inputs=batch.inputs | {"image": images}), torch.bfloat16)
    assert halved.inputs["image"].view.dtype == halved.inputs["image"].other_view.dtype == torch.bfloat16
    kept = [(halved.inputs["text"], batch.inputs["text"]), (halved.ids, batch.ids)]
    assert all(x is y for a, b in kept for x, y in zip(tensors_of(a), tensors_of(b), strict=True))


def test_image_ids_are_equal_for_the_same_image_alone(tmp_path):
    """Named in the JSON, or else the bytes decide; the key plays no part."""
    same, other = encode(noise(1)), encode(noise(2))
    named = [("c.jpg", other), ("c.json", b'{"caption": "a dog", "image_id": 7}')]
    also_named = [("d.jpg", same), ("d.json", b'{"caption": "a cat", "image_id": 7}')]
    entries = [*pair("a", image=same), *pair("b", image=same), *named, *also_named, *pair("e", image=other)]
    path = write_tar(tmp_path / "0.tar", entries)
    batch = next(loader(config(str(path)), named_ids=True, batch_size=5))
    ids = dict(zip([key[-1] for key in batch.keys], batch.ids.tolist(), strict=True))
    assert ids["a"] == ids["b"] and ids["c"] == ids["d"]
    assert len({ids["a"], ids["c"], ids["e"]}) == 3 and min(ids.values()) >= 0


def test_images_of_sources_that_number_them_alike_are_told_apart_by_their_bytes(tmp_path):
    """Two sources may both have an image 7, and the same image may come from both."""
    same, other = encode(noise(1)), encode(noise(2))
    named = [("a.jpg", same), ("a.json", b'{"caption": "a dog", "image_id": 7}')]
    also_named = [("b.jpg", other), ("b.json", b'{"caption": "a cat", "image_id": 7}')]
    path = write_tar(tmp_path / "0.tar", [*named, *also_named, *pair("c", image=same)])
    batch = next(loader(config(str(path)), batch_size=3))
    ids = dict(zip([key[-1] for key in batch.keys], batch.ids.tolist(), strict=True))
    assert ids["a"] == ids["c"] != ids["b"]


# Splitting


def test_ranks_and_workers_share_an_epoch_without_overlap(shards):
    read = Counter()
    for rank in range(2):
        batches = loader(config(shards, workers=2), batch_size=2, rank=rank, world_size=2)
        read.update(key for batch in take(batches, 8) for key in batch.keys)
        assert all(s.epoch == 0 and s.sample == 8 for w in batches.state.workers for s in w.sources)
        batches.close()
    everything = [f"00000{s}.tar/s{s}_{i:04d}" for s, n in enumerate([9, 4, 11, 8]) for i in range(n)]
    assert read == Counter(everything)


def test_order_differs_by_epoch_and_is_that_of_the_seed(shards):
    keys = [batch.keys for batch in take(loader(config(shards)), 16)]
    assert sorted(chain(*keys[:8])) == sorted(chain(*keys[8:]))
    assert keys[:8] != keys[8:]
    assert keys == [batch.keys for batch in take(loader(config(shards)), 16)]
    assert keys != [batch.keys for batch in take(loader(config(shards), seed=1), 16)]


def test_a_visit_looks_the_same_whatever_worker_makes_it(tmp_path):
    path = write_tar(tmp_path / "0.tar", pairs("a", 8))

    def images(world_size: int) -> dict[str, torch.Tensor]:
        loaders = [loader(config(str(path)), batch_size=1, rank=r, world_size=world_size) for r in range(world_size)]
        batches = [batch for some in loaders for batch in take(some, 8 // world_size)]
        return {batch.keys[0]: batch.inputs["image"].view for batch in batches}

    alone, shared = images(1), images(4)
    assert alone.keys() == shared.keys()
    assert all(alone[key].equal(shared[key]) for key in alone)


def test_a_sample_looks_different_in_each_epoch(tmp_path):
    path = write_tar(tmp_path / "0.tar", pairs("a", 1))
    first, second = take(loader(config(str(path)), batch_size=1), 2)
    assert first.keys == second.keys
    assert not first.inputs["image"].view.equal(second.inputs["image"].view)


def test_masks_differ_between_batches_and_between_ranks(tmp_path):
    """All captions are alike, so only the draw of the mask can make a difference."""
    path = write_tar(tmp_path / "0.tar", pairs("a", 64))
    masks = {
        tuple(batch.inputs["text"].masked.positions.tolist())
        for rank in range(2)
        for batch in take(loader(config(str(path)), batch_size=8, rank=rank, world_size=2), 8)
    }
    assert len(masks) == 16


def test_weights_give_shares(tmp_path):
    heavy = SourceConfig(write_shards(tmp_path / "a", [5]), weight=3)
    write_tar(tmp_path / "b.tar", pairs("light", 3))
    batches = loader(config(heavy, SourceConfig(str(tmp_path / "b.tar"), weight=1), augment=NO_AUGMENT), batch_size=50)
    drawn = Counter(key.split("/")[0] for batch in take(batches, 10) for key in batch.keys)
    assert abs(drawn["000000.tar"] - 375) < 4 * math.sqrt(500 * 0.75 * 0.25)


def test_fewer_samples_than_workers(tmp_path):
    path = write_tar(tmp_path / "0.tar", pairs("a", 3))
    with pytest.raises(InputError, match=r"^data\.train: all sources hold 3 samples for 2 ranks x 2 workers[^\n]*$"):
        loader(config(str(path), workers=2), world_size=2)


@pytest.mark.parametrize("weights", [(1.0, None), (1.0, 0.0), (1.0, -1.0)])
def test_mixed_or_bad_weights(shards, weights):
    with pytest.raises(InputError, match=r"^data\.train: weights .*; give every source a weight > 0, or none of them$"):
        loader(config(*[SourceConfig(shards, weight) for weight in weights]))


def test_no_sources():
    with pytest.raises(InputError, match=r"^data\.train: no sources"):
        loader(config())


# Resuming


@pytest.mark.parametrize("weights", [None, (3.0, 1.0)])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_resume_is_exact(tmp_path, workers, weights):
    """With a bad sample in every third place, from several positions, over the end of the epoch."""
    sources = []
    for i, weight in enumerate(weights or (None, None)):
        entries = [e for n in range(11) for e in pair(f"{n}", image=b"" if n % 3 == 0 else JPEG)]
        sources.append(SourceConfig(str(write_tar(tmp_path / f"{i}.tar", entries)), weight))
    data = config(*sources, workers=workers, shuffle_buffer=4)
    whole = loader(data, batch_size=3)
    batches, states = [], [whole.state]
    for batch in islice(whole, 14):
        batches.append(batch)
        states.append(whole.state)
    whole.close()
    for done in (0, 1, 4, 7) if workers else range(8):
        state = LoaderState.from_json(json.loads(json.dumps(states[done].to_json())))
        assert state == states[done]
        resumed = loader(data, batch_size=3, start=[state])
        for i, batch in enumerate(islice(resumed, 5)):
            assert equal(batch, batches[done + i])
        assert resumed.state == states[done + 5]
        resumed.close()


def test_a_worker_with_much_bad_data_does_not_change_the_order(tmp_path):
    """One worker's piece is nearly all bad, so it reports without a batch; resuming is exact all the same."""
    write_tar(tmp_path / "0.tar", [e for n in range(30) for e in pair(f"{n:02}", image=JPEG if n % 10 == 0 else b"")])
    write_tar(tmp_path / "1.tar", pairs("good", 30))
    data = config(f"{tmp_path}/*.tar", workers=2, shuffle_buffer=1)
    whole = loader(data, batch_size=2)
    batches, states = [], []
    for batch in islice(whole, 9):
        batches.append(batch)
        states.append(whole.state)
    whole.close()
    for done in (1, 2, 5):
        resumed = loader(data, batch_size=2, start=[states[done - 1]])
        assert all(equal(a, b) for a, b in zip(batches[done:], take(resumed, 3), strict=False))
        resumed.close()


def test_close_and_go_on(shards):
    data = config(shards, workers=1)
    straight = loader(data)
    expected = take(straight, 6)
    straight.close()
    interrupted = loader(data)
    found = take(interrupted, 3)
    interrupted.close()
    found += take(interrupted, 3)
    interrupted.close()
    assert all(equal(a, b) for a, b in zip(expected, found, strict=True))


def test_the_stream_survives_pickling(shards):
    """As it must for workers that are spawned."""
    stream = loader(config(shards))._stream
    copy = pickle.loads(pickle.dumps(stream))
    assert equal(next(iter(stream)).batch, next(iter(copy)).batch)


# Bad data


def test_stops_at_max_bad_fraction(tmp_path):
    entries = [e for n in range(40) for e in pair(f"{n:02}", image=b"junk" if n % 4 == 0 else JPEG)]
    entries += [("nocap.jpg", JPEG)]
    path = write_tar(tmp_path / "0.tar", entries)
    batches = loader(config(str(path), max_bad_fraction=0.05, augment=NO_AUGMENT))
    with pytest.raises(InputError) as raised:
        take(batches, 200)
    message = str(raised.value)
    assert message.startswith("data.max_bad_fraction: ")
    assert "at most 5.0% may: corrupt image " in message
    assert "(e.g. 0.tar/" in message
    assert "missing caption" in message
    assert "\n" not in message
    assert 50 < batches.bad.total.total() < 60, "5 % of the 1,000 samples that the window counts for at least"


def test_everything_bad_stops_even_where_all_may_be_bad(tmp_path):
    path = write_tar(tmp_path / "0.tar", [e for n in range(6) for e in pair(f"{n}", image=b"junk")])
    for workers in (0, 1):
        batches = loader(config(str(path), workers=workers, max_bad_fraction=1.0))
        with pytest.raises(InputError, match=r"^data\.max_bad_fraction: \d+ of .*without a usable one.*corrupt image"):
            next(batches)
        batches.close()


def test_window_slides():
    """Of the last 10,000 samples 500 may be bad; what came before is forgotten."""
    bad = BadSamples(0.05, samples=100_000)
    for _ in range(100):
        bad.add(96, [("x", "old")] * 4)
    for _ in range(100):
        bad.add(100, [])
    for _ in range(500):
        bad.add(0, [("y", "new")])
    assert bad.total == {"x": 400, "y": 500}
    with pytest.raises(InputError, match=r": 501 of the last 10,000 samples .* may: y 501 \(e\.g\. new\);"):
        bad.add(0, [("y", "new")])


def test_early_bad_samples_are_forgiven():
    bad = BadSamples(0.05, samples=100_000)
    bad.add(0, [("x", "k")] * 50)
    with pytest.raises(InputError, match=": 51 of the last 51 samples"):
        bad.add(0, [("x", "k")])


def test_a_zero_fraction_allows_none():
    with pytest.raises(InputError, match=r"at most 0\.0% may: x 1 \(e\.g\. k\)"):
        BadSamples(0.0, samples=100).add(99, [("x", "k")])


def test_an_epoch_too_short_for_the_window_is_judged_at_its_end():
    bad = BadSamples(0.1, samples=100)
    bad.add(90, [("x", "k")] * 2)
    bad.end_epoch()
    bad.add(8, [("y", "k")] * 2)
    with pytest.raises(InputError, match="2 of the 10 samples of the epoch"):
        bad.end_epoch()


def test_end_epoch_reports_the_bad_samples_since_the_last(tmp_path):
    entries = [e for n in range(10) for e in pair(f"{n}", image=b"" if n == 4 else JPEG)]
    batches = loader(config(str(write_tar(tmp_path / "0.tar", entries))), batch_size=9)
    next(batches)
    assert sum(batches.end_epoch().values()) == 1 and batches.end_epoch() == {}
    assert batches.seen[0] == 9


def test_stray_tar_entries_are_no_samples():
    """However many there are, they alone never make a pass without a usable sample."""
    bad = BadSamples(1.0, samples=2)
    bad.add(0, [("tar entry without extension", "LICENSE")] * 100)


# Workers that die or hang


def test_killed_worker(shards):
    batches = loader(config(shards, workers=1, timeout=60))
    next(batches)
    with pytest.raises((InputError, RuntimeError)) as raised:
        os.kill(batches._stream.reading[0, 0].item(), signal.SIGKILL)
        take(batches, 100)
    # Torch raises it wherever the main thread is: mostly within next(), which explains it at once.
    error = raised.value if isinstance(raised.value, InputError) else batches.explain(raised.value)
    expected = r"data\.workers: a loader process died \(rank 0, worker 0 at 00000\d\.tar\): [^\n]*"
    assert re.fullmatch(expected, str(error))


def test_other_errors_are_not_explained_away(shards):
    assert loader(config(shards)).explain(RuntimeError("CUDA out of memory")) is None


def test_late_worker(tmp_path, monkeypatch):
    """A shard that is a pipe nobody writes to never answers."""
    monkeypatch.setattr(read_shard, "RETRY_SECONDS", ())
    pipe = tmp_path / "slow.tar"
    os.mkfifo(pipe)
    (tmp_path / "sizes.json").write_text('{"slow.tar": 4}')
    batches = loader(config(f"pipe:cat {pipe} 2>/dev/null", workers=1, timeout=1))
    message = r"^data\.timeout: no batch within 1 seconds \(rank 0, worker 0 at slow\.tar\)[^\n]*$"
    with pytest.raises(InputError, match=message):
        next(batches)
    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    pipe.unlink()
    os.close(writer)  # the worker's reader ends, and with it the worker
    batches.close()


def test_workers_ignore_ctrl_c(shards):
    """The terminal sends it to every process; answering it is the main one's business."""
    batches = loader(config(shards, workers=1))
    next(batches)
    os.kill(batches._stream.reading[0, 0].item(), signal.SIGINT)
    assert len(take(batches, 20)) == 20
    batches.close()
