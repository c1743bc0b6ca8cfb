"""Which shards a pattern names, and their sizes."""

import json
import tarfile

import pytest
import webdataset
from data_files import JPEG, pair, pairs, write_shards, write_tar

from tcl.data.shards.list_shards import Shard, list_shards, open_shards, shard_sizes
from tcl.data.shards.read_shard import beside, read_samples, shard_name
from tcl.data.shards.shard_writer import ShardWriter
from tcl.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for i in (10, 2, 1):
        write_tar(tmp_path / f"{i:06d}.tar", pairs("a", i))
    return tmp_path


def names(pattern) -> list[str]:
    return [url.rpartition("/")[2] for url in list_shards(str(pattern))]


def test_glob_in_order(folder):
    assert names(folder / "*.tar") == ["000001.tar", "000002.tar", "000010.tar"]


def test_brace_range(folder):
    assert names(folder / "{000001..000002}.tar") == ["000001.tar", "000002.tar"]


def test_braces_and_glob(folder):
    assert names(folder / "{00000*,000010}.tar") == ["000001.tar", "000002.tar", "000010.tar"]


def test_one_file_with_glob_characters_in_its_name(tmp_path):
    path = write_tar(tmp_path / "[x].tar", pairs("a", 1))
    assert list_shards(str(path)) == [str(path)]


def test_file_url(folder):
    assert list_shards(f"file://{folder}/000001.tar") == [f"{folder}/000001.tar"]


def test_urls_are_expanded_but_not_looked_for():
    assert list_shards("https://host/{00..02}.tar") == [f"https://host/0{i}.tar" for i in range(3)]
    assert list_shards("pipe:aws s3 cp s3://b/{0..1}.tar -") == [f"pipe:aws s3 cp s3://b/{i}.tar -" for i in range(2)]
    assert list_shards("s3://b/*.tar") == ["s3://b/*.tar"]


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("", "no shards"),
        ("{folder}/*.zip", "no file matches"),
        ("{folder}", "is a folder; name its shards, e.g. .*\\*.tar"),
        ("{folder}/{{000001..000003}}.tar", "000003.tar does not exist"),
        ("{folder}/{{000001..", "unbalanced braces"),
        ("{folder}/{{1}}}}.tar", "unbalanced braces"),
        ("ftp://host/0.tar", "no reader for ftp:; known are .*https"),
    ],
)
def test_pattern_that_names_nothing(folder, pattern, complaint):
    pattern = pattern.format(folder=folder)
    with pytest.raises(InputError, match=f"^shards .*{complaint}[^\n]*$") as raised:
        list_shards(pattern)
    assert repr(pattern) in str(raised.value)


def test_sizes_json(tmp_path):
    shards = open_shards(write_shards(tmp_path, [3, 5]))
    assert shards == [Shard(f"{tmp_path}/000000.tar", 3), Shard(f"{tmp_path}/000001.tar", 5)]


def test_counts_files_are_believed_before_the_tar(folder):
    urls = list_shards(f"{folder}/*.tar")
    (folder / "000001_stats.json").write_text('{"count": 9, "successes": 7}')
    assert shard_sizes(urls) == [7, 2, 10]
    (folder / "meta.json").write_text('{"000001.tar": 6, "image_size": 256}')
    assert shard_sizes(urls) == [6, 2, 10]
    (folder / "meta.json").write_text('{"shards": {"000001.tar": 4}}')
    assert shard_sizes(urls) == [4, 2, 10]
    (folder / "sizes.json").write_text('{"000001.tar": 5}')
    assert shard_sizes(urls) == [5, 2, 10]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("sizes.json", "{", "sizes.json: not JSON"),
        ("sizes.json", "[1]", "sizes.json: a JSON list; it should be an object"),
        ("sizes.json", '{"000001.tar": "5"}', "sizes.json: 000001.tar is '5'; it should be a number of samples"),
        ("sizes.json", '{"000001.tar": -1}', "sizes.json: 000001.tar is -1"),
        ("meta.json", '{"shards": 3}', "meta.json: no counts"),
        ("000001_stats.json", "{}", "000001_stats.json: successes is None"),
    ],
)
def test_bad_counts(folder, name, content, complaint):
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=f"{complaint}[^\n]*$"):
        shard_sizes(list_shards(f"{folder}/*.tar"))


def test_scan_groups_entries_as_webdataset_does(tmp_path):
    entries = [
        *pair("a"),
        ("a.json", b"{}"),
        ("a.seg.png", b""),
        ("README", b"no extension"),
        ("__meta__/x.txt", b""),
        ("dir.with.dots/b.jpg", b""),
        ("dir.with.dots/b.txt", b""),
        ("B.jpg", b""),
        ("dir/b.jpg", b""),
        *pair("a"),
        ("b.c.jpg", b""),
    ]
    path = write_tar(tmp_path / "0.tar", entries)
    with tarfile.open(path, "a") as tar:
        folder_entry = tarfile.TarInfo("folder.d")
        folder_entry.type = tarfile.DIRTYPE
        tar.addfile(folder_entry)
    truth = sum(1 for _ in webdataset.WebDataset(str(path), shardshuffle=False))
    assert shard_sizes([str(path)]) == [truth] == [6]


def test_scan_of_a_compressed_tar(tmp_path):
    path = tmp_path / "0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(write_tar(tmp_path / "x.tar", []), "a.jpg")
        tar.add(tmp_path / "x.tar", "b.jpg")
    assert shard_sizes([str(path)]) == [2]


@pytest.mark.parametrize("content", [b"", b"this is no tar" * 100])
def test_what_cannot_be_scanned_counts_as_one_sample_for_the_reader_to_report(tmp_path, content):
    (tmp_path / "0.tar").write_bytes(content)
    assert shard_sizes([str(tmp_path / "0.tar")]) == [1]


def test_an_empty_tar_has_no_samples(tmp_path):
    assert shard_sizes([str(write_tar(tmp_path / "0.tar", []))]) == [0]


def test_remote_sizes_come_from_a_file_beside_the_shards(tmp_path):
    write_shards(tmp_path, [3, 5])
    assert shard_sizes([f"pipe:cat {tmp_path}/00000{i}.tar" for i in range(2)]) == [3, 5]


def test_remote_shard_without_a_count(tmp_path):
    write_shards(tmp_path, [3])
    (tmp_path / "sizes.json").unlink()
    with pytest.raises(
        InputError, match=r"^pipe:cat .*: unknown number of samples; write pipe:cat .*sizes\.json[^\n]*$"
    ):
        shard_sizes([f"pipe:cat {tmp_path}/000000.tar 2>/dev/null"])


@pytest.mark.parametrize(
    ("url", "name", "sizes"),
    [
        ("/data/cc 3m/000 1.tar", "000 1.tar", "/data/cc 3m/sizes.json"),
        ("000001.tar", "000001.tar", "sizes.json"),
        ("https://host/a/01.tar?token=x", "01.tar", "https://host/a/sizes.json?token=x"),
        ("pipe:gsutil cat gs://b/01.tar.gz", "01.tar.gz", "pipe:gsutil cat gs://b/sizes.json"),
        ("pipe:aws s3 cp s3://b/c/01.tar -", "01.tar", "pipe:aws s3 cp s3://b/c/sizes.json -"),
        ("s3://b/c/01.tar", "01.tar", "s3://b/c/sizes.json"),
    ],
)
def test_files_beside_a_shard(url, name, sizes):
    assert shard_name(url) == name
    assert beside(url, "sizes.json") == sizes


def test_img2dataset_folder(tmp_path):
    """As img2dataset leaves it: shards, stats and parquet side by side, no sizes.json."""
    for i in range(2):
        write_tar(tmp_path / f"0000{i}.tar", [*pair("a"), ("a.json", json.dumps({"caption": "x"}).encode())])
        (tmp_path / f"0000{i}_stats.json").write_text(json.dumps({"count": 3, "successes": 1, "failed_to_download": 2}))
        (tmp_path / f"0000{i}.parquet").write_bytes(b"")
    assert [shard.size for shard in open_shards(f"{tmp_path}/{{00000..00001}}.tar")] == [1, 1]


def test_what_shard_writer_writes_is_read_with_its_counts(tmp_path):
    with ShardWriter(tmp_path, shard_size=2) as writer:
        for i in range(5):
            writer.write(f"{i:04d}", {"jpg": JPEG, "txt": b"a dog"})
    shards = open_shards(f"{tmp_path}/*.tar")
    assert [shard.size for shard in shards] == [2, 2, 1]
    read = [sample for shard in shards for sample in read_samples(shard.url, 0, shard.size, size=shard.size)]
    assert [sample.key.partition("/")[2] for sample in read] == [f"{i:04d}" for i in range(5)]
    assert all(sample.fields == {"jpg": JPEG, "txt": b"a dog"} and not sample.notices for sample in read)
