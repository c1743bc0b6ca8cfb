"""The benchmark of the index drives an index as it is now."""

from tiny_pretrained import tiny_tcl

from benchmarks import search
from tcl.index.stages import Stages


def test_indexing_is_measured_beside_the_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "load", lambda codes: Stages(tiny_tcl(), "tiny"))
    monkeypatch.setattr(search, "BATCH", 2)
    found = search.indexing(tmp_path, count=4, rounds=1, workers=0)
    assert found["images"] == 4 and len(found["rates"]["encoder"]) == len(found["rates"]["index"]) == 1
    assert found["bytes_of_an_image"] > 0 and found["share"]["median"] > 0
    assert list(tmp_path.iterdir()) == []
