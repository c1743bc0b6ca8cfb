"""How much one request may ask for, and how many may wait."""

from dataclasses import dataclass

from tcl.config.checks import require


@dataclass(frozen=True)
class Limits:
    """Beyond these a request is refused, with the reason."""

    body: int = 32 * 2**20
    """Bytes of a request; of a document behind a URL, too."""
    pixels: int = 50_000_000
    """Of an image, before it is decoded."""
    candidates: int = 1000
    """Results, documents or inputs of one request."""
    seconds: float = 30.0
    """From a request's first byte to its answer."""
    waiting: int = 256
    """Requests that wait for the model; one more is answered 429."""

    def check(self) -> None:
        """InputError, naming the option: a limit that lets nothing through."""
        for name in ("body", "pixels", "candidates", "seconds", "waiting"):
            require(getattr(self, name) > 0, f"max_{name}", getattr(self, name), "more than 0")
