"""A loaded model of video, sound and text: each finds each other one in the space in which the two are compared."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tcl.config.audio import seconds_of_sound
from tcl.data.audio.sounds import Sounds
from tcl.data.audio.sounds_of_waves import sounds_of
from tcl.data.feed.file_stream import Decode
from tcl.data.texts.captions import clean_caption
from tcl.data.texts.tokenize import tokenize
from tcl.data.video.clips import Clips
from tcl.errors import InputError
from tcl.inference.embed import embed_texts
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.media import (
    MediaLike,
    check_rate,
    frames_of_file,
    list_media,
    read_clip,
    read_wave,
    sound_of_file,
)
from tcl.inference.retrieve import Retrieved
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.losses.mil_nce import unit
from tcl.models.clip_encoders import Embeddings
from tcl.search.two_stage import Search, search
from tcl.shown import QUIET_SECONDS

MODALITIES = ("video", "audio", "text")
Item = TypeVar("Item")


@dataclass(frozen=True)
class EmbeddedMedia:
    """n videos, sounds or texts with their embeddings: a query or a corpus, for whatever they can be compared with."""

    modality: str
    """One of MODALITIES."""
    items: list[MediaLike] | list[str]
    spaces: dict[str, np.ndarray]
    """float32 [n, dim], rows of length 1, by the name of the space."""


class TCLForClips(LoadedModel):
    """A model of `tcl pretrain --objective clips`, ready to use; `docs/sound_and_video.md` shows it.

    Videos are paths, bytes, opened files or frames (tcl.inference.media), of which the clip in the middle is seen, or
    still images; sounds are such files, videos with sound, or waves; texts strings. One or a list of them; n is their
    number. `to` is the modality, "video", "audio" or "text", with which embeddings are to be compared: it decides about
    the space. A pass holds `batch_size` frames or sounds, and one clip at least. What cannot be used is refused with
    tcl.errors.InputError, one line that names it: a file that cannot be decoded, a clip without sound, a modality that
    no loss had a part of in training, two that share no space.
    """

    @property
    def modalities(self) -> list[str]:
        """Those that training compared with others."""
        return [one for one in MODALITIES if one in self.student.modalities]

    def encode_video(self, clips: MediaLike | Iterable[MediaLike], *, to: str = "text") -> np.ndarray:
        """float32 [n, dim of the space], rows of length 1: their product with those of `to` is their cosine."""
        space = self.space_of("video", to)
        return self.embed_video(clips).spaces[space]

    def encode_audio(
        self, sounds: MediaLike | Iterable[MediaLike], *, to: str = "video", rate: int | None = None
    ) -> np.ndarray:
        """As `encode_video`, of sounds. rate: samples a second of those that are arrays."""
        space = self.space_of("audio", to)
        return self.embed_audio(sounds, rate=rate).spaces[space]

    def encode_text(self, texts: str | Iterable[str], *, to: str = "video") -> np.ndarray:
        """As `encode_video`, of texts; what is longer than the model reads is cut, with a UserWarning."""
        space = self.space_of("text", to)
        return self.embed_text(texts).spaces[space]

    def embed_video(self, clips: MediaLike | Iterable[MediaLike]) -> EmbeddedMedia:
        """Videos with their embeddings in all spaces, for `retrieve`."""
        self.check_modality("video", "clips")
        listed, known = list_media(clips, "clips"), self.pretrained.model
        size = known.image.image_size

        def embed(some: list[MediaLike], start: int) -> Embeddings:
            read = [read_clip(clip, f"clips[{start + i}]", known.video, size) for i, clip in enumerate(some)]
            return self._embed_frames(torch.stack(read))

        return EmbeddedMedia("video", listed, _in_passes(listed, "clips", embed, self.clips_a_pass))

    def embed_audio(self, sounds: MediaLike | Iterable[MediaLike], *, rate: int | None = None) -> EmbeddedMedia:
        """Sounds with their embeddings in all spaces, for `retrieve`. rate: as in `encode_audio`."""
        self.check_modality("audio", "sounds")
        check_rate(rate)
        listed, known = list_media(sounds, "sounds"), self.pretrained.model
        seconds = seconds_of_sound(known.audio, known.video)

        def embed(some: list[MediaLike], start: int) -> Embeddings:
            names = [f"sounds[{start + i}]" for i in range(len(some))]
            waves = [read_wave(*one, rate, known.audio, known.video) for one in zip(some, names, strict=True)]
            heard = sounds_of(waves, seconds, known.audio.spectrogram)
            return self._embed_sounds(heard.log_mel, heard.heard)

        return EmbeddedMedia("audio", listed, _in_passes(listed, "sounds", embed, self.batch_size))

    def embed_text(self, texts: str | Iterable[str]) -> EmbeddedMedia:
        """Texts with their embeddings in all spaces, for `retrieve`."""
        self.check_modality("text", "texts")
        listed, known = list_texts(texts), self.pretrained
        tokens = tokenize_texts(listed, known.tokenizer, max_words=known.max_words, max_tokens=known.max_tokens)
        return EmbeddedMedia("text", listed, self._embed_tokens(*tokens))

    def retrieve(
        self, query: EmbeddedMedia | str | Iterable[str], corpus: EmbeddedMedia | Iterable[str], k: int
    ) -> Retrieved:
        """The k (1 to the corpus's size) best of a corpus for each query, best first, by the cosine in their space.

        Either is of `embed_video`, `embed_audio` or `embed_text`; strings are texts. Both scores of what is returned
        are the cosines. InputError: two of one modality, or of two that share no space; k out of range.
        """
        query, corpus = (one if isinstance(one, EmbeddedMedia) else self.embed_text(one) for one in (query, corpus))
        space = self.space_of(query.modality, corpus.modality, "corpus")
        count = len(corpus.items)
        if not 1 <= k <= count:
            raise InputError(f"k: {k}, of a corpus of {count:,}; accepted: 1 to {count}")
        (found,) = search([Search(*(torch.from_numpy(one.spaces[space]) for one in (query, corpus)))], k)
        best = found.best
        return Retrieved(*(rows.numpy() for rows in (best.candidates, best.similarities, best.scores)))

    def space_of(self, modality: str, other: str, name: str = "to") -> str:
        """Where two modalities are compared. InputError, naming the argument that says `other`: nowhere."""
        self.check_modality(modality, name)
        self.check_modality(other, name)
        partners = [one for one in self.modalities if one != modality and self.shared_space(modality, one)]
        if other not in partners:
            raise InputError(
                f"{name}: {other!r}, which this model does not compare with {modality!r}; accepted: {_quoted(partners)}"
            )
        return self.shared_space(modality, other)

    def shared_space(self, one: str, other: str) -> str | None:
        """Where two modalities can be compared; None: nowhere."""
        return self.student.averaged.spaces.space_of(one, other)

    def check_modality(self, modality: str, name: str) -> None:
        """InputError, naming `name`: no loss had a part of it."""
        if modality not in self.modalities:
            raise InputError(
                f"{name}: {modality!r}, which this model was not trained on; it knows {_quoted(self.modalities)}"
            )

    # For those who read files and texts themselves: `tcl encode`, an index.

    def reader(self, modality: str) -> Decode:
        """The bytes of a file -> what `embed_read` takes of it as "video" or "audio", without the batch; worker
        processes can have it, it holds no network. BadSample: unusable."""
        known = self.pretrained.model
        return {
            "video": partial(frames_of_file, video=known.video, size=known.image.image_size),
            "audio": partial(sound_of_file, audio=known.audio, video=known.video),
        }[modality]

    def embed_read(self, modality: str, inputs: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
        """Of n files what `reader` gave, stacked, on the host -> float32 [n, dim], rows of length 1, by space."""
        embed, size = {
            "video": (self._embed_frames, self.clips_a_pass),
            "audio": (self._embed_sounds, self.batch_size),
        }[modality]
        rows = list(zip(*inputs, strict=True))
        return _in_passes(rows, modality, lambda some, _: embed(*map(torch.stack, zip(*some, strict=True))), size)

    def files_a_batch(self, modality: str) -> int:
        """How many are read together: frames come as bytes, and take no more than `batch_size` images as fp32."""
        frames = self.pretrained.model.video.frames
        return {"video": max(1, 4 * self.batch_size // frames), "audio": self.batch_size}[modality]

    def knows(self, text: str) -> bool:
        """Whether the tokenizer has a token for any part of a text. InputError: a text without words."""
        self.check_modality("text", "text")
        known = self.pretrained
        ids, _ = tokenize_texts(
            list_texts([text], "text"),
            known.tokenizer,
            max_words=known.max_words,
            max_tokens=known.max_tokens,
            name="text",
        )
        return any(one != known.tokenizer.unk_token_id for one in ids[0, 1:].tolist())

    def clean_text(self, text: str) -> str:
        """As in training; may come out empty."""
        return clean_caption(text, self.pretrained.max_words)

    def embed_cleaned(self, texts: Sequence[str]) -> tuple[dict[str, np.ndarray], list[bool]]:
        """T texts of `clean_text` -> float32 [those with any token, dim], rows of length 1, by space, and which these
        are. What is longer than the model reads is cut."""
        ids, mask = tokenize(self.pretrained.tokenizer, list(texts), self.pretrained.max_tokens)
        read = mask[:, 1:].any(dim=1)
        return self._embed_tokens(ids[read], mask[read]) if read.any() else {}, read.tolist()

    @property
    def clips_a_pass(self) -> int:
        """As many as have `batch_size` frames, or one."""
        return max(1, self.batch_size // self.pretrained.model.video.frames)

    def _embed_frames(self, frames: Tensor) -> Embeddings:
        """Of clips [B, T, 3, size, size] uint8, on the host."""
        encoders = self.student.averaged
        with self.hardware.autocast():
            return encoders.embed_clips(Clips(encoders.video_encoder.prepare(frames.to(self.hardware.device))))

    def _embed_sounds(self, log_mel: Tensor, heard: Tensor) -> Embeddings:
        """As `Sounds` has them, on the host."""
        device = self.hardware.device
        with self.hardware.autocast():
            return self.student.averaged.embed_sounds(Sounds(log_mel.to(device), heard.to(device)))

    def _embed_tokens(self, ids: Tensor, mask: Tensor) -> dict[str, np.ndarray]:
        """Of texts [T, L], one at least: float32 [T, dim], rows of length 1, by space."""
        widths: dict[str, int] = {}

        def embed(ids: Tensor, mask: Tensor) -> Tensor:
            """Of all spaces, side by side."""
            found = self.student.averaged.embed_texts(ids, mask)
            widths.update({space: rows.shape[1] for space, rows in found.items()})
            return torch.cat([unit(rows) for rows in found.values()], dim=1)

        rows = torch.from_numpy(embed_texts(embed, ids, mask, self.hardware)).split(list(widths.values()), dim=1)
        return {space: one.numpy() for space, one in zip(widths, rows, strict=True)}


@torch.no_grad()
def _in_passes(
    items: list[Item], name: str, embed: Callable[[list[Item], int], Embeddings], size: int
) -> dict[str, np.ndarray]:
    """embed: at most `size` items, and the place of the first -> embeddings by space."""
    parts: list[Embeddings] = []
    starts = range(0, len(items), size)
    for start in tqdm(starts, desc=name, unit="pass", leave=False, delay=QUIET_SECONDS, disable=None):
        found = embed(items[start : start + size], start)
        parts.append({space: unit(rows).cpu() for space, rows in found.items()})
    return {space: torch.cat([part[space] for part in parts]).numpy() for space in parts[0]}


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
