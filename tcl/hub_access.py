"""The hub of models: asked where it answers, and where it does not, only what it left in the local cache."""

import contextlib
import os
import threading
from collections.abc import Iterator

from huggingface_hub import constants, get_session, is_offline_mode
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

SECONDS = 5
"""In which the hub has to answer a first question. Its client would go on trying for a minute, for each file."""


@contextlib.contextmanager
def hub_or_cache(name: str) -> Iterator[str | None]:
    """Within it `name`, a hub id, is loaded from the hub, or from the local cache where the hub does not answer.

    Gives the reason why it is not asked; None where it is, and where `name` is a folder or file, which asks nothing.
    """
    silent = None if os.path.exists(name) else why_silent()
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or silent is not None  # all its users heed it: transformers and timm, too
    try:
        yield silent
    finally:
        constants.HF_HUB_OFFLINE = before


def is_hub_id(name: str) -> bool:
    """Whether the hub could have a model of that name: not one that is a path for certain."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def why_silent() -> str | None:
    """Why the hub cannot be asked: it is forbidden, unreachable, or does not answer in SECONDS. None: it can."""
    if is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    heard: list[str | None] = []

    def ask() -> None:
        try:
            status = get_session().head(constants.ENDPOINT, timeout=SECONDS).status_code
            heard.append(f"it answers with status {status}" if status >= 500 else None)
        except Exception as error:  # of whichever HTTP library the client uses
            heard.append(" ".join(str(error).split()) or type(error).__name__)

    # In a thread, since no time limit holds for looking up a host's name.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS)
    said = heard[0] if heard else f"no answer in {SECONDS} seconds"
    return None if said is None else f"the hub cannot be asked: {said}"
