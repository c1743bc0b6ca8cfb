"""Both sides of the benchmark of clips make the same clips of the same videos."""

from benchmarks.clips import LARGEST_DIFFERENCE, SIZE, VIDEO, check_same, our_clips
from benchmarks.moving_photographs import videos


def test_clips_are_those_of_the_textbook_pipeline(tmp_path):
    contents = videos(None, 2, (96, 80), 4.0, 25)
    difference = check_same(contents)
    assert all(value < LARGEST_DIFFERENCE[name] for name, value in difference.items())
    (frames, sound), (other, _) = our_clips(contents)
    assert frames.shape == (VIDEO.frames, 3, SIZE, SIZE) and sound.shape == (150, 80)
    assert (frames.float() - other.float()).abs().mean() > 20
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.mp4").write_bytes(content)
    assert videos(tmp_path, 1, (96, 80), 4.0, 25) == contents[:1]
