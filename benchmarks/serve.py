"""`tcl serve` under load: many clients that ask without a pause, one of them alone, and how long it takes to be there.

    python -m benchmarks.serve [--clients 50 --seconds 60 --index DIR --model MODEL]

A random ViT-S/16 and its BERT, 64 candidates matched from 16 int8 tokens each, an index of generated photographs, or
an index of one's own. Requests are mixed: search by text, re-ranking of images of the index, embeddings, search by an
image, small pictures. The service is a process of its own. A request is lost if it gets no answer, and an error is any
status but 200. The time to the first answer is from the start of `tcl serve`.
"""

import base64
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jsonargparse

from benchmarks.measure import resident_mib, save
from benchmarks.photographs import photographs
from benchmarks.random_model import random_model
from tcl import TCL
from tcl.index.share import Share
from tcl.index.stages import Stages
from tcl.index.write import Wanted, write_index

SHARES = {"search": 50, "small": 25, "rerank": 15, "embeddings": 7, "image": 3}
"""Of the requests, in percent."""
IMAGE_TOKENS, TEXT_WORDS, CANDIDATES = 16, 6, 64
PATIENCE = 120


@dataclass
class Load:
    """What clients saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SHARES})
    statuses: Counter = field(default_factory=Counter)
    lost: int = 0

    @property
    def answered(self) -> int:
        """Requests."""
        return self.statuses.total()


def make_index(folder: Path, count: int) -> tuple[Path, Path]:
    """Of generated photographs; the index, and its model."""
    model = TCL(random_model(IMAGE_TOKENS), device="cpu", batch_size=32)
    model.save_pretrained(folder / "model")
    (folder / "photos").mkdir()
    for i, jpeg in enumerate(photographs(None, count)):
        (folder / "photos" / f"{i:05d}.jpg").write_bytes(jpeg)
    stages = Stages(model, str(folder / "model"))
    write_index(folder / "index", Wanted(images=str(folder / "photos")), stages, Share(), workers=1)
    return folder / "index", folder / "model"


@contextmanager
def service(index: Path, model: Path | None) -> Iterator[tuple[int, subprocess.Popen, float]]:
    """Its port, its process, and the seconds from its start to the first answer."""
    started = time.perf_counter()
    where = [] if model is None else [f"--model={model}"]
    command = [sys.executable, "-m", "tcl", "serve", str(index), "--port=0", *where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r"http://[^ ]+:(\d+)", process.stdout.readline())[1])
        ask(http.client.HTTPConnection("127.0.0.1", port), "/v1/search", {"query": texts(random.Random(0)), "k": 10})
        yield port, process, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def ask(connection: http.client.HTTPConnection, path: str, body: dict | None) -> int:
    """The status."""
    headers = {"Content-Type": "application/json"}
    content = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, content, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def texts(draw: random.Random) -> str:
    """Of words that the random model knows; of another, numbers."""
    return " ".join(str(draw.randint(1000, 20_000)) for _ in range(TEXT_WORDS))


def request(draw: random.Random, ids: list[int], images: list[str]) -> tuple[str, str, dict | None]:
    """Its kind, its path and its body."""
    (kind,) = draw.choices(list(SHARES), list(SHARES.values()))
    if kind == "small":
        return kind, f"/v1/images/{draw.choice(ids)}/small", None
    if kind == "rerank":
        documents = [{"id": id} for id in draw.sample(ids, min(CANDIDATES, len(ids)))]
        return kind, "/v1/rerank", {"query": texts(draw), "documents": documents}
    if kind == "embeddings":
        return kind, "/v1/embeddings", {"input": [texts(draw) for _ in range(8)]}
    if kind == "image":
        return kind, "/v1/search", {"image": draw.choice(images), "k": 10}
    return kind, "/v1/search", {"query": texts(draw), "k": 10, "rerank": CANDIDATES}


def load(port: int, clients: int, seconds: float, ids: list[int], images: list[str]) -> Load:
    """Of clients that ask one request after the other on a connection of their own."""
    seen, lock, end = Load(), threading.Lock(), time.perf_counter() + seconds

    def client(number: int) -> None:
        draw = random.Random(number)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        while time.perf_counter() < end:
            kind, path, body = request(draw, ids, images)
            started = time.perf_counter()
            try:
                status = ask(connection, path, body)
            except (OSError, http.client.HTTPException):
                connection.close()
                with lock:
                    seen.lost += 1
                continue
            with lock:
                seen.statuses[status] += 1
                seen.seconds[kind].append(time.perf_counter() - started)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def summary(seen: Load, seconds: float) -> dict:
    """Requests a second and percentiles, of each kind and of all."""
    every = {**seen.seconds, "all": [one for own in seen.seconds.values() for one in own]}
    return {
        "answered": seen.answered,
        "lost": seen.lost,
        "errors": sum(count for status, count in seen.statuses.items() if status != 200),
        "a_second": seen.answered / seconds,
        "milliseconds": {name: percentiles(own) for name, own in every.items() if len(own) > 1},
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p95 and p99, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{q}": 1000 * cuts[q - 1] for q in (50, 95, 99)}


def main(
    clients: int = 50,
    seconds: float = 60,
    photos: int = 500,
    index: Path | None = None,
    model: Path | None = None,
) -> None:
    """clients, seconds: of the load; photos: in the index that is made; index, model: one's own instead."""
    with tempfile.TemporaryDirectory() as place:
        if index is None:
            index, model = make_index(Path(place), photos)
        images = [base64.b64encode(jpeg).decode() for jpeg in photographs(None, 8)]
        with service(index, model) as (port, process, first):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/v1/images?count=200")
            ids = [one["id"] for one in json.loads(connection.getresponse().read())["results"]]
            before = resident_mib(process.pid)
            alone = summary(load(port, 1, seconds, ids, images), seconds)
            many = summary(load(port, clients, seconds, ids, images), seconds)
            after = resident_mib(process.pid)
    result = {"clients": clients, "seconds": seconds, "images": len(ids), "first_answer_seconds": first}
    result |= {"resident_mib": [before, after], "alone": alone, "many": many}
    result["times_the_throughput"] = many["a_second"] / alone["a_second"]
    for name, side in (("one client", alone), (f"{clients} clients", many)):
        times = ", ".join(f"{q} {value:.0f} ms" for q, value in side["milliseconds"]["all"].items())
        print(f"{name}: {side['a_second']:.1f} a second, {times}; {side['errors']} errors, {side['lost']} lost")
    print(f"{result['times_the_throughput']:.2f} times the throughput of one client")
    print(f"first answer after {first:.1f} s; {before:.0f} MiB, {after:.0f} MiB after the load")
    print(save("serve", result))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
