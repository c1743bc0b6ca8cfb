"""A run of seconds of the objective of clips, on photographs with sound and captions."""

import io
import json
import wave
from pathlib import Path

import numpy as np
from data_files import encode, noise, write_tar
from small_run import small_run

RATE = 8000


def tone(seed: int, seconds: float = 0.6) -> bytes:
    """A mono WAV of 16 bits."""
    times = np.arange(round(seconds * RATE)) / RATE
    samples = (8000 * np.sin(2 * np.pi * (200 + 100 * seed) * times)).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def caption(number: int) -> str:
    """Another one for each of 256 numbers, of words that the tokenizer of the run knows."""
    return " ".join(("a", "photo", "of", "dog")[number // 4**place % 4] for place in range(4))


def sample(i: int) -> list[tuple[str, bytes]]:
    """Every fifth lacks sound, every seventh text; others have one to three captions."""
    key = f"{i:04d}"
    entries = [(f"{key}.jpg", encode(noise(i, (40, 36))))]
    if i % 5:
        entries.append((f"{key}.wav", tone(i)))
    if i % 7:
        captions = [caption(3 * i + n) for n in range(1 + i % 3)]
        entries.append((f"{key}.json", json.dumps({"captions": captions}).encode()))
    return entries


def clips_run(folder: Path) -> list[str]:
    """Options of a run in steps of 4 samples, less its output_dir; its shards lie in `folder`/clips."""
    options = [one for one in small_run(folder) if not one.startswith(("--data.train", "--objective"))]
    (folder / "clips").mkdir()
    for shard in range(2):
        entries = [entry for i in range(16) for entry in sample(16 * shard + i)]
        write_tar(folder / "clips" / f"{shard:06d}.tar", entries)
    (folder / "clips" / "sizes.json").write_text(json.dumps({f"{shard:06d}.tar": 16 for shard in range(2)}))
    return [
        *options,
        "--objective=clips",
        f"--data.train=[{{'shards': '{folder / 'clips'}/*.tar'}}]",
        "--data.clips.captions=3",
        "--model.video.frames=2",
        "--model.audio.seconds=0.5",
        "--model.audio.overrides={embed_dim: 16, depth: 1, num_heads: 2}",
        "--model.audio.spectrogram={sample_rate: 8000, window: 256, hop: 200, mel_bins: 32, high_hz: 4000.0}",
        "--model.spaces.fine_dim=12",
        "--model.spaces.coarse_dim=8",
    ]
