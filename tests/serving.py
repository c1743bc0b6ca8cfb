"""`tcl serve` as a process, and clients of it."""

import base64
import contextlib
import io
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from data_files import encode, noise
from indexing import build
from launching import ENVIRONMENT, ROOT
from PIL import Image
from tiny_pretrained import tiny_tcl

from tcl.index.stages import Stages

PATIENCE = 300.0
"""Seconds, on a machine that others use too; no test waits that long where all is well."""
POLL = 0.03
SCRIPT = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


@dataclass
class Answer:
    """Of any request."""

    status: int
    content: bytes
    headers: Any

    @property
    def json(self) -> Any:
        """Of what is JSON."""
        return json.loads(self.content)

    @property
    def problem(self) -> str:
        """The reason of an error."""
        return self.json["error"]["message"]


@dataclass
class Served:
    """A service that runs."""

    process: subprocess.Popen
    said: str
    """The line at its start."""
    log: Path
    """What it says on stderr."""

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return re.search(r"http://\S+", self.said)[0].replace("0.0.0.0", "127.0.0.1")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(self, path: str, body: Any = None, **headers: str) -> Answer:
        """POST where there is a body, which bytes are as they are."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        request = urllib.request.Request(self.url + path, content, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return Answer(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as refused:
            return Answer(refused.code, refused.read(), refused.headers)


@contextlib.contextmanager
def served(index: Path, *options: str, **environment: str) -> Iterator[Served]:
    """On a free port unless `options` name one; ended with the block, if it has not ended by itself."""
    port = [] if any(option.startswith("--port") for option in options) else ["--port=0"]
    command = [sys.executable, "-m", "tcl", "serve", str(index), *port, *options, "--device=cpu", "--precision=fp32"]
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT | environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            said = process.stdout.readline()
            assert said, Path(log.name).read_text()
            yield Served(process, said.strip(), Path(log.name))
        finally:
            process.kill()
            process.communicate()


def until(true: Callable[[], Any], what: str) -> Any:
    """Asks again and again, without keeping a core busy; what came of it."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        pause.wait(POLL)
    raise AssertionError(f"never: {what}")


def served_photographs(folder: Path, count: int = 30) -> Path:
    """Photographs and a model in `folder`; returns the index. Some are deeper, three are dated, two have captions, one
    of which is a script, and so is the name of its file."""
    photos = folder / "photos"
    (photos / "deep" / "er").mkdir(parents=True)
    for i in range(count):
        exif = Image.Exif()
        if i < 3:
            exif.get_ifd(0x8769)[0x9003] = f"2021:05:0{i + 1} 12:00:00"
        if i < 2:
            exif[0x010E] = SCRIPT if i == 0 else "a dog on a mat"
        name = f"{'deep/er/' * (i % 2)}{i:03d}.jpg" if i else "<b>bold & <script>alert(1)<&script>.jpg"
        noise(i, (320 - 40 * (i % 3), 200)).save(photos / name, exif=exif)
    tiny_tcl().save_pretrained(folder / "model")
    stages = Stages(tiny_tcl(), str(folder / "model"))
    build(folder / "photos.index", photos, stages)
    return folder / "photos.index"


def base64_of(image: Image.Image | bytes, format: str = "PNG") -> str:
    """Of an image file."""
    return base64.b64encode(image if isinstance(image, bytes) else encode(image, format)).decode()


def decoded(content: bytes) -> np.ndarray:
    """[H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
