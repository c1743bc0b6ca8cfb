"""Evaluation data: images with all their captions."""

import json

import pytest
from data_files import JPEG, encode, noise, pair, write_tar

from tcl.data import decode
from tcl.data.read_shard import NO_EXTENSION, TRUNCATED
from tcl.data.retrieval_set import load_retrieval_set
from tcl.errors import InputError


def captioned(key: str, captions: list[str], image: bytes = JPEG) -> list[tuple[str, bytes]]:
    return [(f"{key}.jpg", image), (f"{key}.json", json.dumps({"captions": captions}).encode())]


def load(path, **options):
    return load_retrieval_set(str(path), **{"max_words": 30, "max_pixels": 10**6, **options})


def test_all_captions_of_every_image_in_shard_order(tmp_path):
    images = [encode(noise(i)) for i in range(3)]
    write_tar(tmp_path / "1.tar", pair("z", "Third!", images[2]))
    write_tar(tmp_path / "0.tar", [*captioned("b", ["First.", "1st", ""], images[0]), *pair("a", "Second", images[1])])
    found = load(tmp_path / "*.tar")
    assert found.images == images
    assert found.captions == ["first", "1st", "second", "third"]
    assert found.image_of_caption == [0, 0, 1, 2]
    assert found.keys == ["0.tar/b", "0.tar/a", "1.tar/z"]
    assert found.bad == {}


def test_at_most_max_images_with_all_their_captions(tmp_path):
    write_tar(tmp_path / "0.tar", [e for i in range(5) for e in captioned(f"{i}", ["one", "two"])])
    found = load(tmp_path / "0.tar", max_images=2)
    assert len(found.images) == 2
    assert found.image_of_caption == [0, 0, 1, 1]


def test_captions_are_cut_to_max_words(tmp_path):
    write_tar(tmp_path / "0.tar", pair("a", "one two three"))
    assert load(tmp_path / "0.tar", max_words=2).captions == ["one two"]


def test_unusable_samples_are_skipped_and_counted(tmp_path):
    entries = [
        *pair("a", image=b"junk"),
        ("LICENSE", b""),
        *pair("b", ""),
        *pair("c", image=encode(noise(0, (60, 60)))),
        *pair("d"),
        *pair("e"),
    ]
    path = write_tar(tmp_path / "0.tar", entries)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"e.jpg\0") + 600])
    found = load(path, max_pixels=1000)
    assert found.keys == ["0.tar/d"]
    causes = (decode.CORRUPT_IMAGE, NO_EXTENSION, decode.EMPTY_CAPTION, decode.TOO_LARGE, TRUNCATED)
    assert found.bad == dict.fromkeys(causes, 1)


def test_nothing_usable(tmp_path):
    write_tar(tmp_path / "0.tar", [*pair("a", image=b"junk"), *pair("b", image=b"junk")])
    with pytest.raises(InputError, match=r"^data\.val: .*no usable image-text pair: corrupt image 2$"):
        load(tmp_path / "0.tar")


def test_empty_shards(tmp_path):
    write_tar(tmp_path / "0.tar", [])
    with pytest.raises(InputError, match="the shards are empty"):
        load(tmp_path / "0.tar")


def test_missing_shards(tmp_path):
    with pytest.raises(InputError, match="no file matches"):
        load(tmp_path / "*.tar")
