"""What is read of clips with sound, and what a file may cost."""

from dataclasses import dataclass, field

from tcl.config.checks import require
from tcl.config.free import FREE


@dataclass
class ClipsConfig:
    """Captions of a clip, and limits on its media. How many frames and how much sound, the model says: model.video,
    model.audio."""

    captions: int = 5
    """Of a clip, K, 1 to 64: of timed captions the nearest to the clip's centre, of plain ones as many are drawn. 5 in
    MMV."""
    max_seconds: float = field(default=14_400, metadata=FREE)
    """Longer videos and sounds are skipped, > 0. 4 hours."""
    max_frame_pixels: int = field(default=9_437_184, metadata=FREE)
    """Videos with larger frames are skipped, >= 1. 4096 x 2304; a decoder holds 17 frames or more."""
    max_decoded_bytes: int = field(default=2**34, metadata=FREE)
    """What one read of a video or a sound may decode, frames as RGB, >= 1: it is skipped where that is not enough. 16
    GiB, a minute of the largest frames."""


def check_clips(clips: ClipsConfig, section: str = "data.clips") -> None:
    """InputError, naming fields of the config section `section`: the first impossible value."""
    require(1 <= clips.captions <= 64, f"{section}.captions", clips.captions, "captions, 1 to 64")
    require(clips.max_seconds > 0, f"{section}.max_seconds", clips.max_seconds, "more than 0 seconds")
    for name in ("max_frame_pixels", "max_decoded_bytes"):
        value = getattr(clips, name)
        require(value >= 1, f"{section}.{name}", value, "an integer >= 1")
