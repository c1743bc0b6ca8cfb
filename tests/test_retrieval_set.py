"""Evaluation data: images with all their captions."""

import json

import pytest
from data_files import JPEG, encode, noise, pair, write_tar

from tcl.data.images import decode_image as decode
from tcl.data.images.whole_image import CORRUPT_IMAGE
from tcl.data.sets.retrieval_set import IDS_DO_NOT_FIT, OTHER_CAPTION, OTHER_IMAGE, load_retrieval_set
from tcl.data.shards.read_shard import NO_EXTENSION, TRUNCATED
from tcl.data.texts import sample_texts
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
    assert found.pairs == [(0, 0), (0, 1), (1, 2), (2, 3)]
    assert found.caption_ids == ["0.tar/b#0", "0.tar/b#1", "0.tar/a#0", "1.tar/z#0"]
    assert found.image_ids == ["0.tar/b", "0.tar/a", "1.tar/z"]
    assert found.bad == {}


def test_at_most_max_images_with_all_their_captions(tmp_path):
    write_tar(tmp_path / "0.tar", [e for i in range(5) for e in captioned(f"{i}", ["one", "two"])])
    found = load(tmp_path / "0.tar", max_images=2)
    assert len(found.images) == 2
    assert found.pairs == [(0, 0), (0, 1), (1, 2), (1, 3)]


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
    assert found.image_ids == ["0.tar/d"]
    causes = (CORRUPT_IMAGE, NO_EXTENSION, sample_texts.EMPTY_CAPTION, decode.TOO_LARGE, TRUNCATED)
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


def sample(key: str, image: bytes, **said) -> list[tuple[str, bytes]]:
    return [(f"{key}.jpg", image), (f"{key}.json", json.dumps(said).encode())]


def test_samples_of_one_image_id_are_one_image_with_the_captions_of_all(tmp_path):
    a, b = encode(noise(0)), encode(noise(1))
    entries = [
        *sample("0", a, image_id=7, caption="one"),
        *sample("1", b, image_id=8, caption="two"),
        *sample("2", a, image_id=7, captions=["three", "four"]),
    ]
    found = load(write_tar(tmp_path / "0.tar", entries))
    assert found.images == [a, b] and found.image_ids == ["7", "8"]
    assert found.captions == ["one", "two", "three", "four"]
    assert found.pairs == [(0, 0), (1, 1), (0, 2), (0, 3)]
    assert found.caption_ids == ["7#0", "8#0", "7#1", "7#2"]


def test_a_caption_with_an_id_may_have_several_images(tmp_path):
    a, b = encode(noise(0)), encode(noise(1))
    entries = [
        *sample("0", a, captions=["a dog", "", "a cat"], caption_ids=["x", "y", "z"]),
        *sample("1", b, captions=["A dog."], caption_ids=["x"]),
    ]
    found = load(write_tar(tmp_path / "0.tar", entries))
    assert found.captions == ["a dog", "a cat"] and found.caption_ids == ["x", "z"]
    assert found.pairs == [(0, 0), (0, 1), (1, 0)]


def test_an_id_given_to_two_things_keeps_the_first_and_is_counted(tmp_path):
    a, b = encode(noise(0)), encode(noise(1))
    entries = [
        *sample("0", a, image_id=7, captions=["a dog"], caption_ids=["x"]),
        *sample("1", b, image_id=7, captions=["a cat"]),
        *sample("2", b, image_id=9, captions=["a bird"], caption_ids=["x"]),
        *sample("3", b, image_id=9, captions=["a bird"], caption_ids=["x", "y"]),
        *sample("4", b, image_id=9, captions=[3], caption_ids=["w"]),
        *sample("5", b, image_id=9, captions=["!"], caption_ids=["w"]),
    ]
    found = load(write_tar(tmp_path / "0.tar", entries))
    assert found.images == [a] and found.captions == ["a dog"]
    causes = (OTHER_IMAGE, OTHER_CAPTION, IDS_DO_NOT_FIT, sample_texts.NOT_TEXT, sample_texts.EMPTY_CAPTION)
    assert found.bad == dict.fromkeys(causes, 1)


def test_an_image_without_captions_is_skipped_and_counted(tmp_path):
    entries = [*sample("0", JPEG, captions=[]), ("1.jpg", JPEG), *pair("2")]
    found = load(write_tar(tmp_path / "0.tar", entries))
    assert found.image_ids == ["0.tar/2"]
    assert found.bad == {sample_texts.EMPTY_CAPTION: 1, sample_texts.NO_CAPTION: 1}


def test_equal_names_of_shards_in_two_folders(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "0.tar", pair("x", image=encode(noise(ord(folder)))))
    found = load(tmp_path / "{a,b}/0.tar")
    assert len(found.images) == len(set(found.image_ids)) == 2
