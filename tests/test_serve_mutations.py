"""2,000 requests and images with something changed at random: none breaks the service or gets what is not its."""

import http.client
import json
import random
from copy import deepcopy

import pytest
from data_files import encode, noise
from serving import Served, base64_of, served, served_photographs

COUNT = 2000
SECRET = "what no answer may hold"
VALUES = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "\0", "a dog", "\ud800", "\u202e", "é" * 300, "a " * 600, "x" * 30_000, "../" * 20 + "etc/passwd"),
    *("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/", "data:,x", "data:image/png;base64,", "%00", "[MASK]"),
    *([], {}, [[]], [[[[]]]], {"id": 1}, {"id": -1}, {"text": "a dog"}, {"image": "AAAA"}, {"url": "http://10.0.0.1/"}),
    *({"a": {"b": {"c": 1}}}, ["a dog"] * 3, [{"id": i} for i in range(9)], [None], [0] * 2000),
]
STATUSES = {200, 204, 400, 404, 405, 413, 429}


def whole_requests() -> list[tuple[str, dict]]:
    image = base64_of(noise(1, (40, 30)))
    return [
        ("/v1/search", {"query": "a red dog", "k": 5, "rerank": 8, "folder": "deep"}),
        ("/v1/search", {"image": image, "query": "a cat", "since": "2021-05-01", "until": "2021-05-30"}),
        ("/v1/search", {"id": 3, "offset": 2, "rescore": False}),
        ("/v1/rerank", {"query": "a dog", "documents": ["a cat", "a dog"], "top_n": 1, "return_documents": True}),
        ("/v1/rerank", {"query": {"image": image}, "documents": ["a cat", {"text": "red"}]}),
        ("/v1/rerank", {"query": "a dog", "documents": [{"id": 1}, {"image": image}, {"id": 2}]}),
        ("/v1/embeddings", {"input": ["a dog", {"id": 1}, {"image": image}], "encoding_format": "float"}),
        ("/v1/explain", {"id": 2, "query": "a dog"}),
        ("/login", {"token": "a"}),
    ]


def images() -> list[bytes]:
    picture = noise(2, (48, 32))
    return [encode(picture, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]


def mutated(rng: random.Random) -> tuple[str, bytes]:
    """A path and a body."""
    path, body = rng.choice(whole_requests())
    kind = rng.random()
    if kind < 0.45:  # a value, somewhere
        for _ in range(rng.randint(1, 2)):
            place = body
            while True:
                key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
                if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.4:
                    break
                place = place[key]
            if rng.random() < 0.15 and isinstance(place, dict):
                place[rng.choice(["", "\0", "__proto__", "K", "query "])] = place.pop(key)
            else:
                place[key] = deepcopy(rng.choice(VALUES))
        return path, json.dumps(body).encode()
    if kind < 0.8:  # bytes of an image
        content = bytearray(rng.choice(images()))
        for _ in range(rng.randint(1, 30)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        image = base64_of(bytes(content[: rng.randint(1, len(content))] if rng.random() < 0.4 else content))
        named = [(p, json.dumps(b).replace(base64_of(noise(1, (40, 30))), image)) for p, b in whole_requests()]
        path, said = rng.choice([one for one in named if image in one[1]])
        return path, said.encode()
    content = bytearray(json.dumps(body).encode())  # bytes of the body
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(content))
        content[place : place + rng.randint(0, 3)] = bytes(rng.randrange(256) for _ in range(rng.randint(0, 3)))
        content = content or bytearray(b" ")
    return path, bytes(content)


def mutated_path(rng: random.Random) -> str:
    parts = [
        "..",
        "%2e%2e",
        "%2f",
        "etc",
        "passwd",
        "images",
        "1",
        "small",
        "-1",
        "v1",
        "page",
        "%00",
        "main.js",
        "%e9",
        "%c3%a9",
    ]
    path = "/" + "/".join(rng.choice(parts) for _ in range(rng.randint(1, 6)))
    return path + rng.choice(["", "?count=x", "?below=../..", "?after=-1", "?folder=%ff"])


@pytest.mark.slow
def test_2000_mutated_requests(tmp_path):
    index = served_photographs(tmp_path, count=12)
    (tmp_path / "secret.txt").write_text(SECRET)
    rng, statuses = random.Random(0), {}
    with served(index, "--max_pixels=1e6", "--max_body=1MB", "--max_candidates=100") as running:
        before = running.ask("/v1/search", {"query": "a dog"}).content
        for number in range(COUNT):
            path, body = (mutated_path(rng), None) if number % 10 == 0 else mutated(rng)
            status, content = ask(running, path, body)
            statuses[status] = statuses.get(status, 0) + 1
            assert status in STATUSES, (number, path, body, content)
            assert SECRET.encode() not in content and b"root:" not in content
            if status >= 400:
                said = json.loads(content)["error"]["message"]
                assert said and "\n" not in said and len(said) <= 1000
        assert running.ask("/v1/search", {"query": "a dog"}).content == before
        assert running.process.poll() is None
        running.process.terminate()
        assert running.process.wait() == 0
        assert "Traceback" not in running.log.read_text()
    assert statuses[200] > COUNT / 20 and statuses[400] > COUNT / 4


def ask(service: Served, path: str, body: bytes | None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    method = "GET" if body is None else "POST"
    connection.putrequest(method, path)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body or b"")))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content
