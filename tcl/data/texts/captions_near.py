"""Which captions of a clip go with it: the nearest in time, as HowTo100M is read (MIL-NCE, arXiv 1912.06430)."""

import random
from collections.abc import Sequence

from tcl.data.texts.sample_texts import Caption


def captions_near(captions: Sequence[Caption], centre: float, count: int, rng: random.Random | None) -> list[str]:
    """At most `count` (>= 1) texts of `captions`, in order of their time.

    Where any has times: those nearest to `centre`, seconds; a caption holds from its start to its end, one without
    times always. Of plain ones `rng` draws as many; without it they are the first.
    """
    places = range(len(captions))
    if any(caption.start is not None for caption in captions):
        nearest = sorted(places, key=lambda place: _distance(captions[place], centre))
        chosen = sorted(nearest[:count])
    elif rng is None or len(captions) <= count:
        chosen = list(places[:count])
    else:
        chosen = rng.sample(places, count)
    return [captions[place].text for place in chosen]


def _distance(caption: Caption, centre: float) -> tuple[float, float]:
    """From the time that the caption holds, and where that is the same, from the middle of that time."""
    if caption.start is None:
        return 0.0, 0.0
    outside = max(caption.start - centre, centre - caption.end, 0.0)
    return outside, abs((caption.start + caption.end) / 2 - centre)
