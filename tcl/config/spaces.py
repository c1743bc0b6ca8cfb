"""In which spaces video, sound and text are compared."""

from dataclasses import dataclass
from typing import Literal

from tcl.config.checks import require


@dataclass
class SpacesConfig:
    """MMV's spaces (arXiv 2006.16228, section 3.1). The objective `clips` has them, and `video_text`, with its
    va_weight, that of video and sound."""

    graph: Literal["fac", "disjoint", "shared"] = "fac"
    """fac: fine and coarse, text is compared in a coarse space into which the fine one of video and sound is projected;
    disjoint: a space for each pair of modalities; shared: one for all, of coarse_dim."""
    fine_dim: int = 512
    """Width of the space of video and sound, >= 1. 512 as published."""
    coarse_dim: int = 256
    """Width of the space with text, >= 1. 256 as published."""


def check_spaces(spaces: SpacesConfig) -> None:
    """InputError: the first impossible value."""
    for name in ("fine_dim", "coarse_dim"):
        value = getattr(spaces, name)
        require(1 <= value <= 2**16, f"model.spaces.{name}", value, "a width, 1 to 65,536")
