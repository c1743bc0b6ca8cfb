"""The Dockerfile without docker: what it copies, installs and starts is there, and its health check checks."""

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from launching import ENVIRONMENT

from tcl.commands.serve import parser

ROOT = Path(__file__).parents[1]
FILE = (ROOT / "Dockerfile").read_text()
PROJECT = (ROOT / "pyproject.toml").read_text()


def steps(name: str) -> list[str]:
    """What follows the instruction `name`, wherever it stands."""
    return re.findall(rf"^{name} (.+)$", FILE, flags=re.MULTILINE)


def run_as(page: str) -> list[str]:
    """The arguments behind the image's name in a page's `docker run`."""
    (line,) = re.findall(r"docker run .* tcl-serve (.+)", page)
    return line.split()


def test_what_is_copied_is_there_and_is_all_that_the_package_is_made_of():
    copied = {name for step in steps("COPY") for name in step.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_in
    readme = re.search(r'^readme = "(.+)"', PROJECT, flags=re.MULTILINE)[1]
    licences = json.loads(re.search(r"^license-files = (.+)$", PROJECT, flags=re.MULTILINE)[1])
    packages = json.loads(re.search(r"^include = (.+)$", PROJECT, flags=re.MULTILINE)[1])
    made_of = {"pyproject.toml", readme, *licences, *(name for name in packages if "*" not in name)}
    (install,) = [step for step in steps("RUN") if "pip install" in step]
    constraints = re.search(r"--constraint (\S+)", install)[1]
    assert copied == made_of | {constraints}


def test_its_extras_and_its_python_are_those_of_the_package():
    extras = re.search(r'"\.\[(.+?)\]"', FILE)[1].split(",")
    assert extras and all(re.search(rf"^{re.escape(name)} = \[", PROJECT, flags=re.MULTILINE) for name in extras)
    lowest = re.search(r'^requires-python = ">=3\.(\d+)"', PROJECT, flags=re.MULTILINE)[1]
    (python,) = [re.fullmatch(r"python:3\.(\d+)-slim", step)[1] for step in steps("FROM")]
    assert int(python) >= int(lowest)


def test_what_it_starts_is_a_command_at_the_port_that_it_names():
    (entry,) = map(json.loads, steps("ENTRYPOINT"))
    assert entry[:2] == ["tcl", "serve"] and '\ntcl = "tcl.commands.main:main"\n' in PROJECT
    for page in (FILE, (ROOT / "docs" / "serve.md").read_text()):
        given = parser().parse_args([*entry[2:], *run_as(page)])
        assert given.host == "0.0.0.0"
        assert steps("EXPOSE") == [str(given.port)] and f"-p {given.port}:{given.port}" in page
    assert f"http://127.0.0.1:{given.port}/healthz" in FILE


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_its_health_check_tells_whether_the_service_can_be_searched(status, healthy):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    command = json.loads(re.search(r"^HEALTHCHECK .*?CMD (\[.+\])$", FILE, flags=re.MULTILINE)[1])
    assert command[:2] == ["python", "-c"]
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        code = command[2].replace(":8765/", f":{server.server_port}/")
        done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True)
    assert (done.returncode == 0) == healthy
