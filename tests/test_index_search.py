"""`tcl search`: what is found is what brute force over all images finds, on every storage and every engine."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import noise
from indexing import BATCH, build, photographs, tiny_stages
from PIL import Image
from tiny_foreign import save_blip, save_clip, save_siglip
from tiny_pretrained import PLAIN, tiny_compressed, tiny_tcl, tiny_towers

import tcl.index.faiss_engine
import tcl.index.milvus_engine
from tcl import TCL, load_model
from tcl.commands.main import run
from tcl.errors import InputError
from tcl.index.catalogue import Catalogue
from tcl.index.description import read_description
from tcl.index.engine import open_engine
from tcl.index.index import Index
from tcl.index.query import Hit, Query
from tcl.index.read_item import ReadItem
from tcl.index.stages import Stages, open_stages
from tcl.index.store import Store
from tcl.index.within import Within, seconds
from tcl.index.write import Wanted, make_index
from tcl.models.compress_tokens import build_compression
from tcl.search.hubness import hubness

COUNT, TEXT = 40, "a red dog on mat"
CLOSE = {"fp32": 1e-5, "fp16": 1e-3, "int8": 1e-2}
"""To how much a cosine is kept."""
CLOSE_TOKENS = {"fp16": 2e-3, "int8": 5e-2}
"""To how much a probability is, with the large weights of a tiny model."""


@pytest.fixture(scope="module")
def stages():
    return tiny_stages()


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "photos"
    photographs(folder, range(COUNT))
    for i in range(5):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2021:05:0{i + 1} 12:00:00"
        noise(100 + i, (40, 30)).save(folder / f"dated{i}.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def paths(images) -> list[str]:
    return sorted(str(path) for path in images.rglob("*") if path.is_file())


def brute(model: TCL, paths: list[str], text: str | None, image: str | None, k: int, rerank: int) -> list[tuple]:
    """(path, cosine, probability) of the k best, from all images, encoded and matched one by one."""
    queries = [model.encode_text(text)[0]] if text else []
    queries += [model.encode_image(image)[0]] if image else []
    query = np.mean(queries, axis=0)
    cosines = np.array([model.encode_image(path)[0] for path in paths]) @ (query / np.linalg.norm(query))
    near = sorted(range(len(paths)), key=lambda i: -cosines[i])
    if text is None or rerank == 0:
        return [(paths[i], cosines[i], None) for i in near[:k]]
    matched = {i: model.match(paths[i], text)[0] for i in near[: max(k, rerank)]}
    return [(paths[i], cosines[i], matched[i]) for i in sorted(matched, key=lambda i: -matched[i])[:k]]


def same(hits: list[Hit], expected: list[tuple], close: float, close_match: float = 2e-3) -> None:
    """The same images in the same order, with the same numbers."""
    assert [hit.path for hit in hits] == [path for path, *_ in expected]
    np.testing.assert_allclose([hit.similarity for hit in hits], [e[1] for e in expected], atol=close)
    if expected[0][2] is not None:
        np.testing.assert_allclose([hit.match for hit in hits], [e[2] for e in expected], atol=close_match)


@pytest.mark.parametrize("engine", ["faiss", "milvus"])
@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_search_is_brute_force_and_matching(engine, storage, images, paths, tmp_path, stages):
    uri = str(tmp_path / "vectors.db") if engine == "milvus" else None
    tokens = "int8" if storage == "int8" else "fp16"
    build(tmp_path / "index", images, stages, embeddings=storage, tokens=tokens, engine=engine, uri=uri)
    close = CLOSE[storage]
    with Index(tmp_path / "index", stages) as index:
        found = index.search(TEXT, k=3, rerank=8)
        expected = brute(stages.model, paths, TEXT, None, len(paths), len(paths))
        known = {path: rest for path, *rest in expected}
        for hit in found:
            assert hit.similarity == pytest.approx(known[hit.path][0], abs=close)
            assert hit.match == pytest.approx(known[hit.path][1], abs=CLOSE_TOKENS[tokens])
        if storage != "int8":
            same(found, brute(stages.model, paths, TEXT, None, 3, 8), close)
            same(index.search(TEXT, k=4, rerank=0), brute(stages.model, paths, TEXT, None, 4, 0), close)
            same(index.search(image=paths[7], k=4), brute(stages.model, paths, None, paths[7], 4, 0), close)
            same(index.search(TEXT, paths[7], k=4), brute(stages.model, paths, TEXT, paths[7], 4, 64), close)
        assert len(index.search(TEXT, k=len(paths))) == len(paths)


def test_both_engines_give_the_same_answers(images, paths, tmp_path, stages):
    build(tmp_path / "faiss", images, stages)
    build(tmp_path / "milvus", images, stages, engine="milvus", uri=str(tmp_path / "vectors.db"))
    with Index(tmp_path / "faiss", stages) as one, Index(tmp_path / "milvus", stages) as other:
        for asked in (
            {"text": TEXT},
            {"text": TEXT, "rerank": 0},
            {"image": paths[0], "k": 5},
            {"text": "a cat", "folder": "deep/er"},
            {"text": "a cat", "folder": "deep/e"},
            {"text": TEXT, "since": "2021-05-02", "until": "2021-05-04"},
            {"text": TEXT, "until": "2021-05-03T11:59:59"},
        ):
            assert one.search(**asked) == other.search(**asked)


def test_a_search_within_a_folder_or_some_days(images, tmp_path, stages):
    build(tmp_path / "index", images, stages)
    with Index(tmp_path / "index", stages) as index:
        deep = index.search(TEXT, k=30, folder="deep")
        assert len(deep) == COUNT // 2 and all("/deep/er/" in hit.path for hit in deep)
        assert {hit.path for hit in index.search(TEXT, k=30, folder="deep/er/")} == {hit.path for hit in deep}
        assert index.search(TEXT, folder="dee") == index.search(TEXT, folder="nowhere") == []
        dated = index.search(TEXT, since="2021-05-02", until="2021-05-04")
        assert sorted(Path(hit.path).name for hit in dated) == ["dated1.jpg", "dated2.jpg", "dated3.jpg"]
        assert {hit.taken for hit in dated} == {seconds(f"2021-05-0{i}T12:00:00", "since") for i in (2, 3, 4)}
        with pytest.raises(InputError, match=r"^since: 'May' is no date; give one like 2021-05-30"):
            index.search(TEXT, since="May")


def test_queries_that_come_together_get_what_each_alone_gets(images, paths, tmp_path, stages):
    build(tmp_path / "index", images, stages)
    seen = stages.see(paths[7])
    queries = [
        Query(TEXT, k=5, rerank=8),
        Query("a cat", k=5, rerank=8),
        Query(TEXT, k=3, rerank=0),
        Query("nowhere to be found", k=3),
        Query(seen=seen, k=4),
        Query("a cat", seen, k=4),
        Query(like=6, k=4),
        Query("a cat", k=30, folder="deep/er"),
        Query("a cat", folder="nowhere"),
        Query("a cat", k=10**6),
        Query(since="May", text="a cat"),
        Query(),
        Query(like=10**6),
        Query("a red thing", k=5, rerank=8),
    ]
    with Index(tmp_path / "index", stages) as index:
        found = index.search_many(queries)
        for query, hits in zip(queries, found, strict=True):
            (alone,) = index.search_many([query])
            assert type(hits) is type(alone)
            if isinstance(alone, InputError):
                assert str(hits) == str(alone)
                continue
            assert [hit.id for hit in hits] == [hit.id for hit in alone]
            for one, other in zip(hits, alone, strict=True):
                assert one.similarity == pytest.approx(other.similarity, abs=1e-6)
                assert (one.match is None) == (other.match is None)
                assert one.match is None or one.match == pytest.approx(other.match, abs=1e-5)
        problems = [str(hits).partition(":")[0] for hits in found if isinstance(hits, InputError)]
        assert problems == ["text", "k", "since", "text", "id"]
        assert index.search_many([]) == []


def test_images_of_the_index_as_queries_and_as_candidates(images, paths, tmp_path, stages):
    build(tmp_path / "index", images, stages, embeddings="fp32", tokens="fp16")
    with Index(tmp_path / "index", stages) as index:
        hits = index.search(image=paths[7], k=5)
        assert hits[0].path == paths[7]
        same(index.search(like=hits[0].id, k=5), [(hit.path, hit.similarity, None) for hit in hits], 1e-5)
        path_of = {hit.id: hit.path for hit in index.search(TEXT, k=len(paths))}
        ids = [[3, 9, 4], [9], [4, 3]]
        texts = [TEXT, "a cat", "blue dog"]
        for some, text, scores in zip(ids, texts, index.match(ids, texts), strict=True):
            expected = [stages.model.match(path_of[id], text)[0] for id in some]
            np.testing.assert_allclose(scores, expected, atol=5e-3)
        expected = stages.model.encode_image([path_of[id] for id in (9, 3, 9)])
        np.testing.assert_allclose(index.embeddings([9, 3, 9]), expected, atol=1e-5)
        for call in (lambda: index.embeddings([1, 10**6]), lambda: index.match([[10**6]], [TEXT])):
            with pytest.raises(InputError, match=r"^id: 1000000 is no image of"):
                call()
    build(tmp_path / "bare", images, stages, tokens="none")
    with Index(tmp_path / "bare", stages) as index, pytest.raises(InputError, match=r"^tokens: .* keeps none"):
        index.match([[1]], [TEXT])


def test_what_another_process_writes_is_found_once_it_is_looked_for(tmp_path, stages):
    photographs(tmp_path / "photos", range(6))
    build(tmp_path / "index", tmp_path / "photos", stages)
    with Index(tmp_path / "index", stages) as index:
        index.search(TEXT)
        photographs(tmp_path / "photos", range(50, 52))
        new = str(tmp_path / "photos" / "050.png")
        build(tmp_path / "index", tmp_path / "photos", stages)
        index.refresh()
        assert index.search(image=new, k=1)[0].path == new
        opened = index._engine._opened
        index.refresh()
        assert index._engine._opened is opened  # nothing has changed


def test_images_are_counted_once_until_something_is_written(tmp_path):
    reader_counts = []
    with (
        contextlib.closing(Catalogue(tmp_path / "c", writable=True)) as writer,
        contextlib.closing(Catalogue(tmp_path / "c", writable=False)) as reader,
    ):
        reader._tables.set_trace_callback(lambda said: reader_counts.append(said) if "count" in said else None)
        assert [reader.count(), reader.count(), writer.count()] == [0, 0, 0] and len(reader_counts) == 1
        writer.add(b"a", [ReadItem(""), ReadItem("b")], [0, 1])
        assert [writer.count(), reader.count()] == [2, 0]  # not committed
        writer.commit()
        assert [writer.count(), reader.count(), reader.count()] == [2, 2, 2] and len(reader_counts) == 2
        writer.drop_items([writer.latest(1)[0].id])
        assert writer.count() == 1
        writer._tables.rollback()
        assert writer.count() == 2


def test_lists_of_a_catalogue(images, tmp_path, stages):
    photographs(images.parent / "listed" / "b", range(2))
    (images.parent / "listed" / "b" / "deep0").mkdir()
    noise(3).save(images.parent / "listed" / "b" / "deep0" / "x.png")
    noise(4).save(images.parent / "listed" / "b-.png")
    build(tmp_path / "index", images.parent / "listed", stages)
    store = Store(tmp_path / "index", read_description(tmp_path / "index"), writable=False)
    catalogue = store.catalogue
    everything = list(catalogue.items())
    assert catalogue.folders(b"", 10) == [b"b"] and catalogue.folders(b"b", 10) == [b"b/deep", b"b/deep0"]
    assert (
        catalogue.folders(b"b", 1) == [b"b/deep"]
        and catalogue.folders(b"b/deep/er", 9) == catalogue.folders(b"x", 9) == []
    )
    assert catalogue.page(Within(), 0, 3) + catalogue.page(Within(), everything[2].id, 9) == everything
    assert catalogue.page(Within("b/deep"), 0, 9) == [item for item in everything if item.file.startswith(b"b/deep/")]
    assert catalogue.latest(2) == everything[:-3:-1] and catalogue.days() is None
    assert catalogue.files_read() == len(everything) == 4
    store.close()


def test_what_is_removed_is_found_by_no_engine(images, paths, tmp_path, stages):
    for engine, uri in (("faiss", None), ("milvus", str(tmp_path / "vectors.db"))):
        folder = tmp_path / engine
        build(folder, images, stages, engine=engine, uri=uri)
        with Index(folder, stages) as index:
            first, second = index.search(image=paths[3], k=2)
            assert index.remove([first.id, 10**9]) == 1
            assert index.search(image=paths[3], k=1) == [second] and len(index) == len(paths) - 1
        assert build(folder, images, stages, engine=engine, uri=uri)[0].encoded == 0  # until its file changes
        with Index(folder, stages) as index:
            assert index.search(image=paths[3], k=1) == [second]


def test_images_that_are_added_one_by_one(paths, tmp_path, stages):
    make_index(tmp_path / "index", Wanted(), stages)
    with Index(tmp_path / "index", stages) as index:
        with pytest.raises(InputError, match="holds no images yet"):
            index.search(TEXT)
        ids = index.add(paths[: BATCH + 2])
        assert len(index) == len(ids) == BATCH + 2
        assert [index.search(image=path, k=1)[0].id for path in paths[: BATCH + 2]] == ids
        again = index.add([paths[0]])
        assert len(index) == BATCH + 2 and again[0] not in ids
        (tmp_path / "bad.jpg").write_bytes(b"no image")
        for bad, line in (
            (tmp_path / "bad.jpg", "bad.jpg cannot be used: corrupt image"),
            ("gone.jpg", "cannot be read"),
        ):
            with pytest.raises(InputError, match=line):
                index.add([paths[-1], bad])
        assert len(index) == BATCH + 2 and index.search(image=paths[0], k=1)[0].id == again[0]
        same(index.search(TEXT, k=2), brute(stages.model, paths[: BATCH + 2], TEXT, None, 2, 64), 1e-3, 0.05)
    with pytest.raises(InputError, match="is one already"):
        make_index(tmp_path / "index", Wanted(), stages)


def test_an_index_of_a_folder_takes_no_other_images(images, paths, tmp_path, stages):
    build(tmp_path / "index", images, stages)
    with Index(tmp_path / "index", stages) as index, pytest.raises(InputError, match=r"follows .*photos; put"):
        index.add(paths[:1])


def test_rescored_against_hubs(images, paths, tmp_path, stages):
    bank = stages.model.encode_text(["a dog", "a cat", "a red thing", "green", "a photo of a blue dog"])
    np.save(tmp_path / "bank.npy", bank)
    build(tmp_path / "index", images, stages, embeddings="fp32", bank=str(tmp_path / "bank.npy"))
    embeddings = stages.model.encode_image(paths)
    hubs = hubness(torch.from_numpy(bank), torch.from_numpy(embeddings), "inverted_softmax", 0.05).numpy()
    scores = embeddings @ stages.model.encode_text(TEXT)[0] - hubs
    best = np.argsort(-scores)[:5]
    with Index(tmp_path / "index", stages) as index:
        found = index.search(TEXT, k=5, rerank=0, rescore=True)
        assert [hit.path for hit in found] == [paths[i] for i in best]
        np.testing.assert_allclose([hit.similarity for hit in found], scores[best], atol=1e-5)
        assert found != index.search(TEXT, k=5, rerank=0)
        with pytest.raises(InputError, match=r"^rescore: hubness is that of texts"):
            index.search(image=paths[0], rescore=True)
    np.save(tmp_path / "other.npy", bank[:, :3])
    with pytest.raises(InputError, match=r"^bank: .*holds \[5, 3\]; give at least one query, of 8 numbers"):
        build(tmp_path / "no", images, stages, bank=str(tmp_path / "other.npy"))
    build(tmp_path / "plain", images, stages)
    with Index(tmp_path / "plain", stages) as index, pytest.raises(InputError, match=r"^rescore: .*has no bank"):
        index.search(TEXT, rescore=True)


def test_a_model_of_two_towers_has_one_stage(images, paths, tmp_path):
    stages = Stages(tiny_towers(), "towers")
    build(tmp_path / "index", images, stages, embeddings="fp32")
    with Index.open(tmp_path / "index", stages.model) as index:
        found = index.search(TEXT, k=3)
    same(found, brute(stages.model, paths, TEXT, None, 3, 0), 1e-5)
    assert not (tmp_path / "index" / "tokens.rows").exists()


@pytest.mark.parametrize("flat_up_to", [100_000, 10])
def test_codes(flat_up_to, images, paths, tmp_path, monkeypatch):
    monkeypatch.setattr(tcl.index.faiss_engine, "FLAT_UP_TO", flat_up_to)
    monkeypatch.setattr(tcl.index.faiss_engine, "LEAST_LISTS", 10**6)
    model = tiny_compressed()
    build(tmp_path / "index", images, Stages(model, "codes"))
    levels, parts, _, _ = model.codebooks.shape
    cosines = []
    for codes in model.encode_image_codes(paths):
        words = [model.codebooks[v, m, codes[v, m]] for v in range(levels) for m in range(parts)]
        cosines.append(np.concatenate(words) / (levels * parts) ** 0.5 @ model.encode_text(TEXT)[0])
    with Index.open(tmp_path / "index", model) as index:
        found = index.search(TEXT, k=10, rerank=0)
        assert index.info()["embeddings"] == "codes [48]" and index.info()["tokens"] == "int8 [5, 24]"
    np.testing.assert_allclose([hit.similarity for hit in found], np.sort(cosines)[::-1][:10], atol=1e-5)


def test_few_tokens_are_kept_of_a_model_that_compresses_them(images, paths, tmp_path):
    model = tiny_tcl()
    encoders = model.student.encoders
    encoders.fusion_encoder.compression = build_compression(2, encoders.image_encoder).eval()
    build(tmp_path / "index", images, Stages(model, "few"), embeddings="fp32", tokens="fp16")
    with Index.open(tmp_path / "index", model) as index:
        assert index.info()["tokens"] == "fp16 [2, 24]"
        found = index.search(TEXT, k=5, rerank=8)
    same(found, brute(model, paths, TEXT, None, 5, 8), 1e-5)


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_lists_keep_their_centres_while_images_come_and_go(storage, images, tmp_path, stages, monkeypatch):
    monkeypatch.setattr(tcl.index.faiss_engine, "FLAT_UP_TO", 10)
    monkeypatch.setattr(tcl.index.faiss_engine, "LEAST_LISTS", 10**6)  # all, so that nothing is missed
    folder = tmp_path / "photos"
    shutil.copytree(images, folder)
    index = tmp_path / "index"

    def centres() -> np.ndarray:
        faiss = pytest.importorskip("faiss")
        lists = faiss.read_index(str(index / "faiss.index"))
        return faiss.downcast_index(lists.quantizer).reconstruct_n(0, lists.nlist)

    def finds_all(found: list[Hit]) -> None:
        there = sorted(str(path) for path in folder.rglob("*") if path.is_file())
        assert sorted(hit.path for hit in found) == there

    assert build(index, folder, stages, embeddings=storage)[1]["engine"] == "faiss, 13 lists"
    before = centres()
    (folder / "000.png").unlink()
    photographs(folder, range(200, 204))
    build(index, folder, stages)
    assert np.array_equal(centres(), before)
    with Index(index, stages) as opened:
        finds_all(opened.search(TEXT, k=len(opened), rerank=0))
        assert len(opened.search(TEXT, k=30, folder="deep", rerank=0)) == 22
    photographs(folder, range(300, 400))
    assert build(index, folder, stages)[1]["engine"] == "faiss, 24 lists"
    with Index(index, stages) as opened:
        finds_all(opened.search(TEXT, k=len(opened), rerank=0))
        best = opened.search(TEXT, k=5, rerank=0)
        paths = sorted(str(path) for path in folder.rglob("*") if path.is_file())
        expected = brute(stages.model, paths, TEXT, None, 5, 0)
        np.testing.assert_allclose([hit.similarity for hit in best], [e[1] for e in expected], atol=CLOSE[storage])


def test_an_engine_that_lost_its_vectors_gets_them_again(images, paths, tmp_path, stages):
    uri = str(tmp_path / "vectors.db")
    build(tmp_path / "index", images, stages, engine="milvus", uri=uri)
    description = read_description(tmp_path / "index")
    engine = open_engine(tmp_path / "index", description, Store(tmp_path / "index", description, writable=False))
    with engine._connected() as client:
        client.drop_collection(description.collection)
    engine.close()
    build(tmp_path / "index", images, stages)
    with Index(tmp_path / "index", stages) as index:
        assert index.search(image=paths[3], k=1)[0].path == paths[3]


def test_milvus_outgrows_comparing_all(images, tmp_path, stages, monkeypatch):
    folder, uri = tmp_path / "photos", str(tmp_path / "vectors.db")
    names = photographs(folder, range(4))
    monkeypatch.setattr(tcl.index.milvus_engine, "FLAT_UP_TO", 5)
    _, info = build(tmp_path / "index", folder, stages, engine="milvus", uri=uri)
    assert info["engine"] == f"milvus at {uri}, flat"
    photographs(folder, range(4, 8))
    assert build(tmp_path / "index", folder, stages)[1]["engine"] == f"milvus at {uri}, autoindex"
    with Index(tmp_path / "index", stages) as index:
        assert len(index.search(TEXT, k=8)) == 8
        assert index.search(image=folder / names[0], k=1)[0].path == str(folder / names[0])


def test_milvus_that_cannot_be_reached(images, tmp_path, stages):
    with pytest.raises(InputError, match=r"^uri: Milvus at http://localhost:1 cannot be used \(") as refused:
        build(tmp_path / "index", images, stages, engine="milvus", uri="http://localhost:1")
    assert "\n" not in str(refused.value)


def test_queries_that_cannot_be_used(images, paths, tmp_path, stages):
    build(tmp_path / "index", images, stages)
    count = len(paths)
    with Index(tmp_path / "index", stages) as index:
        for asked, line in (
            ({}, "^text: there is none, and no image"),
            ({"text": "xyzzy plugh"}, "^text: 'xyzzy plugh' has no word that this model knows"),
            ({"text": "?!"}, r"^text\[0\]: '\?!' has no words"),
            ({"text": TEXT, "k": count + 1}, f"^k: {count + 1} .*1 to {count}"),
            ({"text": TEXT, "k": 0}, "^k: 0"),
            ({"text": TEXT, "rerank": -1}, "^rerank: -1"),
            ({"image": "nowhere.jpg"}, "nowhere.jpg' is no file"),
        ):
            with pytest.raises(InputError, match=line) as refused:
                index.search(**asked)
            assert "\n" not in str(refused.value)
        assert len(index.search(TEXT)) == 10


def test_the_command(images, paths, tmp_path, stages, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stages.model.save_pretrained("tcl")
    options = ["--device=cpu", "--precision=fp32", "--batch_size=3"]
    run(["index", "tcl", f"--images={images}", "--out=index", *options])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"index: {len(paths)} images ({len(paths)} encoded, ")
    assert said[1].startswith("faiss, flat; 160 bytes each, ")
    run(["index", "--info", "index", "--json"])
    info = json.loads(capsys.readouterr().out)
    assert (info["images"], info["engine"], info["of"]) == (len(paths), "faiss, flat", str(images))
    with Index("index", stages) as index:
        expected = index.search(TEXT, k=3)
    run(["search", "index", TEXT, "-k", "3", "--json", *options])
    found = json.loads(capsys.readouterr().out)
    assert [list(one) for one in found] == [["id", "path", "similarity", "match"]] * 3
    assert [one["path"] for one in found] == [hit.path for hit in expected]
    run(["search", "index", "--image", paths[5], "-k", "1", *options])
    assert capsys.readouterr().out == f"+1.000  {paths[5]}\n"
    Path("tcl").rename("moved")
    with pytest.raises(InputError, match="tcl"):
        run(["search", "index", TEXT, *options])
    run(["search", "index", TEXT, "-k", "1", "--model", "moved", *options])
    assert capsys.readouterr().out == f"{expected[0].match:.3f}  {expected[0].similarity:+.3f}  {expected[0].path}\n"


def test_images_are_looked_up_after_they_were_matched(images, paths, tmp_path, stages, monkeypatch):
    """Another process may drop one meanwhile, and give its row to another image."""
    build(tmp_path / "index", images, stages)
    with Index(tmp_path / "index", stages) as index, Index(tmp_path / "index", stages) as writer:
        first = index.search(TEXT, k=5)
        match = Stages.match

        def then_one_goes(self, *asked):
            monkeypatch.setattr(Stages, "match", match)
            writer.remove([first[0].id])
            return match(self, *asked)

        monkeypatch.setattr(Stages, "match", then_one_goes)
        assert index.search(TEXT, k=4) == first[1:]


@pytest.mark.parametrize("first", [save_clip, save_siglip])
@pytest.mark.parametrize("second", ["none", "blip", "tcl"])
def test_stages_from_elsewhere(first, second, images, paths, tmp_path):
    """Every image by the models' own methods, one by one."""
    model = load_model(first(tmp_path / "first"), batch_size=BATCH, **PLAIN)
    blip = load_model(save_blip(tmp_path / "blip"), **PLAIN)
    matcher = {"none": None, "blip": blip, "tcl": tiny_tcl()}[second]
    stages = open_stages(model, matcher)
    build(tmp_path / "index", images, stages, embeddings="fp32", tokens=None if matcher is None else "fp16")
    with Index.open(tmp_path / "index", model, matcher) as index:
        found = index.search(TEXT, k=5, rerank=9)
    cosines = {path: float(model.encode_image(path)[0] @ model.encode_text(TEXT)[0]) for path in paths}
    near = sorted(paths, key=lambda path: -cosines[path])[:9]
    matches = {path: None if matcher is None else float(matcher.match(path, TEXT)[0]) for path in near}
    if matcher is not None:
        near.sort(key=lambda path: -matches[path])
    same(found, [(path, cosines[path], matches[path]) for path in near[:5]], 1e-5, 5e-3)


def test_stages_from_elsewhere_by_commands(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_clip(tmp_path / "clip")
    save_blip(tmp_path / "blip")
    build_it = ["index", "clip", "--matcher=blip", f"--images={images}", "--out=index", "--workers=0", "--device=cpu"]
    run(build_it)
    assert read_description(Path("index")).matcher == str(tmp_path / "blip")
    search_it = ["search", "index", TEXT, "-k=2", "--device=cpu"]
    run(search_it)
    capsys.readouterr()
    run([*search_it, "--json"])
    hits = json.loads(capsys.readouterr().out)
    assert len(hits) == 2 and all(0 <= hit["match"] <= 1 for hit in hits)
    Path("blip").rename("elsewhere")
    run([*search_it, "--json", "--matcher=elsewhere"])
    assert json.loads(capsys.readouterr().out) == hits
    with pytest.raises(InputError, match=r"^matcher: index is of another one \(.*blip, weights .*give that one"):
        tiny_tcl().save_pretrained("tcl")
        run([*search_it, "--matcher=tcl"])
    with pytest.raises(InputError, match=r"^source: clip is a ForeignTowers, which does not match texts with images"):
        run([*search_it, "--matcher=clip"])
    with pytest.raises(InputError, match=r"^source: .*elsewhere is a BlipMatcher, which has no embeddings"):
        run(["index", "elsewhere", f"--images={images}", "--out=other", "--device=cpu"])
    with pytest.raises(InputError, match=r"^tokens: .*clip does not match images .* or others with --matcher$"):
        run(["index", "clip", "--tokens=int8", f"--images={images}", "--out=other", "--device=cpu"])
