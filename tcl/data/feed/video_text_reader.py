"""Clips with a caption each: what the samples of shards become where TCL learns from video and text."""

import random
from dataclasses import replace

import torch
from transformers import PreTrainedTokenizerBase

from tcl.config.audio import AudioConfig
from tcl.config.data import DataConfig
from tcl.config.video import VideoConfig
from tcl.data.audio.sounds_of_waves import sounds_of
from tcl.data.batch import Batch
from tcl.data.feed.clip_reader import Clip, ClipReader
from tcl.data.images.image_views import Images
from tcl.data.texts.masked_texts import masked_texts


class VideoTextReader:
    """Reads samples as `ClipReader` does, those with a video or a still and a caption; makes batches with "image", two
    views of the same seconds, [B, T, 3, H, W] each, "text", and with hears=True "audio", which a sample may lack.

    Of timed captions the nearest to the clip's middle is taken, of plain ones one is drawn. mlm_probability: as
    PairReader's.
    """

    def __init__(
        self,
        data: DataConfig,
        video: VideoConfig,
        audio: AudioConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        image_size: int,
        mlm_probability: float,
        hears: bool,
        named_ids: bool = False,
    ):
        self.clips = ClipReader(
            replace(data, clips=replace(data.clips, captions=1)),
            video,
            audio,
            tokenizer,
            image_size=image_size,
            required=("video", "text"),
            named_ids=named_ids,
            two_views=True,
            hears=hears,
        )
        self.mlm_probability = mlm_probability

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> Clip:
        """As `ClipReader.read`. BadSample: unusable, no video or still, no caption."""
        return self.clips.read(fields, key, rng)

    def batch(self, clips: list[Clip], seed: int) -> Batch:
        """A batch of `clips`, masked as `seed` says."""
        reader, captions = self.clips, [clip.captions[0] for clip in clips]
        views = [torch.stack([clip.frames for clip in clips]), torch.stack([clip.other_frames for clip in clips])]
        inputs = {
            "image": Images(*views),
            "text": masked_texts(reader.tokenizer, captions, reader.data.max_tokens, self.mlm_probability, seed),
        }
        present = {}
        if reader.hears:
            inputs["audio"] = sounds_of([clip.wave for clip in clips], reader.seconds, reader.spectrogram)
            present["audio"] = torch.tensor([clip.has("audio") for clip in clips])
        return Batch(
            keys=[clip.key for clip in clips],
            inputs=inputs,
            ids=torch.tensor([clip.clip_id for clip in clips]),
            present=present,
            notices=[(cause, clip.key) for clip in clips for cause in clip.notices],
        )
