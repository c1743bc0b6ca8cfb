"""Both sides of the loader's benchmark read the same shards to the same views."""

import io

import torch
from PIL import Image

from benchmarks.loader import BATCH, SIZE, STD, our_batches, plain_batches
from benchmarks.photographs import photographs, write_shards
from tcl.data.shards.list_shards import open_shards
from tcl.data.shards.read_shard import read_samples


def test_batches_are_those_of_the_textbook_pipeline(tmp_path):
    """Small differences of each step, added up; views of other images are far off."""
    urls = write_shards(tmp_path, photographs(None, 5, size=(320, 240)), samples=BATCH + 3, shards=3)
    levels = 255 * torch.tensor(STD).view(3, 1, 1)
    sizes = []
    for ours, plain in zip(our_batches(urls), plain_batches(urls), strict=True):
        sizes.append(len(ours[0]))
        assert len(ours) == len(plain) == 2
        for a, b in zip(ours, plain, strict=True):
            assert a.shape == b.shape == (sizes[-1], 3, SIZE, SIZE)
            assert ((a - b).abs() * levels).mean() < 2.5
            assert ((a.roll(1, 0) - b).abs() * levels).mean() > 20
    assert sizes == [BATCH, 3]


def test_shards_repeat_the_images_and_are_counted(tmp_path):
    images = photographs(None, 3, size=(64, 48))
    urls = write_shards(tmp_path, images, samples=8, shards=3)
    assert [shard.size for shard in open_shards(str(tmp_path / "*.tar"))] == [3, 3, 2]
    found = [sample.fields["jpg"] for url in urls for sample in read_samples(url)]
    assert found == (images * 3)[:8]
    assert len(set(found)) == 3 and Image.open(io.BytesIO(found[0])).size == (64, 48)


def test_a_folder_of_photographs_is_read_in_the_order_of_names(tmp_path):
    for name in "cab":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    assert photographs(tmp_path, 2) == [b"a", b"b"]
    assert photographs(tmp_path, 9) == [b"a", b"b", b"c"]


def test_generated_photographs_have_the_bytes_of_real_ones():
    """0.5 a pixel."""
    (content,) = photographs(None, 1)
    assert 0.35 < len(content) / (640 * 480) < 0.65
