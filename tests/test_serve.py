"""`tcl serve` as a process: what it answers is what the index and the model say, and what it refuses it says why."""

import base64
import http.client
import json
import re
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from data_files import noise
from PIL import Image
from serving import SCRIPT, base64_of, decoded, served, served_photographs
from tiny_pretrained import tiny_tcl

from tcl.commands.main import run
from tcl.errors import InputError
from tcl.index.index import Index
from tcl.index.stages import Stages

TEXT = "a red dog on mat"
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    served_photographs(folder)
    return folder


@pytest.fixture(scope="module")
def service(folder):
    with served(folder / "photos.index", "--max_body=2MB", "--max_pixels=1e6", "--max_candidates=100") as running:
        yield running


@pytest.fixture(scope="module")
def index(folder):
    with Index(folder / "photos.index", Stages(tiny_tcl(), str(folder / "model"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def model():
    return tiny_tcl()


def path_of(index: Index, id: int) -> str:
    return next(hit.path for hit in index.search(like=id, k=len(index)) if hit.id == id)


# what is answered


@pytest.mark.parametrize(
    "asked, expected",
    [
        ({"query": TEXT}, {"text": TEXT}),
        ({"query": TEXT, "k": 3, "rerank": 0}, {"text": TEXT, "k": 3, "rerank": 0}),
        ({"query": TEXT, "k": 5, "rerank": 8}, {"text": TEXT, "k": 5, "rerank": 8}),
        ({"id": 4, "k": 3}, {"like": 4, "k": 3}),
        ({"query": TEXT, "id": 4}, {"text": TEXT, "like": 4}),
        ({"query": TEXT, "folder": "deep/er", "k": 20}, {"text": TEXT, "folder": "deep/er", "k": 20}),
        (
            {"query": TEXT, "since": "2021-05-02", "until": "2021-05-03"},
            {"text": TEXT, "since": "2021-05-02", "until": "2021-05-03"},
        ),
        ({"query": TEXT, "k": 100}, {"text": TEXT, "k": 30}),
    ],
)
def test_search_is_that_of_the_index(asked, expected, service, index):
    found = service.ask("/v1/search", asked).json["results"]
    hits = index.search(**expected)
    assert [one["id"] for one in found] == [hit.id for hit in hits] and hits
    for one, hit in zip(found, hits, strict=True):
        assert one["path"] == hit.path and one["caption"] == hit.caption and one["taken"] == hit.taken
        assert one["similarity"] == pytest.approx(hit.similarity, abs=1e-5)
        assert (one["match"] is None) == (hit.match is None)
        assert hit.match is None or one["match"] == pytest.approx(hit.match, abs=1e-4)


def test_search_by_an_image_that_comes_along(service, index):
    image = noise(77, (50, 40))
    hits = index.search(TEXT, image, 5)
    for prefix in ("", "data:image/png;base64,"):
        found = service.ask("/v1/search", {"query": TEXT, "image": prefix + base64_of(image), "k": 5}).json["results"]
        assert [one["id"] for one in found] == [hit.id for hit in hits]


def test_a_part_of_the_results(service):
    whole = service.ask("/v1/search", {"query": TEXT, "k": 20}).json["results"]
    part = service.ask("/v1/search", {"query": TEXT, "k": 5, "offset": 10}).json["results"]
    assert [one["id"] for one in part] == [one["id"] for one in whole[10:15]]
    assert service.ask("/v1/search", {"query": TEXT, "k": 5, "offset": 90}).json["results"] == []


def test_many_at_once_get_what_each_alone_gets(service):
    """Their queries go through the model together."""
    texts = [f"a {colour} {thing} on mat" for colour in ("red", "green", "blue") for thing in ("dog", "cat", "thing")]
    alone = [service.ask("/v1/search", {"query": text}).json["results"] for text in texts]
    together: dict[int, list] = {}

    def ask(i: int) -> None:
        together[i] = service.ask("/v1/search", {"query": texts[i]}).json["results"]

    for _ in range(3):
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(texts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i, expected in enumerate(alone):
            assert [one["id"] for one in together[i]] == [one["id"] for one in expected]
            np.testing.assert_allclose(
                [one["match"] for one in together[i]], [one["match"] for one in expected], atol=1e-4
            )
    sizes = [line for line in service.ask("/metrics").content.decode().splitlines() if "tcl_batch_items_sum" in line]
    assert any('work="search"' in line for line in sizes)


def test_rerank_is_what_the_model_says_of_each_pair(service, index, model):
    ids = [3, 9, 5, 14]
    expected = [model.match(path_of(index, id), TEXT)[0] for id in ids]
    found = service.ask("/v1/rerank", {"query": TEXT, "documents": [{"id": id} for id in ids]}).json["results"]
    assert [one["index"] for one in found] == sorted(range(4), key=lambda i: -expected[i])
    for one in found:  # tokens are kept in int8
        assert one["relevance_score"] == pytest.approx(expected[one["index"]], abs=0.05)
    pictures = [noise(80 + i, (60, 50)) for i in range(3)]
    documents = [{"image": base64_of(picture)} for picture in pictures]
    found = service.ask("/v1/rerank", {"query": {"text": TEXT}, "documents": documents, "top_n": 2}).json["results"]
    expected = model.match(pictures, TEXT)
    assert [one["index"] for one in found] == np.argsort(-expected)[:2].tolist()
    assert found[0]["relevance_score"] == pytest.approx(expected.max(), abs=1e-4)
    texts = ["a dog", "a green thing on mat", "blue"]
    for query in (
        {"image": base64_of(pictures[0])},
        {"image_url": {"url": f"data:image/png;base64,{base64_of(pictures[0])}"}},
    ):
        found = service.ask("/v1/rerank", {"query": query, "documents": texts, "model": "any"}).json["results"]
        scores = {one["index"]: one["relevance_score"] for one in found}
        np.testing.assert_allclose([scores[i] for i in range(3)], model.match(pictures[0], texts), atol=1e-4)


def test_rerank_of_known_and_unknown_images_together(service, index, model):
    picture = noise(90, (60, 50))
    documents = [{"id": 3}, {"image": base64_of(picture)}, {"id": 5}]
    found = service.ask("/v1/rerank", {"query": TEXT, "documents": documents, "return_documents": True}).json["results"]
    scores = {one["index"]: one["relevance_score"] for one in found}
    assert scores[1] == pytest.approx(model.match(picture, TEXT)[0], abs=1e-4)
    assert scores[0] == pytest.approx(model.match(path_of(index, 3), TEXT)[0], abs=0.05)
    assert {one["index"]: one["document"] for one in found} == {0: {"id": 3}, 1: {}, 2: {"id": 5}}
    query_is_known = service.ask("/v1/rerank", {"query": {"id": 3}, "documents": [TEXT, "a cat"]}).json["results"]
    scores = {one["index"]: one["relevance_score"] for one in query_is_known}
    assert scores[0] == pytest.approx(model.match(path_of(index, 3), TEXT)[0], abs=0.05)


def test_rerank_of_texts_by_a_text_is_their_cosine(service, model):
    texts = ["a dog", "a cat on mat", "red thing"]
    found = service.ask("/v1/rerank", {"query": TEXT, "documents": texts, "return_documents": True}).json["results"]
    expected = (1 + model.encode_text(texts) @ model.encode_text(TEXT)[0]) / 2
    assert [one["document"]["text"] for one in found] == [texts[i] for i in np.argsort(-expected)]
    np.testing.assert_allclose([one["relevance_score"] for one in found], np.sort(expected)[::-1], atol=1e-5)


def test_embeddings_are_those_of_the_model(service, index, model):
    picture = noise(91, (60, 50))
    inputs = ["a dog", {"image": base64_of(picture)}, {"id": 7}, {"text": TEXT}]
    answer = service.ask("/v1/embeddings", {"input": inputs, "model": "x"}).json
    assert answer["object"] == "list" and [one["index"] for one in answer["data"]] == [0, 1, 2, 3]
    found = np.array([one["embedding"] for one in answer["data"]])
    np.testing.assert_allclose(found[[0, 3]], model.encode_text(["a dog", TEXT]), atol=1e-5)
    np.testing.assert_allclose(found[1], model.encode_image(picture)[0], atol=1e-5)
    np.testing.assert_allclose(found[2], model.encode_image(path_of(index, 7))[0], atol=2e-3)
    packed = service.ask("/v1/embeddings", {"input": "a dog", "encoding_format": "base64"}).json["data"][0]["embedding"]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(packed), "<f4"), found[0], atol=1e-6)


def test_explain_is_the_heat_map(service, index, model):
    said = service.ask("/v1/explain", {"id": 4, "query": "red dog"}).json
    heat = model.explain(path_of(index, 4), "red dog")
    assert said["words"] == ["red", "dog"] == heat.words
    assert (said["rows"], said["columns"]) == heat.values.shape
    for found, expected in ((said["of_words"], heat.of_words), (said["of_text"], heat.values)):
        scaled = 255 * expected.reshape(*expected.shape[:-2], -1) / expected.max()
        np.testing.assert_allclose(found, scaled, atol=1)


def test_images_lists_and_the_state_of_the_index(service, index, folder):
    about = service.ask("/v1/index").json
    assert (about["images"], about["searchable"], about["being_made"]) == (30, 30, None)
    assert about["matches"] and about["explains"] and about["suggestions"] == [SCRIPT, "a dog on a mat"]
    assert service.ask("/v1/folders").json == {"folders": ["deep"]}
    assert service.ask("/v1/folders?below=deep").json == {"folders": ["deep/er"]}
    listed = []
    while page := service.ask(f"/v1/images?count=7&after={listed[-1] if listed else 0}").json["results"]:
        listed += [one["id"] for one in page]
    assert listed == sorted(hit.id for hit in index.search("a dog", k=30))
    dated = service.ask("/v1/images?since=2021-05-02").json["results"]
    assert len(dated) == 2 and all(one["taken"] for one in dated)
    assert service.ask("/v1/images/4/small").content == index.picture(4)
    large = service.ask("/v1/images/4")
    assert large.headers["Content-Type"] == "image/jpeg"
    original = np.asarray(Image.open(path_of(index, 4)).convert("RGB"))
    assert decoded(large.content).shape == original.shape


def test_a_photograph_that_is_gone_is_shown_as_it_was(folder, service, index):
    path = Path(path_of(index, 6))
    kept = path.read_bytes()
    try:
        path.unlink()
        assert service.ask("/v1/images/6").content == index.picture(6)
        path.symlink_to("/etc/passwd")
        assert service.ask("/v1/images/6").content == index.picture(6)
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(kept)


# what is refused


@pytest.mark.parametrize(
    "path, body, status, reason",
    [
        ("/v1/search", {}, 400, "text: there is none, and no image"),
        ("/v1/search", {"query": "xyzzy"}, 400, "text: 'xyzzy' has no word that this model knows"),
        ("/v1/search", {"query": " ., "}, 400, "has no words"),
        ("/v1/search", {"query": "a " * 1001}, 400, "1,001 words"),
        ("/v1/search", {"query": "\ud800"}, 400, "query: "),
        ("/v1/search", {"query": 7}, 400, "query: "),
        ("/v1/search", {"qeury": "a dog"}, 400, "qeury: "),
        ("/v1/search", {"query": "a dog", "k": 0}, 400, "k: "),
        ("/v1/search", {"query": "a dog", "k": 101}, 400, "k: 101; at most 100 in one request"),
        ("/v1/search", {"query": "a dog", "offset": 100}, 400, "k: 110; at most 100"),
        ("/v1/search", {"query": "a dog", "rerank": 1000}, 400, "rerank: 1,000; at most 100"),
        ("/v1/search", {"query": "a dog", "rescore": True}, 400, "rescore: .*has no bank of queries"),
        ("/v1/search", {"query": "a dog", "since": "May"}, 400, "since: 'May' is no date"),
        ("/v1/search", {"id": 10**6}, 400, "id: 1000000 is no image"),
        ("/v1/search", {"id": 10**30}, 400, "id: "),
        ("/v1/search", {"image": "no base64!"}, 400, "image: no base64"),
        ("/v1/search", {"image": "/etc/passwd"}, 400, "image: "),
        (
            "/v1/search",
            {"image": base64_of(b"no image")},
            400,
            "image: 8 bytes cannot be used: corrupt image; give a JPEG",
        ),
        (
            "/v1/search",
            {"image": base64_of(noise(0, (1100, 1000)), "JPEG")},
            400,
            "too many pixels; .* 1,000,000 pixels",
        ),
        ("/v1/search", b"{", 400, "JSON"),
        ("/v1/search", b"[" * 100_000, 400, ""),
        ("/v1/rerank", {"query": "a dog", "documents": []}, 400, "documents: "),
        ("/v1/rerank", {"query": "a dog", "documents": ["a"] * 101}, 400, "documents: 101; at most 100"),
        ("/v1/rerank", {"query": "a dog", "documents": ["a cat", {"id": 1}]}, 400, "texts and images in one list"),
        (
            "/v1/rerank",
            {"query": "a dog", "documents": [{"id": 1, "text": "a cat"}]},
            400,
            "give one of text, id, image, url",
        ),
        ("/v1/rerank", {"query": "a dog", "documents": [{}]}, 400, "give one of"),
        ("/v1/rerank", {"query": "a dog", "documents": [{"id": 999}]}, 400, "id: 999 is no image"),
        ("/v1/rerank", {"query": "xyzzy", "documents": [{"id": 1}]}, 400, "has no word that this model knows"),
        ("/v1/rerank", {"query": "a dog", "documents": [{"url": "http://127.0.0.1/"}]}, 400, "URLs are not followed"),
        ("/v1/rerank", {"query": "a dog", "documents": [{"url": "file:///etc/passwd"}]}, 400, "no URL of an image"),
        (
            "/v1/rerank",
            {"query": "a dog", "documents": [{"image": "https://e.org/a.jpg"}]},
            400,
            "URLs are not followed",
        ),
        ("/v1/embeddings", {"input": []}, 400, "input"),
        ("/v1/embeddings", {"input": [[1, 2]]}, 400, "input"),
        ("/v1/embeddings", {"input": ["a dog", ""]}, 400, "has no words"),
        ("/v1/explain", {"id": 999, "query": "a dog"}, 404, "999 is no image"),
        ("/v1/explain", {"id": 1, "query": "xyzzy"}, 400, "has no word"),
        ("/v1/nothing", {}, 404, ""),
        ("/v1/index", {}, 405, ""),
        ("/v1/images/999", None, 404, "999 is no image"),
        ("/v1/images/1x/small", None, 400, "id: "),
        ("/v1/images/-1", None, 400, "id: "),
        ("/v1/images/%2e%2e%2f%2e%2e%2fetc%2fpasswd", None, 404, ""),
        ("/v1/images?folder=..%2F..&count=1000", None, 400, "count: "),
        ("/page/..%2f..%2f..%2fpyproject.toml", None, 404, ""),
        ("/page/__init__.py", None, 404, "no such page"),
    ],
)
def test_what_is_refused_is_one_line_of_json(path, body, status, reason, service):
    answer = service.ask(path, body)
    assert answer.status == status
    assert re.search(reason, answer.problem) and "\n" not in answer.problem
    assert answer.headers["Content-Type"] == "application/json"


def test_a_body_that_is_too_large_whether_it_says_so_or_not(service):
    answer = service.ask("/v1/search", b"x" * 2_000_001)
    assert answer.status == 413 and answer.problem == "body: more than 2,000,000 bytes; send less"
    connection = http.client.HTTPConnection("127.0.0.1", service.port)

    def chunks():
        yield b'{"query": "'
        for _ in range(40):
            yield b"x" * 100_000

    connection.request("POST", "/v1/search", chunks(), {"Content-Type": "application/json"}, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["error"]["type"] == "too_large"


def test_another_sites_name_for_this_machine_is_refused(service):
    """DNS rebinding: its page would read this machine's photographs."""
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""):
        answer = service.ask("/v1/index", Host=host)
        assert answer.status == 403 and answer.problem.startswith("host: ")
    for host in ("localhost", f"localhost:{service.port}", "127.0.0.1", "LOCALHOST"):
        assert service.ask("/v1/index", Host=host).status == 200


def test_every_answer_says_what_a_browser_may_do_with_it(service):
    for path in ("/", "/page/main.js", "/v1/index", "/v1/nothing", "/docs", "/v1/images/1"):
        headers = service.ask(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers


def test_the_interface_describes_itself(service):
    said = service.ask("/openapi.json").json
    assert {"/v1/search", "/v1/rerank", "/v1/embeddings", "/healthz", "/metrics"} <= said["paths"].keys()
    page = service.ask("/").content + service.ask("/docs").content
    assert b"http://" not in page.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in page


def test_metrics_count_requests_and_batches(service):
    service.ask("/v1/search", {"query": TEXT})
    said = service.ask("/metrics").content.decode()
    assert 'tcl_requests_total{route="/v1/search",status="200"}' in said
    assert "tcl_index_images 30.0" in said and "tcl_batch_items_bucket" in said
    assert "/etc/passwd" not in said


# who may ask


def test_a_token(folder):
    with served(folder / "photos.index", "--host=0.0.0.0", TCL_TOKEN=TOKEN) as running:
        assert running.said.endswith("(everybody who reaches this machine and has the token)")
        assert TOKEN not in running.said
        for path in ("/v1/index", "/metrics", "/v1/images/1", "/v1/images/1/small", "/v1/nothing"):
            assert running.ask(path).status == 401
        for wrong in (f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ", "Bearer \xff"):
            answer = running.ask("/v1/index", Authorization=wrong)
            assert answer.status == 401 and answer.problem.startswith("token: ")
        assert running.ask("/v1/index", Authorization=f"Bearer {TOKEN}").status == 200
        for path in ("/", "/page/main.js", "/healthz", "/docs", "/openapi.json"):
            assert running.ask(path).status == 200
        assert running.ask("/login", {"token": "wrong"}).status == 401
        let_in = running.ask("/login", {"token": TOKEN})
        cookie = let_in.headers["Set-Cookie"]
        assert let_in.status == 204 and "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
        assert running.ask("/v1/images/1/small", Cookie=cookie.partition(";")[0]).status == 200
        assert running.ask("/v1/index", Cookie=f"tcl_page={TOKEN}").status == 401
        assert running.ask("/v1/index", Cookie="tcl_page").status == 401


def test_mistakes_of_the_command_are_one_line(folder):
    index = str(folder / "photos.index")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, line in (
            (["--host=0.0.0.0"], "token: others reach 0.0.0.0; give --token, or TCL_TOKEN in the environment"),
            (["--host=0.0.0.0", "--token=short"], "token: 5 characters; give 16 letters and digits or more"),
            (["--port=70000"], "port: 70000; accepted: 0 to 65535"),
            ([f"--port={port}"], f"port: 127.0.0.1:{port} cannot be had (Address already in use); give another"),
            (
                ["--host=nowhere.invalid", f"--token={TOKEN}"],
                "port: nowhere.invalid:8765 cannot be had (no such address)",
            ),
            (["--port=0", "--max_body=0"], "max_body: 0 is not possible; accepted: more than 0"),
            (["--port=0", "--max_pixels=many"], "max_pixels: 'many' is no number"),
            (["--port=0", "--max_seconds=nan"], "max_seconds: nan is not possible"),
            (["--port=0", f"--model={folder}"], "source: "),
        ):
            with pytest.raises(InputError) as refused:
                run(["serve", index, *options])
            assert str(refused.value).startswith(line), options
            assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=r"^index: nowhere is none"):
        run(["serve", "nowhere", "--port=0"])
