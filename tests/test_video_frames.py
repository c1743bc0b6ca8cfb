"""Frames by time: what is decoded is what a player would show then, whatever the file's rate, order and rotation."""

import io
import random
from collections import Counter

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from media_files import FPS, FRAMES, claiming, film, grey, level, media, quarter_turned
from PIL import Image

from tcl.config.video import VideoConfig
from tcl.data.images.image_operations import Box, flip, resized_crop
from tcl.data.images.view_step import Step
from tcl.data.media import video_frames
from tcl.data.media.clip_times import Span, clip_window, frame_times, sound_window
from tcl.data.media.find_clip import find_clip
from tcl.data.media.frame_picture import FramePicture
from tcl.data.media.tracks import Packets
from tcl.data.media.video_frames import frames_at
from tcl.data.shards.bad_sample import BadSample
from tcl.data.video.clip_frames import clip_frames, still_frames


def draw_whole(width: int, height: int) -> list[Step]:
    return [Step(resized_crop, (Box(0, 0, width, height), 32))]


def shown_at(content: bytes, times: list[float]) -> list[np.ndarray]:
    """The obvious way: decode everything, and of it what was the last to begin."""
    with av.open(io.BytesIO(content)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return [[pixels for begins, pixels in frames if begins <= max(time, frames[0][0]) + 1e-4][-1] for time in times]


def decoded_at(content: bytes, length: float, place: float, times: list[float] | None = None, fps: float = 10.0):
    with media(content) as opened:
        window, packets = find_clip(opened, opened.video, length, place, None)
        times = frame_times(window, round(length * fps), fps) if times is None else times
        found = [None] * len(times)
        for places, frame in frames_at(opened, packets, times):
            for i in places:
                assert found[i] is None
                found[i] = frame.to_ndarray(format="rgb24")
    return times, found


def moving(count: int) -> list[np.ndarray]:
    """Noise that moves: what depends on what, a coder has to think about."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 40, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(noise).resize((320, 96), Image.Resampling.BICUBIC))
    return [large[i % 40 : i % 40 + 48, 2 * i : 2 * i + 64] for i in range(count)]


@pytest.mark.parametrize("place", [0.0, 0.3, 0.77, 1.0])
@pytest.mark.parametrize(
    ("codec", "container", "options", "gop"),
    [
        ("libx264", "mp4", {"bf": "3"}, 12),
        ("libx264", "mkv", {"bf": "3", "x264-params": "b-pyramid=strict"}, 250),
        ("libx264", "mp4", {"preset": "ultrafast"}, 5),
        ("libx265", "mp4", {"x265-params": "log-level=none:bframes=3"}, 20),
        ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8"}, 20),
        ("mpeg4", "mp4", {}, 12),
        ("mjpeg", "mkv", {"strict": "unofficial"}, 1),
    ],
)
def test_frames_are_those_that_decoding_everything_shows(codec, container, options, gop, place):
    content = film(moving(90), codec=codec, container=container, options=options, gop=gop)
    times, found = decoded_at(content, 1.6, place)
    for one, other in zip(found, shown_at(content, times), strict=True):
        assert np.array_equal(one, other)


def test_frames_that_nothing_depends_on_and_nobody_wants_are_not_decoded():
    """Two of three are B frames, and every eighth frame is asked for."""
    content = film(moving(90), options={"bf": "2", "x264-params": "b-pyramid=none:b-adapt=0"})
    with av.open(io.BytesIO(content)) as container:
        kinds = Counter(int(frame.pict_type) for frame in container.decode(video=0))
    with media(content) as opened:
        window, packets = find_clip(opened, opened.video, 11.0, 0.0, None)
        times = frame_times(window, 11, 1.0)
        decoded = len(list(video_frames._decoded(opened, packets, times)))
    assert kinds[int(PictureType.B)] >= 55
    assert decoded <= 31 + 11


def test_variable_frame_rates_are_seen_by_their_times():
    shown = [0, 0.125, 0.5, 0.625, 1.4, 1.5]
    content = film([grey(i) for i in range(6)], times=shown)
    asked = [0.0, 0.1, 0.13, 0.49, 0.51, 0.9, 1.39, 1.41, 1.52]
    _, found = decoded_at(content, 1.5, 0.0, asked)
    expected = [max(i for i, begins in enumerate(shown) if begins <= time) for time in asked]
    assert [round((frame.mean() - 30) / 12) for frame in found] == expected


def test_a_clip_that_is_shorter_starts_over():
    content = film([grey(i) for i in range(4)])
    frames, window = read(content, VideoConfig(frames=10, fps=8), place=0.7)
    assert window == Span(0.0, 0.5)
    assert [round((frame - 30) / 12) for frame in frames.float().mean((1, 2, 3)).tolist()] == [i % 4 for i in range(10)]


def test_a_track_without_frames_is_no_video():
    with media(film()) as opened, pytest.raises(BadSample, match=r"^video without frames$"):
        list(video_frames.frames_at(opened, Packets([], [], at_end=True, tick=1.0), [0.0]))


def test_a_single_frame_stands_still():
    frames, _ = read(film([grey(3)]), VideoConfig(frames=4, fps=8))
    assert (frames.float() - level(3)).abs().max() < 4


def read(content: bytes, video: VideoConfig, draw=draw_whole, place: float = 0.0, part: Span | None = None):
    with media(content) as opened:
        return clip_frames(opened, video, draw, place=place, part=part)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_video_is_seen_upright(quarters):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32], pixels[:24, 32:], pixels[24:, :32] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    content = quarter_turned(film([pixels] * 2), quarters)
    frames, _ = read(content, VideoConfig(frames=1, fps=8))
    upright = np.rot90(np.asarray(Image.fromarray(pixels).resize((32, 32))), quarters)
    seen = frames[0].permute(1, 2, 0).numpy()
    assert np.abs(seen.astype(int) - upright).mean() < 12

    def draw_part(width: int, height: int) -> list[Step]:
        assert (width, height) == ((48, 64) if quarters % 2 else (64, 48))
        return [Step(resized_crop, (Box(2, 4, width // 2 - 4, height // 2 - 8), 16))]

    corner = np.rot90(pixels, quarters)[10, 10]
    part, _ = read(content, VideoConfig(frames=1, fps=8), draw_part)
    assert np.abs(part[0].permute(1, 2, 0).numpy().astype(int) - corner).mean() < 12


@pytest.mark.parametrize("size", [(64, 48), (62, 46), (31, 47), (64, 16)])
def test_odd_sizes_and_parts_are_cut_where_they_are(size):
    """Against Pillow, on a smooth picture; chroma has half the resolution and an even place."""
    y, x = np.mgrid[: size[1], : size[0]]
    smooth = np.stack([x * 200 // size[0] + 20, y * 200 // size[1] + 20, np.full_like(x, 120)], -1).astype(np.uint8)
    even = np.pad(smooth, ((0, size[1] % 2), (0, size[0] % 2), (0, 0)), mode="edge")
    content = film([even] * 2)
    box = Box(4, 2, size[0] - 8, size[1] - 6)
    steps = [Step(resized_crop, (box, 24)), Step(flip)]
    frames, _ = read(content, VideoConfig(frames=2, fps=8), lambda width, height: steps)
    whole = Image.fromarray(even).crop((box.left, box.top, box.left + box.width, box.top + box.height))
    expected = np.asarray(whole.resize((24, 24), Image.Resampling.BILINEAR))[:, ::-1]
    for frame in frames.permute(0, 2, 3, 1).numpy():
        assert np.abs(frame.astype(int) - expected).mean() < 6


def test_a_still_is_one_picture_many_times():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    frames = still_frames(pixels, VideoConfig(frames=5), draw_whole)
    expected = resized_crop(pixels, Box(0, 0, 60, 40), 32)
    assert frames.shape == (5, 3, 32, 32)
    assert all(np.array_equal(frame.permute(1, 2, 0).numpy(), expected) for frame in frames)


@pytest.mark.parametrize("declared", [0.01, 1.0, 3600.0])
def test_a_duration_that_is_a_lie_is_found_out(declared):
    """What is there decides; a video of which less is said than there is is used as far as that."""
    honest = film(container="webm", codec="libvpx-vp9", options={"deadline": "realtime"})
    video = VideoConfig(frames=10, fps=8)
    for place in (0.0, 0.5, 1.0):
        there, here = (read(content, video, place=place) for content in (honest, claiming(honest, declared)))
        assert there[0].equal(here[0]) and there[1] == pytest.approx(here[1], abs=0.01)


def test_a_webm_without_a_duration_is_measured():
    """As it is written into a pipe."""
    content = film(container="webm", codec="libvpx-vp9", options={"deadline": "realtime"}, muxer={"live": "1"})
    with av.open(io.BytesIO(content)) as container:
        assert container.duration is None
    frames, window = read(content, VideoConfig(frames=8, fps=8), place=1.0)
    assert window == pytest.approx(Span(1.0, 2.0), abs=0.01)
    assert round((frames[0].float().mean().item() - 30) / 12) == FRAMES // 2


def test_a_part_of_a_video_bounds_the_clip():
    content = film()
    for place in (0.0, 0.5, 1.0):
        _, window = read(content, VideoConfig(frames=4, fps=8), place=place, part=Span(0.5, 1.25))
        assert window == pytest.approx(Span(0.5 + 0.25 * place, 1.0 + 0.25 * place))
    _, window = read(content, VideoConfig(frames=4, fps=8), part=Span(50, 60))  # of another film
    assert window == Span(0.0, 0.5)


def test_a_view_is_drawn_once_for_all_frames():
    drawn = []

    def draw(width: int, height: int) -> list[Step]:
        drawn.append((width, height))
        return draw_whole(width, height)

    read(film(), VideoConfig(frames=8, fps=FPS), draw)
    assert drawn == [(64, 48)]


def test_frame_sizes_that_change_are_refused():
    one, other = (av.VideoFrame.from_ndarray(grey(0, size), format="rgb24") for size in ((64, 48), (48, 64)))
    picture = FramePicture(one, Box(0, 0, 64, 48), 16)
    assert picture(one).shape == (16, 16, 3)
    with pytest.raises(BadSample, match=r"^video changes its frames' size$"):
        picture(other)


# Which seconds


def test_windows_by_hand():
    span = Span(2.0, 12.0)
    assert [clip_window(span, 4.0, place) for place in (0, 0.5, 1)] == [Span(2, 6), Span(5, 9), Span(8, 12)]
    assert clip_window(span, 20.0, 0.5) == span
    assert frame_times(Span(1.0, 2.0), 4, 4.0) == [1.0, 1.25, 1.5, 1.75]
    assert frame_times(Span(1.0, 1.5), 4, 4.0) == [1.0, 1.25, 1.0, 1.25]
    assert frame_times(Span(1.0, 1.0), 2, 4.0) == [1.0, 1.0]


def test_windows_of_sound_by_hand():
    sound = Span(0.0, 10.0)
    assert sound_window(Span(4, 6), 2.0, sound) == Span(4, 6)
    assert sound_window(Span(4, 6), 4.0, sound) == Span(3, 7)
    assert sound_window(Span(0, 2), 4.0, sound) == Span(0, 4)
    assert sound_window(Span(8, 10), 4.0, sound) == Span(6, 10)
    assert sound_window(Span(0, 0.5), 2.0, Span(0, 0.5)) == Span(0, 2)
    assert sound_window(Span(0, 2), 2.0, Span(0.5, 2)) == Span(0, 2)


def test_places_are_drawn_over_all_of_a_video():
    rng = random.Random(0)
    starts = [read(film(), VideoConfig(frames=8, fps=8), place=rng.random())[1].start for _ in range(20)]
    assert min(starts) < 0.3 and max(starts) > 0.8
