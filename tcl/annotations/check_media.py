"""Whether the video or the sound of a row can be used, before it is stored."""

from tcl.config.clips import ClipsConfig
from tcl.data.audio.clip_sound import sound_alone, sound_of_clip
from tcl.data.media.find_clip import find_clip
from tcl.data.media.open_media import NO_VIDEO_TRACK, Role, opened
from tcl.data.media.video_frames import frames_at
from tcl.data.shards.bad_sample import BadSample

_SECONDS = 1.0
_RATE = 16_000


def check_media(content: bytes, role: Role) -> None:
    """Its structure is looked through, and its first and its last second are decoded. BadSample: it cannot be used."""
    with opened(content, role, ClipsConfig()) as media:
        if role == "video" and media.video is None:
            raise BadSample(NO_VIDEO_TRACK)
        for place in (0.0, 1.0):
            if role == "sound":
                sound_alone(media, _SECONDS, _RATE, place=place, part=None)
                continue
            window, packets = find_clip(media, media.video, _SECONDS, place, None)
            for _ in frames_at(media, packets, [window.start, window.end]):
                pass
            sound_of_clip(media, window, _SECONDS, _RATE)
