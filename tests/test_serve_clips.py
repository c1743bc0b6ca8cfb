"""`tcl serve` of an index of clips and sounds: what plays them, by the interface and in a real browser."""

import io
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from data_files import encode, noise, write_tar
from indexing import build
from media_files import film, tone, wav
from serving import base64_of, served
from test_index_clips import mixed, one_of
from test_serve_page import CHROMIUM, TILES, browser, ids, page_of, settle, wait  # noqa: F401  a fixture
from tiny_pretrained import tiny_clips

from tcl.index.index import Index
from tcl.index.share import Share
from tcl.index.stages import open_stages
from tcl.index.write import Wanted, write_index
from tcl.serve import pieces
from tcl.serve.pieces import LARGEST, piece_of

TEXT, SECONDS = "a red dog on mat", 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twelve files, and two that a browser can play for a while: a clip with sound, and a sound."""
    folder = tmp_path_factory.mktemp("clips")
    mixed(folder / "media")
    frames = [np.asarray(noise(i // 8, (320, 180))) for i in range(8 * SECONDS)]
    long = film(
        frames, sound=tone(SECONDS, 24_000), container="webm", codec="libvpx-vp9", sound_codec="libopus", rate=48_000
    )
    (folder / "media" / "long.webm").write_bytes(long)
    (folder / "media" / "long.wav").write_bytes(wav(tone(SECONDS, 16_000, 600), 16_000))
    tiny_clips().save_pretrained(folder / "model")
    build(folder / "media.index", folder / "media", open_stages(folder / "model", device="cpu", precision="fp32"))
    return folder


@pytest.fixture(scope="module")
def index(folder):
    with Index.open(folder / "media.index", tiny_clips()) as opened:
        yield opened


@pytest.fixture(scope="module")
def service(folder):
    with served(folder / "media.index", "--max_body=1MB") as running:
        yield running


@pytest.fixture(scope="module")
def id_of(service):
    """By the name of the file."""
    listed = service.ask("/v1/images?count=200").json["results"]
    return {Path(one["path"]).name: one["id"] for one in listed}


def shown(hits) -> list[dict]:
    return [vars(hit) | {"similarity": pytest.approx(hit.similarity, abs=1e-4)} for hit in hits]


def test_it_is_searched_by_texts_files_and_its_own(service, index, folder, id_of):
    about = service.ask("/v1/index").json
    assert (about["what"], about["plays"], about["matches"], about["explains"]) == (
        "clips and sounds",
        True,
        False,
        False,
    )
    found = service.ask("/v1/search", {"query": TEXT, "k": 14}).json["results"]
    assert found == shown(index.search(TEXT, k=14))
    assert {one["type"] for one in found} == {"video/mp4", "video/webm", "audio/wav", None}
    for name in ("006.mp4", "deep/er/007.wav", "008.png"):
        content, id = (folder / "media" / name).read_bytes(), id_of[Path(name).name]
        for asked in ({"image": base64_of(content)}, {"id": id}, {"query": TEXT, "image": base64_of(content)}):
            hits = index.search(asked.get("query"), folder / "media" / name, k=5)
            assert service.ask("/v1/search", {**asked, "k": 5}).json["results"] == shown(hits)
    refused = service.ask("/v1/search", {"image": base64_of(b"#EXTM3U\n/etc/passwd\n")})
    assert refused.status == 400 and "text in place of media; give an MP4, WebM or" in refused.problem
    assert service.ask("/v1/search", {"image": base64_of(bytes(2**20))}).status == 413


def test_reranked_and_embedded(service, index, id_of):
    """Texts with clips and sounds in the spaces that they share, and these with each other in theirs."""
    model, known = index.stages.model, [id_of["000.mp4"], id_of["001.wav"], id_of["008.png"]]
    documents = [{"id": id} for id in known]
    paths = [hit.path for id in known for hit in index.search(like=id, k=14) if hit.id == id]
    embed = [model.embed_audio if path.endswith("wav") else model.embed_video for path in paths]
    spaces = [one(path).spaces for one, path in zip(embed, paths, strict=True)]
    text = model.embed_text(TEXT).spaces["vat"][0]
    for query, cosines in (
        (TEXT, [own["vat"][0] @ text for own in spaces]),
        ({"id": known[1]}, [own["va"][0] @ spaces[1]["va"][0] for own in spaces]),
    ):
        found = service.ask("/v1/rerank", {"query": query, "documents": documents}).json["results"]
        scores = {one["index"]: one["relevance_score"] for one in found}
        assert scores == {i: pytest.approx((1 + cosine) / 2, abs=2e-3) for i, cosine in enumerate(cosines)}
    data = service.ask("/v1/embeddings", {"input": [TEXT, *documents]}).json["data"]
    rows = np.array([one["embedding"] for one in data])
    np.testing.assert_allclose(rows[1:] @ rows[0], [own["vat"][0] @ text for own in spaces], atol=2e-3)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", range(0, 100)),
        ("bytes=10-19", range(10, 20)),
        ("bytes=10-900", range(10, 100)),
        ("bytes=99-", range(99, 100)),
        ("bytes=-30", range(70, 100)),
        ("bytes=-300", range(0, 100)),
        ("bytes=100-", range(0)),
        ("bytes=-0", range(0)),
        ("bytes=20-10", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("lines=0-1", None),
        ("bytes=" + "9" * 40 + "-", None),
    ],
)
def test_which_piece(header, expected):
    found = piece_of(header, 100)
    assert (found is None) == (expected is None) and list(found or ()) == list(expected or ())


def test_no_piece_is_larger_than_the_largest():
    size = 10 * LARGEST
    assert piece_of("bytes=7-", size) == range(7, 7 + LARGEST)
    assert piece_of(f"bytes=-{3 * LARGEST}", size) == range(7 * LARGEST, 8 * LARGEST)
    assert piece_of(None, size) is None


def test_a_file_is_closed_whatever_is_asked_of_it(monkeypatch):
    with ThreadPoolExecutor(1) as threads:
        beyond = io.BytesIO(b"0123456789")
        assert pieces.send(beyond, "audio/wav", "bytes=10-", {}, threads).status_code == 416 and beyond.closed


def test_files_are_sent_whole_or_in_pieces(service, folder, id_of):
    for name, kind in (("long.webm", "video/webm"), ("long.wav", "audio/wav"), ("006.mp4", "video/mp4")):
        content, path = (folder / "media" / name).read_bytes(), f"/v1/images/{id_of[name]}/media"
        whole = service.ask(path)
        assert (whole.status, whole.content, whole.headers["Content-Type"]) == (200, content, kind)
        assert whole.headers["Accept-Ranges"] == "bytes" and whole.headers["X-Content-Type-Options"] == "nosniff"
        piece = service.ask(path, Range="bytes=100-199")
        assert (piece.status, piece.content) == (206, content[100:200])
        assert piece.headers["Content-Range"] == f"bytes 100-199/{len(content)}"
        beyond = service.ask(path, Range=f"bytes={len(content)}-")
        assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(content)}")
        assert beyond.problem == f"range: beyond the {len(content):,} bytes of the file"
    for id in (id_of["008.png"], 10**6):
        refused = service.ask(f"/v1/images/{id}/media")
        assert refused.status == 404 and "is no clip or sound of the index" in refused.problem
    poster = service.ask(f"/v1/images/{id_of['long.webm']}")
    assert poster.content == service.ask(f"/v1/images/{id_of['long.webm']}/small").content
    assert poster.headers["Content-Type"] == "image/jpeg"


def test_nothing_outside_the_folder_is_sent(folder, tmp_path):
    """A file that has become a link out of it since it was indexed, or has gone."""
    media = tmp_path / "media"
    mixed(media, 4)
    (tmp_path / "secret").write_bytes(one_of("mp4", 9))
    build(tmp_path / "index", media, open_stages(folder / "model", device="cpu"))
    (media / "000.mp4").unlink()
    (media / "000.mp4").symlink_to(tmp_path / "secret")
    (media / "deep/er/003.mp4").unlink()
    with served(tmp_path / "index") as running:
        listed = running.ask("/v1/images").json["results"]
        for name, status in (("000.mp4", 404), ("003.mp4", 404), ("001.wav", 200)):
            (id,) = (one["id"] for one in listed if one["path"].endswith(name))
            assert running.ask(f"/v1/images/{id}/media").status == status
        for path in ("/v1/images/1/media/../../../secret", "/v1/images/..%2Fsecret/media"):
            request = urllib.request.Request(running.url + path)
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(request)


def test_of_shards(folder, tmp_path):
    clip = one_of("mp4", 3)
    write_tar(tmp_path / "0.tar", [("a.png", encode(noise(1))), ("b.mp4", clip), ("b.wav", one_of("wav", 1))])
    stages = open_stages(folder / "model", device="cpu")
    write_index(tmp_path / "index", Wanted(shards=f"{tmp_path}/*.tar"), stages, Share(), workers=0)
    with served(tmp_path / "index") as running:
        (id,) = (one["id"] for one in running.ask("/v1/images").json["results"] if one["type"])
        piece = running.ask(f"/v1/images/{id}/media", Range="bytes=10-")
        assert (piece.status, piece.content, piece.headers["Content-Type"]) == (206, clip[10:], "video/mp4")


in_a_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium here (Debian: apt-get install chromium)"
)


def open_tile(page, id: int) -> None:
    page.locator(f'{TILES}[data-id="{id}"]').click()
    page.wait_for_selector("#viewer[open]")


@in_a_browser
@pytest.mark.parametrize(("name", "element"), [("long.webm", "video"), ("long.wav", "audio")])
def test_the_page_plays(name, element, browser, service, id_of):  # noqa: F811
    pieces_asked = []
    with page_of(browser, service, "/?q=a+red+dog") as page:
        page.on("response", lambda got: pieces_asked.append(got.status) if "/media" in got.url else None)
        settle(page)
        assert ids(page) == [
            one["id"] for one in service.ask("/v1/search", {"query": "a red dog", "k": 14}).json["results"]
        ]
        open_tile(page, id_of[name])
        player = f"document.querySelector('#frame {element}')"
        wait(page, f"{player}.readyState >= 1")
        assert page.evaluate(f"{player}.controls && Math.abs({player}.duration - {SECONDS}) < 0.2")
        page.evaluate(f"{player}.currentTime = {SECONDS} - 1")
        wait(page, f"!{player}.seeking && {player}.currentTime >= {SECONDS} - 1")
        page.evaluate(f"void ({player}.muted = true, {player}.play())")
        wait(page, f"{player}.ended")
        assert set(pieces_asked) == {206}
        assert page.is_visible("#photo") == (element == "audio")
        page.keyboard.press("Escape")
        page.wait_for_selector("#viewer", state="hidden")
        wait(page, "!document.querySelector('#frame video, #frame audio')")  # nothing plays on
        assert page.get_attribute(f'{TILES}[data-id="{id_of[name]}"] img', "alt") == f"{name}, {element}"
        assert page.text_content("#similar") == "Similar clips and sounds"


@in_a_browser
def test_a_sound_of_the_visitors_own(browser, service, folder, id_of):  # noqa: F811
    with page_of(browser, service) as page:
        page.wait_for_selector(TILES)
        assert page.text_content("h1") == "Search 14 clips and sounds"
        page.set_input_files("#file", folder / "media" / "long.wav")
        wait(page, "document.querySelector('#summary').textContent.includes('long.wav')")
        settle(page)
        assert ids(page)[0] == id_of["long.wav"]
        assert page.is_hidden("#chip-image") and page.text_content("#chip-name") == "long.wav"


@in_a_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_it_fits_a_phone_and_a_desk(width, browser, service, id_of):  # noqa: F811
    options = {"viewport": {"width": width, "height": 844}, "has_touch": width == 390}
    with page_of(browser, service, "/?q=a+red+dog", **options) as page:
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.wait_for_selector(".tile img.there")
        _picture(page, f"clips_{width}")
        for name, element in (("long.webm", "video"), ("long.wav", "audio")):
            open_tile(page, id_of[name])
            wait(page, f"document.querySelector('#frame {element}').readyState >= 1")
            boxes = [page.locator(one).bounding_box() for one in (f"#frame {element}", "#similar")]
            assert all(box["x"] >= 0 and box["x"] + box["width"] <= width and box["width"] > 100 for box in boxes)
            stage = page.locator("#stage").bounding_box()
            assert stage["y"] <= boxes[0]["y"] and boxes[0]["y"] + boxes[0]["height"] <= stage["y"] + stage["height"]
            _picture(page, f"{element}_{width}")
            page.keyboard.press("Escape")
            page.wait_for_selector("#viewer", state="hidden")


def _picture(page, name: str) -> None:
    if folder := os.environ.get("TCL_SCREENSHOTS"):  # to be looked at
        page.screenshot(path=f"{folder}/{name}.png")
