"""Frames, sounds and texts to their embeddings in all spaces of a model of clips, in passes that fit into memory."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tcl.config.data import DataConfig
from tcl.data.audio.sounds import Sounds
from tcl.data.audio.sounds_of_waves import sounds_of
from tcl.data.feed.clip_reader import ClipReader
from tcl.data.feed.file_stream import Decode
from tcl.data.texts.tokenize import tokenize
from tcl.data.video.clips import Clips
from tcl.inference.embed import embed_texts
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.media import frames_of_file, sound_of_file
from tcl.losses.mil_nce import unit
from tcl.models.clip_encoders import Embeddings
from tcl.shown import QUIET_SECONDS

Item = TypeVar("Item")
UnitRows = dict[str, np.ndarray]
"""float32 [n, dim], rows of length 1, by the name of the space."""


def reader_of(model: LoadedModel, modality: str) -> Decode:
    """The bytes of a file -> what `embed_read` takes of it as "video" or "audio", without the batch; worker processes
    can have it, it holds no network. BadSample: unusable."""
    known = model.pretrained.model
    return {
        "video": partial(frames_of_file, video=known.video, size=known.image.image_size),
        "audio": partial(sound_of_file, audio=known.audio, video=known.video),
    }[modality]


def sample_reader_of(model: LoadedModel, modality: str) -> Decode:
    """As `reader_of`, of a sample's bytes by extension, as an evaluation reads it: the clip in the middle of its video,
    of its "start" to its "end" where it names them, or its still; the sound of that, in the video or beside it."""
    known, hears = model.pretrained.model, modality == "audio"
    reader = ClipReader(
        DataConfig(),
        known.video,
        known.audio,
        tokenizer=None,
        image_size=known.image.image_size,
        required=(modality,),
        hears=hears,
    )
    return partial(_heard if hears else _seen, reader)


def _seen(reader: ClipReader, fields: dict[str, bytes]) -> tuple[Tensor]:
    return (reader.read(fields, "", rng=None).frames,)


def _heard(reader: ClipReader, fields: dict[str, bytes]) -> tuple[Tensor, Tensor]:
    sounds = sounds_of([reader.read(fields, "", rng=None).wave], reader.seconds, reader.spectrogram)
    return sounds.log_mel[0], sounds.heard[0]


def files_a_batch(model: LoadedModel, modality: str) -> int:
    """How many are read together: frames come as bytes, and take no more than `batch_size` images as fp32."""
    frames = model.pretrained.model.video.frames
    return {"video": max(1, 4 * model.batch_size // frames), "audio": model.batch_size}[modality]


def embed_read(model: LoadedModel, modality: str, inputs: tuple[Tensor, ...]) -> UnitRows:
    """Of n files what `reader_of` gave, stacked, on the host."""
    embed, size = {
        "video": (embed_frames, clips_a_pass(model)),
        "audio": (embed_sounds, model.batch_size),
    }[modality]
    rows = list(zip(*inputs, strict=True))
    return in_passes(rows, modality, lambda some, _: embed(model, *map(torch.stack, zip(*some, strict=True))), size)


def clips_a_pass(model: LoadedModel) -> int:
    """As many as have `batch_size` frames, or one."""
    return max(1, model.batch_size // model.pretrained.model.video.frames)


def embed_frames(model: LoadedModel, frames: Tensor) -> Embeddings:
    """Of clips [B, T, 3, size, size] uint8, on the host."""
    encoders = model.student.averaged
    with model.hardware.autocast():
        return encoders.embed_clips(Clips(encoders.video_encoder.prepare(frames.to(model.hardware.device))))


def embed_sounds(model: LoadedModel, log_mel: Tensor, heard: Tensor) -> Embeddings:
    """As `Sounds` has them, on the host."""
    device = model.hardware.device
    with model.hardware.autocast():
        return model.student.averaged.embed_sounds(Sounds(log_mel.to(device), heard.to(device)))


def embed_tokens(model: LoadedModel, ids: Tensor, mask: Tensor) -> UnitRows:
    """Of texts [T, L], T at least 1."""
    widths: dict[str, int] = {}

    def embed(ids: Tensor, mask: Tensor) -> Tensor:
        """Of all spaces, side by side."""
        found = model.student.averaged.embed_texts(ids, mask)
        widths.update({space: rows.shape[1] for space, rows in found.items()})
        return torch.cat([unit(rows) for rows in found.values()], dim=1)

    rows = torch.from_numpy(embed_texts(embed, ids, mask, model.hardware)).split(list(widths.values()), dim=1)
    return {space: one.numpy() for space, one in zip(widths, rows, strict=True)}


def embed_cleaned(model: LoadedModel, texts: Sequence[str]) -> tuple[UnitRows, list[bool]]:
    """Texts that are cleaned -> embeddings of those with any token, and which these are; {} of none. What is longer
    than the model reads is cut."""
    ids, mask = tokenize(model.pretrained.tokenizer, list(texts), model.pretrained.max_tokens)
    read = mask[:, 1:].any(dim=1)
    return embed_tokens(model, ids[read], mask[read]) if read.any() else {}, read.tolist()


@torch.no_grad()
def in_passes(items: list[Item], name: str, embed: Callable[[list[Item], int], Embeddings], size: int) -> UnitRows:
    """embed: at most `size` items, and the place of the first -> embeddings by space; name: for the progress bar."""
    parts: list[Embeddings] = []
    starts = range(0, len(items), size)
    for start in tqdm(starts, desc=name, unit="pass", leave=False, delay=QUIET_SECONDS, disable=None):
        found = embed(items[start : start + size], start)
        parts.append({space: unit(rows).cpu() for space, rows in found.items()})
    return {space: torch.cat([part[space] for part in parts]).numpy() for space in parts[0]}
