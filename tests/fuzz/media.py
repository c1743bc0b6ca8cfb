"""Videos and sounds of every container that is read, damaged byte by byte, in their headers and in their index."""

import random
import struct
from pathlib import Path
from random import Random

import torch

from tcl.config.audio import AudioConfig, SpectrogramConfig
from tcl.config.video import VideoConfig
from tcl.data.feed.clip_reader import ClipReader
from tcl.data.shards.bad_sample import BadSample
from tests.data_files import TOKENIZER, config
from tests.fuzz.case import Wrong
from tests.fuzz.mutate import damage
from tests.media_files import film, sound_file, tone, wav

READER = ClipReader(
    config("none.tar"),
    VideoConfig(frames=4, fps=8),
    AudioConfig(spectrogram=SpectrogramConfig(sample_rate=16_000, window=512, hop=256)),
    TOKENIZER,
    image_size=16,
    required=(),
)
LARGE = (0, 1, 127, 2**16, 2**24, 2**31 - 1, 2**32 - 1)


def prepare(folder: Path) -> list[bytes]:
    """Small files of each container and of several codecs."""
    fast = {"deadline": "realtime", "cpu-used": "8"}
    opus = {"sound": tone(2, 48_000), "rate": 48_000, "sound_codec": "libopus"}
    return [
        film(sound=tone(2, 24_000)),
        film(options={"bf": "0"}, gop=4),
        film(codec="mpeg4"),
        film(codec="libx265", options={"x265-params": "log-level=none"}, container="mkv"),
        film(codec="libvpx-vp9", options=fast, container="webm", **opus),
        wav(tone(0.5, 16_000)),
        *(sound_file(tone(0.5, 48_000), 48_000, codec, kind) for codec, kind in SOUNDS),
    ]


SOUNDS = (("libopus", "ogg"), ("flac", "flac"), ("libmp3lame", "mp3"), ("aac", "mp4"))


def mutate(good: list[bytes], rng: Random, folder: Path) -> None:
    """A file in `folder`, called as one that is a video or a sound."""
    content = rng.choice(good)
    for _ in range(rng.choice((0, 1, 4))):  # headers are at both ends, and most of a file is neither
        first, stop = rng.choice(((0, min(1500, len(content))), (max(0, len(content) - 2500), len(content))))
        at = rng.randrange(first, stop)
        content = content[:at] + struct.pack(">I", rng.choice(LARGE)) + content[at + 4 :]
    name = rng.choice(("mp4", "webm", "wav", "ogg"))
    (folder / f"clip.{name}").write_bytes(damage(content, rng) if rng.random() < 0.5 else content)


def read(good: list[bytes], folder: Path) -> None:
    torch.set_num_threads(1)
    (path,) = folder.glob("clip.*")
    try:
        clip = READER.read({path.suffix[1:]: path.read_bytes()}, "0.tar/clip", random.Random(0))
    except BadSample:
        return
    if clip.frames is None and clip.wave is None and not clip.notices:
        raise Wrong("a clip of nothing")
    if not READER.batch([clip], 0).inputs["audio"].log_mel.isfinite().all():
        raise Wrong("a sound that is not finite")
