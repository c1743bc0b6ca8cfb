"""`tcl shards --tokens`: what is written, how it goes on, and what reading finds wrong."""

import json
from pathlib import Path
from random import Random

import pytest
import torch
from data_files import encode, noise, pair, write_tar
from safetensors.torch import load, save
from tiny import MODEL
from tiny_pretrained import tiny_tcl
from token_run import SIZES, VIEWS, options, write_options, write_pixels, write_tokens

from tcl.commands.main import run
from tcl.config.data import AugmentConfig, DataConfig, SourceConfig
from tcl.data.feed.loader import train_loader
from tcl.data.feed.pair_reader import PairReader
from tcl.data.images.augment import Augment
from tcl.data.images.decode_image import decode_image
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.read_shard import read_samples
from tcl.data.tokens import token_sample
from tcl.data.tokens.description import read_description, stored_tokens_of
from tcl.data.tokens.stored_tokens import StoredTokens, restore_tokens
from tcl.data.tokens.token_views import TokenViews
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.tower import hash_of
from tcl.errors import InputError
from tcl.inference import token_shards
from tests.data_files import TOKENIZER


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The options of a run, its pixels, and their tokens in int8, as a folder."""
    folder = tmp_path_factory.mktemp("made")
    pixels = write_pixels(folder / "pixels", image_ids=True)
    config = write_options(folder / "run.yaml", options(folder, pixels))
    write_tokens(config, pixels, folder / "tokens", "--storage", "int8")
    return config, pixels, folder / "tokens"


def samples_of(folder: Path) -> list:
    return [sample for path in sorted(folder.glob("*.tar")) for sample in read_samples(str(path))]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_a_sample_keeps_its_texts_and_has_the_tokens_of_its_views(tmp_path, storage):
    pixels = write_pixels(tmp_path / "pixels", image_ids=True)
    tiny_tcl().save_pretrained(tmp_path / "model")
    said = {"data": {"augment": {"crop_scale": [0.5, 1.0], "views": 2, "on_device": True}}}
    config = write_options(tmp_path / "run.yaml", said)
    write_tokens(tmp_path / "model", pixels, tmp_path / "tokens", "--config", str(config), "--storage", storage)
    encoder = tiny_tcl().student.encoders.image_encoder
    augment = Augment(AugmentConfig(crop_scale=(0.5, 1.0), views=2), 32)
    there, here = samples_of(tmp_path / "pixels"), samples_of(tmp_path / "tokens")
    assert [one.key for one in here] == [one.key for one in there] and len(here) == sum(SIZES)
    assert json.loads((tmp_path / "tokens" / "sizes.json").read_text()) == {"000000.tar": 6, "000001.tar": 5}
    described = read_description(str(tmp_path / "tokens" / "tokens.json"))
    assert described.storage == storage and described.shape == (2, 5, 24)
    assert (described.tower.image_size, described.tower.weights) == (32, hash_of(encoder.backbone))
    for before, after in zip(there, here, strict=True):
        assert {"txt": before.fields["txt"], "json": before.fields["json"]}.items() <= after.fields.items()
        assert after.fields.keys() == {"txt", "json", "tokens"}
        opened = TokenViews(described).open(after.fields)
        image = decode_image(before.fields["png"], max_pixels=10**6, min_side=augment.min_side)
        for number in range(2):
            view = augment.numbered(image, number)
            with torch.no_grad():
                exact = encoder.features(encoder.prepare(view.pixels[None]))[0]
            values, scales = opened.file.tokens.values[number], opened.file.tokens.scales
            found = restore_tokens(StoredTokens(values, None if scales is None else scales[number]))
            step = exact.abs().amax(-1, keepdim=True) / (2**11 if storage == "fp16" else 254)
            assert ((found - exact).abs() <= 1.01 * step + 1e-5).all()
        draws = [Random(seed).randrange(2) for seed in range(8)]
        drawn = [opened.view(Random(seed)).values for seed in range(8)]
        assert all(one.equal(opened.file.tokens.values[k]) for one, k in zip(drawn, draws, strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_no_byte(tmp_path, made, workers):
    config, pixels, tokens = made
    write_tokens(config, pixels, tmp_path / "again", "--storage", "int8", "--workers", str(workers))
    assert contents(tmp_path / "again") == contents(tokens)


def test_an_interrupted_command_goes_on_and_another_starts_over(tmp_path, made, monkeypatch):
    config, pixels, tokens = made
    whole, seen = token_shards._features, []

    def interrupted(views, tower):
        seen.append(len(views))
        if len(seen) == 4:  # one for the shape of tokens, one for each image of shard 0 but ...
            raise KeyboardInterrupt
        return whole(views, tower)

    out, given = tmp_path / "out", ["--storage", "int8", "--batch_size", "6"]
    monkeypatch.setattr(token_shards, "_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_tokens(config, pixels, out, *given)
    assert not out.exists() and not list(out.with_name("out.partial").glob("*.tar"))
    seen[:] = [0] * 10
    monkeypatch.setattr(token_shards, "_prepared", _stops_after(token_shards._prepared, SIZES[0] + 2))
    with pytest.raises(KeyboardInterrupt):
        write_tokens(config, pixels, out, *given)
    monkeypatch.undo()
    first = out.with_name("out.partial") / "000000.tar"
    before = first.stat().st_mtime_ns
    assert not out.exists() and len(list(first.parent.glob("*.tar"))) == 1
    write_tokens(config, pixels, out, *given)
    assert (out / "000000.tar").stat().st_mtime_ns == before, "shard 0 was not made again"
    assert contents(out).keys() == contents(tokens).keys() and not first.parent.exists()
    assert contents(out) == contents(tokens)
    monkeypatch.setattr(token_shards, "_prepared", _stops_after(token_shards._prepared, SIZES[0] + 2))
    with pytest.raises(KeyboardInterrupt):
        write_tokens(config, pixels, out, *given, "--views", "2", "--overwrite")
    monkeypatch.undo()
    assert contents(out) == contents(tokens), "what is there stays until its successor is whole"
    write_tokens(config, pixels, out, *given, "--overwrite")
    assert contents(out) == contents(tokens), "shards with two views were left there"


def _stops_after(prepared, count):
    def some(stream, workers):
        for i, sample in enumerate(prepared(stream, workers)):
            if i == count:
                raise KeyboardInterrupt
            yield sample

    return some


def test_images_that_cannot_be_used_are_skipped_and_listed(tmp_path, made, capsys):
    config, _, _ = made
    damaged = encode(noise(3, (40, 40)))[:200]
    entries = [
        *pair("a"),
        *pair("b", image=damaged),
        ("c.txt", b"a cat"),
        *pair("trip.2021"),
        *pair("a_2"),
        *pair("a.2"),
    ]
    shards = write_tar(tmp_path / "0.tar", entries)
    write_tokens(config, str(shards), tmp_path / "out")
    said = capsys.readouterr().out
    assert "4 samples in 1 shards; skipped 2" in said and "1  no image" in said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [key for key, _ in report["skipped"]] == ["0.tar/b", "0.tar/c"]
    keys = [sample.key.partition("/")[2] for sample in samples_of(tmp_path / "out")]
    assert keys[:3] == ["a", "trip_2021", "a_2"] and len(set(keys)) == 4


def loader_on(shards: str):
    stored = stored_tokens_of([shards])[1]
    data = DataConfig(train=[SourceConfig(shards)], workers=0, shuffle_buffer=4, max_bad_fraction=1.0)
    reader = PairReader(data, TokenViews(stored), TOKENIZER, mlm_probability=0.0)
    return train_loader(data, reader=reader, batch_size=4, seed=0, rank=0, world_size=1)


def changed(**tensors):
    return lambda content: save({name: value for name, value in (load(content) | tensors).items() if value is not None})


TOKENS, WIDTH = 5, 16
BAD = [
    (lambda content: content[:-40], token_sample.DAMAGED),
    (lambda content: b"", token_sample.DAMAGED),
    (lambda content: b"\xff" * 8 + content, token_sample.DAMAGED),
    (changed(values=None), token_sample.DAMAGED),
    (changed(image=torch.tensor([1, 2])), token_sample.DAMAGED),
    (changed(tower=torch.zeros(16, dtype=torch.uint8)), token_sample.OTHER_TOWER),
    (changed(tower=torch.zeros(16)), token_sample.OTHER_TOWER),
    (changed(values=torch.zeros(VIEWS, TOKENS + 1, WIDTH, dtype=torch.int8)), token_sample.OTHER_SHAPE),
    (changed(values=torch.zeros(VIEWS - 1, TOKENS, WIDTH, dtype=torch.int8)), token_sample.OTHER_SHAPE),
    (changed(values=torch.zeros(VIEWS, TOKENS, WIDTH, dtype=torch.uint8)), token_sample.OTHER_SHAPE),
    (changed(values=torch.zeros(VIEWS, TOKENS, WIDTH, dtype=torch.float16), scales=None), token_sample.OTHER_SHAPE),
    (changed(scales=None), token_sample.OTHER_SHAPE),
    (changed(scales=torch.ones(VIEWS, TOKENS - 1)), token_sample.OTHER_SHAPE),
    (changed(scales=torch.ones(VIEWS, TOKENS, dtype=torch.float64)), token_sample.OTHER_SHAPE),
    (changed(image=torch.tensor([-1])), token_sample.OTHER_SHAPE),
    (changed(scales=torch.full((VIEWS, TOKENS), torch.nan)), token_sample.NOT_FINITE),
    (changed(scales=torch.full((VIEWS, TOKENS), torch.inf)), token_sample.NOT_FINITE),
]


@pytest.mark.parametrize(("spoil", "cause"), BAD)
def test_a_damaged_file_of_tokens_is_a_bad_sample(made, spoil, cause):
    fields = samples_of(made[2])[0].fields
    views = TokenViews(read_description(str(made[2] / "tokens.json")))
    views.open(fields)
    with pytest.raises(BadSample) as told:
        views.open(fields | {"tokens": spoil(fields["tokens"])})
    assert str(told.value) == cause


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_fp16_tokens_that_are_not_finite_are_a_bad_sample(tmp_path, made, number):
    config, pixels, _ = made
    write_tokens(config, pixels, tmp_path / "out")
    fields = samples_of(tmp_path / "out")[0].fields
    values = load(fields["tokens"])["values"]
    values[1, 2, 3] = number
    views = TokenViews(read_description(str(tmp_path / "out" / "tokens.json")))
    with pytest.raises(BadSample, match=token_sample.NOT_FINITE):
        views.open(fields | {"tokens": changed(values=values)(fields["tokens"])})


def test_bad_samples_are_counted_and_passed_over(tmp_path, made):
    spoilt = {1: BAD[0][0], 3: BAD[5][0], 4: BAD[-1][0]}
    entries = []
    for i, sample in enumerate(samples_of(made[2])):
        files = dict(sample.fields)
        if i in spoilt:
            files["tokens"] = spoilt[i](files["tokens"])
        if i == 7:
            del files["tokens"]
        entries += [(f"{i}.{extension}", content) for extension, content in files.items()]
    shards = write_tar(tmp_path / "000000.tar", entries)
    (tmp_path / "tokens.json").write_bytes((made[2] / "tokens.json").read_bytes())
    loader = loader_on(str(shards))
    keys = [key for _ in range(7) for key in next(loader).keys]
    assert {key.partition("/")[2] for key in keys} == {str(i) for i in range(11) if i not in (1, 3, 4, 7)}
    causes = (token_sample.DAMAGED, token_sample.OTHER_TOWER, token_sample.NOT_FINITE, token_sample.NO_TOKENS)
    assert loader.bad.total.keys() == set(causes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: "{", r"tokens\.json: not JSON"),
        (lambda said: "[]", r"tokens\.json: a JSON list"),
        (lambda said: said | {"extra": 1}, r"tokens\.json: extra is not known"),
        (lambda said: said | {"storage": "fp8"}, r"tokens\.json: storage"),
        (lambda said: said | {"tokens": 0}, r"tokens\.json: tokens: 0 is not possible; accepted: a number >= 1"),
        (lambda said: said | {"width": -3}, r"tokens\.json: width: -3 is not possible"),
        (lambda said: said | {"augment": said["augment"] | {"views": None}}, r"tokens\.json: augment\.views: None is"),
        (lambda said: said | {"augment": said["augment"] | {"views": 0}}, r"tokens\.json: augment\.views: 0 is not"),
        (lambda said: said | {"tower": 3}, r"tokens\.json: tower"),
        (lambda said: {name: said[name] for name in said if name != "tower"}, r"tokens\.json: tower is not there"),
    ],
)
def test_a_description_that_is_none(tmp_path, made, change, message):
    said = change(json.loads((made[2] / "tokens.json").read_text()))
    (tmp_path / "tokens.json").write_text(said if isinstance(said, str) else json.dumps(said))
    (tmp_path / "0.tar").write_bytes((made[2] / "000000.tar").read_bytes())
    with pytest.raises(InputError, match=message) as told:
        stored_tokens_of([str(tmp_path / "0.tar")])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--views", "0"], r"views: 0 is not possible; accepted: a number >= 1"),
        (["--batch_size", "0"], r"batch_size: 0 is not possible; accepted: a number >= 1"),
        (["--workers", "-1"], r"workers: -1 is not possible; accepted: a number >= 0"),
        (["--max_pixels", "many"], r"max_pixels: 'many' is no number"),
        (["--max_pixels", "0"], r"max_pixels: 0 is not possible"),
        (["--storage", "fp8"], r"storage: invalid choice: 'fp8'"),
        (["--device", "tpu"], r"device: 'tpu' cannot be used"),
        (["--shards", "nowhere/*.tar"], r"shards 'nowhere/\*\.tar': no file matches"),
        (["--shards", "{tokens}/*.tar"], r"shards: no usable sample \(11 x stored tokens in place of an image\)"),
        (["--out", "{tokens}"], r"out: .*tokens is there already and not empty; name another folder or give --overwr"),
        (["--out", "{pixels}", "--overwrite"], r"out: .* contains .*000000\.tar, which overwriting would delete"),
        (["--tokens", "nothing"], r"source: 'nothing'"),
        (["--tokens", "nothing.yaml"], r"tokens: .*nothing\.yaml"),
        (["--config", "nothing.yaml"], r"config: .*nothing\.yaml"),
        (["--max_pixels", "10"], r"shards: no usable sample \(11 x too many pixels\)"),
        (["--from", "jsonl"], r"unrecognized arguments: --from jsonl"),
    ],
)
def test_what_cannot_be_written(tmp_path, made, given, message):
    config, pixels, tokens = made
    places = {"{tokens}": str(tokens), "{pixels}": str(Path(pixels).parent)}
    for name, place in places.items():
        given = [word.replace(name, place) for word in given]
    whole = ["shards", "--tokens", str(config), "--shards", pixels, "--out", str(tmp_path / "out"), "--workers", "0"]
    with pytest.raises(InputError, match=message) as told:
        run([*whole, *given])
    assert "\n" not in str(told.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"model": {"image": {"image_size": 32}}},
            r"tokens: .*x\.yaml: model\.image\.frozen is false; tokens are those",
        ),
        (
            {"init": "runs/a", "model": {}},
            r"tokens: .*x\.yaml starts from 'runs/a'; give that model, and --config .*x\.",
        ),
        ({"model": {"image": {"frozen": True, "sise": 1}}}, r"x\.yaml: model\.image\.sise is not known"),
        ({"model": {"image": {"frozen": True, "image_size": 30}}}, r"model\.image\.image_size: 30 is not a multiple"),
        ({"model": {"image": {"frozen": True}}, "seed": "a"}, r"x\.yaml: seed"),
        ({"data": {"augment": {"flip_prob": 2}}, "model": {}}, r"data\.augment\.flip_prob: 2\.0 is not possible"),
    ],
)
def test_options_that_name_no_frozen_tower(tmp_path, made, said, message):
    config = write_options(tmp_path / "x.yaml", said)
    with pytest.raises(InputError, match=message):
        write_tokens(config, made[1], tmp_path / "out")


def test_tokens_beyond_the_range_of_fp16(tmp_path, made):
    """Of a tower whose last norm multiplies by too much."""
    model = tiny_tcl()
    with torch.no_grad():
        model.student.encoders.image_encoder.vit.norm.weight.fill_(1e6)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=r"tokens: .* cannot be stored as fp16; finite values of at most 65504 can"):
        write_tokens(tmp_path / "model", made[1], tmp_path / "out", "--config", str(made[0]))
    write_tokens(tmp_path / "model", made[1], tmp_path / "out", "--config", str(made[0]), "--storage", "int8")


def test_the_hash_of_a_tower_sees_every_weight_and_buffer():
    torch.manual_seed(0)
    backbone = build_image_encoder(MODEL.image).backbone
    backbone.register_buffer("seen", torch.zeros((), dtype=torch.long))
    hashes = [hash_of(backbone)]
    for name, value in backbone.state_dict().items():
        if name in ("seen", "cls_token", "blocks.1.mlp.fc2.bias"):
            with torch.no_grad():
                value.view(-1)[-1] += 1
            hashes.append(hash_of(backbone))
    assert len(set(hashes)) == 4 and hash_of(backbone) == hashes[-1]


def test_help_lists_the_options(capsys):
    run(["shards", "--tokens", "--help"])
    assert "--storage {fp16,int8}" in capsys.readouterr().out
