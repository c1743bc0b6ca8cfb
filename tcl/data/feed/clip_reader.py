"""Clips with sound and captions: what the samples of shards become in learning from video, sound and text."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.config.audio import AudioConfig, seconds_of_sound
from tcl.config.data import DataConfig
from tcl.config.video import VideoConfig
from tcl.data.audio.clip_sound import sound_alone, sound_of_clip
from tcl.data.audio.sounds_of_waves import sounds_of
from tcl.data.batch import Batch
from tcl.data.feed.pair_reader import named_id
from tcl.data.images.augment import draw_view
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.images.image_format import IMAGE_EXTENSIONS
from tcl.data.images.pixel_views import content_hash
from tcl.data.media.clip_times import Span
from tcl.data.media.open_media import opened
from tcl.data.media.sound_wave import Wave
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.sample_keys import SOUND_EXTENSIONS, VIDEO_EXTENSIONS
from tcl.data.texts.caption_tokens import Captions
from tcl.data.texts.captions import clean_caption
from tcl.data.texts.captions_near import captions_near
from tcl.data.texts.sample_texts import EMPTY_CAPTION, NO_CAPTION, Caption, json_of, seconds_in, timed_captions
from tcl.data.texts.tokenize import tokenize
from tcl.data.video.clip_frames import DrawView, clip_views, still_frames, whole_view
from tcl.data.video.clips import Clips

SILENT = "silent sound"
"""Noted of samples that are used without their sound."""
NO_MEDIA = "no video, image or sound"
LACKS = {"video": "no video or image", "audio": "no sound in the clip", "text": NO_CAPTION}
"""Cause of a sample without a modality that it has to have."""
BAD_PART = '"start" and "end" are not seconds, start <= end'


@dataclass
class Clip:
    """What a sample has of a clip."""

    frames: Tensor | None
    """[T, 3, size, size] uint8."""
    wave: Wave | None
    captions: list[str]
    """0 to K, cleaned."""
    key: str
    clip_id: int
    notices: list[str] = field(default_factory=list)
    other_frames: Tensor | None = None
    """Another view of the same frames, where the reader draws two."""

    def has(self, modality: str) -> bool:
        return {"video": self.frames is not None, "audio": self.wave is not None, "text": bool(self.captions)}[modality]


@dataclass
class _Seen:
    """Frames and sound, and the seconds of the file that they are of."""

    views: list[Tensor]
    """Of the frames; none where there is no video."""
    wave: Wave | None
    window: Span
    identity: bytes
    """The file that tells the clip from another."""


class ClipReader:
    """Reads samples KEY.mp4|webm|mkv, or KEY.jpg for a still, with sound inside or beside (KEY.wav|flac|opus|ogg|mp3)
    and captions in KEY.json or KEY.txt; makes batches with "video", "audio" and "text".

    video, audio: how much of them a clip has. image_size: pixels of a frame's side. required: modalities that a sample
    has to have to be used; what others lack is False in `Batch.present`. tokenizer: None, and texts are not read.
    named_ids: as PairReader's. two_views: of the frames of a clip, each with a cut, a flip and colours of its own.
    hears: False: sound is not looked for.
    """

    def __init__(
        self,
        data: DataConfig,
        video: VideoConfig,
        audio: AudioConfig,
        tokenizer: PreTrainedTokenizerBase | None,
        *,
        image_size: int,
        required: Sequence[str] = ("video",),
        named_ids: bool = False,
        two_views: bool = False,
        hears: bool = True,
    ):
        self.data = data
        self.video = video
        self.spectrogram = audio.spectrogram
        self.seconds = seconds_of_sound(audio, video)
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.required = tuple(required)
        self.named_ids = named_ids
        self.two_views = two_views
        self.hears = hears

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random | None, place: float = 0.5) -> Clip:
        """A sample's bytes by extension -> a clip; `rng` draws its time, its view and which captions go with it. None,
        as in evaluation: at `place`, 0 to 1, the middle, whole frames, the first captions. BadSample: unusable."""
        said = json_of(fields)
        times = seconds_in(said, BAD_PART)
        part = None if times[0] is None else Span(*times)
        seen = self._look(fields, rng, place, part)
        captions = captions_near(self._captions(fields), seen.window.centre, self.data.clips.captions, rng)
        notices = []
        if seen.wave is not None and seen.wave.silent:
            seen.wave, notices = None, [SILENT]
        named = named_id(said) if self.named_ids else None
        identity = seen.identity if part is None else seen.identity + repr(part).encode()
        clip_id = content_hash(identity) if named is None else named
        frames, other_frames = (*seen.views, None, None)[:2]
        clip = Clip(frames, seen.wave, captions, key, clip_id, notices, other_frames)
        for modality in self.required:
            if not clip.has(modality):
                raise BadSample(SILENT if modality == "audio" and notices else LACKS[modality])
        return clip

    def batch(self, clips: list[Clip], seed: int) -> Batch:
        """A batch of `clips`; there is nothing random in it."""
        return Batch(
            keys=[clip.key for clip in clips],
            inputs={
                "video": self._clips(clips),
                "audio": sounds_of([clip.wave for clip in clips], self.seconds, self.spectrogram),
                **({} if self.tokenizer is None else {"text": self._texts(clips)}),
            },
            ids=torch.tensor([clip.clip_id for clip in clips]),
            present={
                modality: torch.tensor([clip.has(modality) for clip in clips])
                for modality in LACKS
                if modality not in self.required
            },
            notices=[(cause, clip.key) for clip in clips for cause in clip.notices],
        )

    def _look(self, fields: dict[str, bytes], rng: random.Random | None, place: float, part: Span | None) -> _Seen:
        place = place if rng is None else rng.random()
        draws = [self._view(rng)] * (1 + self.two_views)
        video, sound = _first(fields, VIDEO_EXTENSIONS), _first(fields, SOUND_EXTENSIONS) if self.hears else None
        rate, limits = self.spectrogram.sample_rate, self.data.clips
        if video is None:
            return self._look_at_still(fields, sound, draws, place, part)
        with opened(video, "video", limits) as media:
            views, window = clip_views(media, self.video, draws, place=place, part=part)
            if sound is None:
                wave = sound_of_clip(media, window, self.seconds, rate) if self.hears else None
                return _Seen(views, wave, window, video)
        with opened(sound, "sound", limits) as media:
            return _Seen(views, sound_of_clip(media, window, self.seconds, rate), window, video)

    def _look_at_still(
        self, fields: dict[str, bytes], sound: bytes | None, draws: list[DrawView], place: float, part: Span | None
    ) -> _Seen:
        image = image_bytes(fields) if _first(fields, IMAGE_EXTENSIONS) is not None else None
        if image is None and sound is None:
            raise BadSample(NO_MEDIA if self.hears else LACKS["video"])
        views: list[Tensor] = []
        wave, window = None, Span(0.0, 0.0)
        if image is not None:
            pixels = decode_image(image, max_pixels=self.data.max_pixels)
            views = [still_frames(pixels, self.video, draw) for draw in draws]
        if sound is not None:
            with opened(sound, "sound", self.data.clips) as media:
                rate = self.spectrogram.sample_rate
                wave, window = sound_alone(media, self.seconds, rate, place=place, part=part)
        return _Seen(views, wave, window, sound if image is None else image)

    def _view(self, rng: random.Random | None) -> DrawView:
        if rng is None:
            return whole_view(self.image_size)
        return partial(draw_view, self.data.augment, self.image_size, rng=rng)

    def _captions(self, fields: dict[str, bytes]) -> list[Caption]:
        if self.tokenizer is None:
            return []
        try:
            captions = timed_captions(fields, partial(clean_caption, max_words=self.data.max_words))
        except BadSample as problem:
            if str(problem) in (NO_CAPTION, EMPTY_CAPTION):
                return []
            raise
        return [caption for caption in captions if self.tokenizer.tokenize(caption.text)]

    def _clips(self, clips: list[Clip]) -> Clips:
        frames = torch.zeros(len(clips), self.video.frames, 3, self.image_size, self.image_size, dtype=torch.uint8)
        for row, clip in zip(frames, clips, strict=True):
            if clip.frames is not None:
                row.copy_(clip.frames)
        return Clips(frames)

    def _texts(self, clips: list[Clip]) -> Captions:
        count = self.data.clips.captions
        texts = [[*clip.captions, *[""] * (count - len(clip.captions))] for clip in clips]
        ids, mask = tokenize(self.tokenizer, [text for some in texts for text in some], self.data.max_tokens)
        exist = torch.tensor([[i < len(clip.captions) for i in range(count)] for clip in clips])
        return Captions(ids.unflatten(0, (len(clips), count)), mask.unflatten(0, (len(clips), count)), exist)


def _first(fields: dict[str, bytes], extensions: tuple[str, ...]) -> bytes | None:
    return next((fields[extension] for extension in extensions if extension in fields), None)
