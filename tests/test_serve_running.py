"""`tcl serve` while it is told to stop, killed and started again, or while `tcl index` writes what it serves."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import threading
from pathlib import Path

import pytest
from data_files import encode, noise
from indexing import build
from serving import POLL, Served, base64_of, served, served_photographs, until
from tiny_pretrained import tiny_tcl

from tcl.index.progress import begin_progress
from tcl.index.stages import Stages

TEXT = "a red dog on mat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    served_photographs(folder)
    return folder


def held_request(service: Served, body: bytes) -> tuple[socket.socket, bytes]:
    """One that the service has begun to read; and its rest."""
    lines = (
        "POST /v1/search HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    head = "".join(f"{line}\r\n" for line in (*lines, ""))
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(head.encode() + body[:5])
    until(lambda: b"tcl_running_requests 2.0" in service.ask("/metrics").content, "the request is being read")
    return connection, body[5:]


def is_refused(service: Served) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", service.port)) != 0


def test_told_to_stop_it_finishes_what_runs(folder):
    with served(folder / "photos.index") as running:
        connection, rest = held_request(running, json.dumps({"query": TEXT, "k": 3}).encode())
        running.process.send_signal(signal.SIGTERM)
        until(lambda: is_refused(running), "no new request is taken")
        connection.sendall(rest)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200 and len(json.loads(answer.read())["results"]) == 3
        assert running.process.wait() == 0
        assert running.log.read_text() == ""


def test_killed_and_started_again_under_load(folder):
    """Clients that ask again get the answers that they got before."""
    index = folder / "photos.index"
    texts = ["a dog", "a cat on mat", "red", "a blue thing"]
    with served(index) as first:
        expected = [first.ask("/v1/search", {"query": text}).json["results"] for text in texts]
        stop, answers, problems = threading.Event(), [0] * len(texts), []

        def client(i: int) -> None:
            while not stop.is_set():
                try:
                    found = first.ask("/v1/search", {"query": texts[i]})
                except (OSError, http.client.HTTPException):  # nobody there, or gone in the middle
                    stop.wait(POLL)
                    continue
                if found.status != 200 or [one["id"] for one in found.json["results"]] != [
                    one["id"] for one in expected[i]
                ]:
                    problems.append(found)
                answers[i] += 1

        threads = [threading.Thread(target=client, args=(i,)) for i in range(len(texts))]
        for thread in threads:
            thread.start()
        try:
            until(lambda: min(answers) > 1, "all are answered")
            first.process.kill()
            first.process.wait()
            answers[:] = [0] * len(texts)
            with served(index, f"--port={first.port}"):
                until(lambda: min(answers) > 1 or problems, "all are answered again")
                stop.set()
                for thread in threads:
                    thread.join()
        finally:
            stop.set()
        assert not problems


def test_an_index_that_is_being_made(folder, tmp_path):
    """It can be looked at, then searched, without a new start; and what is new later is found as well."""
    index = tmp_path / "index"
    shutil.copytree(folder / "photos", tmp_path / "photos")
    stages = Stages(tiny_tcl(), str(folder / "model"))
    build(index, tmp_path / "photos", stages)
    (index / "faiss.index").unlink()  # as it is before the end of the first run
    with contextlib.closing(sqlite3.connect(index / "catalogue.sqlite")) as tables:
        tables.execute("UPDATE items SET pending = 1")
        tables.commit()
    begin_progress(index, 40)
    with served(index) as running:
        assert running.ask("/healthz").status == 503 and running.ask("/healthz").json == {"status": "being made"}
        refused = running.ask("/v1/search", {"query": TEXT})
        assert refused.status == 503 and "is being made" in refused.problem
        about = running.ask("/v1/index").json
        assert about["being_made"] == {"files": 40, "read": 30} and about["searchable"] == 0
        assert len(about["latest"]) == 12
        build(index, tmp_path / "photos", stages)
        assert running.ask("/healthz").json == {"status": "ok"}
        assert running.ask("/v1/index").json["being_made"] is None
        assert len(running.ask("/v1/search", {"query": TEXT, "k": 50}).json["results"]) == 30
        os.remove(tmp_path / "photos" / "002.jpg")
        (tmp_path / "photos" / "new.png").write_bytes(encode(noise(500, (40, 30)), "PNG"))
        build(index, tmp_path / "photos", stages)
        (best,) = running.ask("/v1/search", {"image": base64_of(noise(500, (40, 30))), "k": 1}).json["results"]
        assert best["path"].endswith("/new.png") and best["similarity"] > 0.99
