"""Clips a second from files of video with sound to a batch, against PyAV and torchvision as they are.

    python -m benchmarks.clips [--videos FOLDER --count 24 --repeats 5 --size '[340,256]' --seconds 10]

Both sides make the same clips, 32 frames at 10 a second of 200 pixels, a random part of the picture perhaps flipped,
and the log-mel spectrogram of the same 3.2 seconds (the means of both differences are checked), on one core. Prints a
table and writes benchmarks/results/.
"""

import random
import statistics
from collections.abc import Iterator
from pathlib import Path

import cv2
import jsonargparse
import torch
from torch import Tensor
from transformers import BertTokenizerFast

from benchmarks.measure import interleaved, ratio, save
from benchmarks.moving_photographs import videos as make_videos
from benchmarks.textbook import clips as textbook
from tcl.config.audio import AudioConfig
from tcl.config.data import AugmentConfig, DataConfig
from tcl.config.video import VideoConfig
from tcl.data.audio.log_mel import log_mel
from tcl.data.feed.clip_reader import ClipReader
from tcl.data.images.augment import draw_view
from tcl.data.media.clip_times import Span, clip_window, frame_times

SIZE = 200
VIDEO, AUDIO = VideoConfig(), AudioConfig()
AUGMENT = AugmentConfig(color_jitter_prob=0, grayscale_prob=0, blur_prob=0, randaugment_ops=0)
SECONDS = VIDEO.frames / VIDEO.fps
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo"]
READER = ClipReader(
    DataConfig(augment=AUGMENT),
    VIDEO,
    AUDIO,
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}),
    image_size=SIZE,
)
LARGEST_DIFFERENCE = {"levels": 4.0, "log_mel": 0.5}
"""In the mean over all clips, of 8-bit levels and of the spectrogram, that still counts as the same: FFmpeg's mono is 3
dB louder than the mean of two channels, which is 0.35 there."""


def our_clips(contents: list[bytes]) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each file a clip, [T, 3, SIZE, SIZE] uint8, and its spectrogram [F, mel bins]."""
    for seed, content in enumerate(contents):
        clip = READER.read({"mp4": content}, str(seed), random.Random(seed))
        batch = READER.batch([clip], 0)
        yield batch.inputs["video"].frames[0], batch.inputs["audio"].log_mel[0]


def plain_clips(contents: list[bytes]) -> Iterator[tuple[Tensor, Tensor]]:
    """The same by the textbook pipeline."""
    rate, samples = AUDIO.spectrogram.sample_rate, round(SECONDS * AUDIO.spectrogram.sample_rate)
    for seed, content in enumerate(contents):
        rng = random.Random(seed)
        frames, times = textbook.decode_video(content)
        span = Span(times[0], 2 * times[-1] - times[-2])
        window = clip_window(span, SECONDS, rng.random())
        (_, (box, size)), *flips = draw_view(AUGMENT, SIZE, frames.shape[3], frames.shape[2], rng)
        asked = frame_times(window, VIDEO.frames, VIDEO.fps)
        clip = textbook.view_of(frames, times, asked, box, bool(flips), size)
        start = round(window.start * rate)
        sound = torch.from_numpy(textbook.decode_sound(content, rate)[start : start + samples])
        yield clip, log_mel(torch.nn.functional.pad(sound, (0, samples - len(sound))), AUDIO.spectrogram)


def check_same(contents: list[bytes]) -> dict[str, float]:
    """The mean absolute differences of the two sides."""
    found = [
        (float((ours.float() - plain.float()).abs().mean()), float((own_mel - mel).abs().mean()))
        for (ours, own_mel), (plain, mel) in zip(our_clips(contents), plain_clips(contents), strict=True)
    ]
    difference = dict(zip(LARGEST_DIFFERENCE, map(statistics.mean, zip(*found, strict=True)), strict=True))
    for name, most in LARGEST_DIFFERENCE.items():
        assert difference[name] < most, f"{name} differ by {difference[name]:.2f} in the mean"
    return difference


def main(
    videos: Path | None = None,
    count: int = 24,
    repeats: int = 5,
    size: tuple[int, int] = (340, 256),
    seconds: float = 10.0,
    fps: int = 25,
) -> None:
    """videos: a folder of MP4s, or none: generated ones, of `size`, `seconds` and `fps`. count: of a measurement."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    contents = make_videos(videos, count, size, seconds, fps)
    difference = check_same(contents[:4])
    sides = {
        "plain": lambda: [None for _ in plain_clips(contents)],
        "ours": lambda: [None for _ in our_clips(contents)],
    }
    took = interleaved(sides, repeats)
    rate = {name: [len(contents) / value for value in values] for name, values in took.items()}
    speed = ratio(took, "plain", "ours")
    for name, values in rate.items():
        print(f"  {name:7s} {statistics.median(values):7.1f} clips a second on one core")
    print(f"  {speed['median']:.2f} times as fast (least {speed['least']:.2f}, most {speed['most']:.2f})")
    print(f"  mean difference {difference['levels']:.2f} of 255 levels, {difference['log_mel']:.3f} of the log-mel")
    options = {"videos": "a folder" if videos else "generated", "count": len(contents), "size": list(size)}
    options |= {"seconds": seconds, "fps": fps}
    print(save("clips", {"options": options, "clips_per_second": rate, "ratio": speed, "difference": difference}))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
