"""Which files of a shard are one sample: webdataset's own grouping is the truth wherever it loses nothing."""

import pytest
import webdataset
from data_files import JPEG, config, loader, pair, write_tar

from tcl.data.shards.list_shards import shard_sizes
from tcl.data.shards.read_shard import read_samples
from tcl.data.shards.shard_writer import ShardWriter


def read(tmp_path, names: list[str]) -> list[tuple[str, list[str]]]:
    """(key, extensions) of the samples of a shard with files of these names, which it is counted to hold."""
    path = str(write_tar(tmp_path / "0.tar", [(name, name.encode()) for name in names]))
    samples = list(read_samples(path))
    assert shard_sizes([path]) == [len(samples)]
    for sample in samples:
        key = sample.key.partition("/")[2]
        assert {extension: f"{key}.{extension}" for extension in sample.fields} == {
            extension: content.decode().replace("JPEG", "jpeg") for extension, content in sample.fields.items()
        }
    return [(sample.key.partition("/")[2], list(sample.fields)) for sample in samples]


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "a.txt", "b.jpg", "b.txt"],
        ["a.jpg", "a.seg.png", "a.txt", "b.jpg", "b.seg.png", "b.txt"],
        ["a.depth.png", "a.jpg", "a.json", "b.depth.png", "b.jpg", "b.json"],
        ["a.caption.txt", "a.jpg", "a.txt"],
        ["a.0.jpg", "a.jpg", "a.json"],
        ["a.0.txt", "a.1.txt", "a.jpg"],
        ["a.cls", "a.jpg", "a.feat.npy", "b.cls"],
        ["x.y/a.jpg", "x.y/a.txt", "x.y/b.jpg", "./c.jpg", "__meta__.json", "__d__/a.jpg", "README"],
        ["a.jpg", "b.jpg", "a.jpg"],
        ["a.tar.gz", "a.2021.npy"],
    ],
)
def test_ordinary_shards_are_grouped_as_webdataset_groups_them(tmp_path, names):
    found = read(tmp_path, names)
    truth = list(webdataset.WebDataset(str(tmp_path / "0.tar"), shardshuffle=False))
    assert found == [(one["__key__"], [name for name in one if not name.startswith("__")]) for one in truth]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ([f"trip.2021.{i}.{e}" for i in range(6) for e in ("jpg", "txt")], [f"trip.2021.{i}" for i in range(6)]),
        (
            ["trip.jpg", "trip.txt", "trip.1.jpg", "trip.1.txt", "trip.2.jpg", "trip.2.txt"],
            ["trip.1", "trip.2", "trip"],
        ),
        (["john.smith.txt", "john.smith.JPEG", "john.doe.avif", "john.doe.txt"], ["john.smith", "john.doe"]),
        (["trip.1.jpg", "trip.2.jpg", "trip.jpg"], ["trip.1", "trip.2", "trip"]),
        (["john.smith.jpg", "john.doe.jpg", "z.jpg"], ["john.smith", "john.doe", "z"]),
        (["d.d/www.example.com.jpg", "d.d/www.example.com.json"], ["d.d/www.example.com"]),
    ],
)
def test_keys_with_dots_are_samples_of_their_own(tmp_path, names, keys):
    found = read(tmp_path, names)
    assert [key for key, _ in found] == keys
    assert all("." not in extension for _, extensions in found for extension in extensions)
    assert sum(len(extensions) for _, extensions in found) == len(names)


def test_pairs_whose_keys_have_dots_are_trained_on(tmp_path):
    keys = ["trip", *(f"trip.{i}" for i in range(1, 4))]
    write_tar(tmp_path / "0.tar", [entry for key in keys for entry in pair(key)])
    batches = loader(config(str(tmp_path / "0.tar")))
    assert sorted(next(batches).keys) == [f"0.tar/{key}" for key in keys] and batches.bad.total == {}


def test_shards_that_are_written_have_no_such_keys(tmp_path):
    with pytest.raises(ValueError, match=r"key 'a\.b' has a dot"), ShardWriter(tmp_path) as writer:
        writer.write("a.b", {"jpg": JPEG})
    assert not list(tmp_path.iterdir())
