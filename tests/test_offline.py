"""Without the hub a name of it is one line, or what the local cache holds, after one question instead of many."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from data_files import TOKENIZER
from huggingface_hub import constants

from tcl import hub_access
from tcl.config.model import ImageEncoderConfig, TextEncoderConfig
from tcl.data.texts.tokenize import load_tokenizer
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.text_encoder import load_masked_lm
from tcl.errors import InputError
from tcl.hub_access import hub_or_cache, why_silent


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Starts a hub of our own that answers everything with a status, or never; gives the paths it was asked for."""
    servers = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    end = threading.Event()

    def start(status: int | None) -> list[str]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                asked.append(self.path)
                if status is None:
                    end.wait()
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_HEAD

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        return asked

    yield start
    end.set()
    for server in servers:
        server.shutdown()
        server.server_close()


LINE = (
    r"^model\.text\.tokenizer: 'bert-base-uncased' cannot be loaded \(no folder here, nor in the local cache; %s\); "
    r"train one with `tcl tokenizer`, or name a folder that holds tokenizer\.json, or a hub id such as [^\n]*$"
)


def test_a_hub_in_trouble_is_asked_once(hub):
    asked = hub(503)
    with pytest.raises(InputError, match=LINE % "the hub cannot be asked: it answers with status 503"):
        load_tokenizer("bert-base-uncased")
    assert len(asked) == 1


def test_a_hub_that_never_answers(hub, monkeypatch):
    monkeypatch.setattr(hub_access, "SECONDS", 0.1)
    asked = hub(None)
    with pytest.raises(InputError, match=LINE % r"the hub cannot be asked: .*"):
        load_tokenizer("bert-base-uncased")
    assert len(asked) <= 1


def test_no_hub_at_all(monkeypatch, hub):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=LINE % r"the hub cannot be asked: .*refused.*"):
        load_tokenizer("bert-base-uncased")


def test_a_hub_that_is_forbidden_is_not_asked(hub, monkeypatch):
    asked = hub(404)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=LINE % "HF_HUB_OFFLINE is set"):
        load_tokenizer("bert-base-uncased")
    assert asked == []


def test_a_hub_that_answers_is_asked_as_before(hub):
    asked = hub(404)
    assert why_silent() is None
    with pytest.raises(InputError, match=r"^model\.text\.tokenizer: 'nobody/nothing' cannot be loaded \((?!no folder)"):
        load_tokenizer("nobody/nothing")
    assert any("nobody/nothing" in path for path in asked)


def test_what_lies_here_asks_nothing(hub, tmp_path):
    asked = hub(404)
    TOKENIZER.save_pretrained(tmp_path / "tokenizer")
    assert load_tokenizer(str(tmp_path / "tokenizer")).get_vocab() == TOKENIZER.get_vocab()
    assert asked == []
    with hub_or_cache("a" * 5000) as silent:
        assert silent is None  # no name of a file can be so long: the hub was asked
    assert len(asked) == 1


@pytest.mark.parametrize(
    "name", ["/data/nothing", "./tokenizer", "data/mine/tokenizer", "a" * 5000, "", "to\nken\0izer"]
)
def test_what_can_only_be_a_path_asks_nothing(hub, name):
    asked = hub(404)
    with pytest.raises(
        InputError, match=r"^model\.text\.tokenizer: .* cannot be loaded \(there is no such folder\); train"
    ):
        load_tokenizer(name)
    assert asked == []


def test_what_the_cache_holds_is_taken_where_the_hub_does_not_answer(hub, tmp_path):
    hub(503)
    state = tmp_path / "cache" / "models--somebody--words"
    TOKENIZER.save_pretrained(state / "snapshots" / "abc")
    (state / "snapshots" / "abc" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (state / "refs").mkdir()
    (state / "refs" / "main").write_text("abc")
    assert load_tokenizer("somebody/words").get_vocab() == TOKENIZER.get_vocab()
    assert constants.HF_HUB_OFFLINE is False  # as it was


def test_pretrained_weights_ask_once_too(hub):
    asked = hub(503)
    with pytest.raises(InputError, match=r"^model\.text: transformers cannot build 'bert-base-uncased'"):
        load_masked_lm(TextEncoderConfig(name="bert-base-uncased", pretrained=True), 50, 0)
    with pytest.raises(InputError, match=r"^model\.text: transformers cannot build 'somebody/bert'"):
        load_masked_lm(TextEncoderConfig(name="somebody/bert"), 50, 0)
    with pytest.raises(InputError, match=r"^model\.image: timm cannot build 'vit_tiny_patch16_224'"):
        build_image_encoder(ImageEncoderConfig(name="vit_tiny_patch16_224", pretrained=True))
    assert len(asked) == 3


def test_a_folder_without_a_vocabulary_is_no_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(
        InputError, match=r"^model\.text\.tokenizer: '.*' has no vocabulary; train one with `tcl tokeni"
    ):
        load_tokenizer(str(tmp_path))
