"""A loaded model of video, sound and text: each finds each other one in the space in which the two are compared."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from tcl.config.audio import seconds_of_sound
from tcl.data.audio.sounds_of_waves import sounds_of
from tcl.errors import InputError
from tcl.inference.clip_spaces import check_modality, space_between, trained_modalities
from tcl.inference.embed_clips import clips_a_pass, embed_frames, embed_sounds, embed_tokens, in_passes
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.media import MediaLike, check_rate, list_media, read_clip, read_wave
from tcl.inference.retrieve import Retrieved
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.models.clip_encoders import Embeddings
from tcl.search.two_stage import Search, search


@dataclass(frozen=True)
class EmbeddedMedia:
    """n videos, sounds or texts with their embeddings: a query or a corpus, for whatever they can be compared with."""

    modality: str
    """One of tcl.inference.clip_spaces.MODALITIES."""
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
        return trained_modalities(self.student)

    def encode_video(self, clips: MediaLike | Iterable[MediaLike], *, to: str = "text") -> np.ndarray:
        """float32 [n, dim of the space], rows of length 1: their product with those of `to` is their cosine."""
        space = space_between(self.student, "video", to)
        return self.embed_video(clips).spaces[space]

    def encode_audio(
        self, sounds: MediaLike | Iterable[MediaLike], *, to: str = "video", rate: int | None = None
    ) -> np.ndarray:
        """As `encode_video`, of sounds. rate: samples a second of those that are arrays."""
        space = space_between(self.student, "audio", to)
        return self.embed_audio(sounds, rate=rate).spaces[space]

    def encode_text(self, texts: str | Iterable[str], *, to: str = "video") -> np.ndarray:
        """As `encode_video`, of texts; what is longer than the model reads is cut, with a UserWarning."""
        space = space_between(self.student, "text", to)
        return self.embed_text(texts).spaces[space]

    def embed_video(self, clips: MediaLike | Iterable[MediaLike]) -> EmbeddedMedia:
        """Videos with their embeddings in all spaces, for `retrieve`."""
        check_modality(self.student, "video", "clips")
        listed, known = list_media(clips, "clips"), self.pretrained.model
        size = known.image.image_size

        def embed(some: list[MediaLike], start: int) -> Embeddings:
            read = [read_clip(clip, f"clips[{start + i}]", known.video, size) for i, clip in enumerate(some)]
            return embed_frames(self, torch.stack(read))

        return EmbeddedMedia("video", listed, in_passes(listed, "clips", embed, clips_a_pass(self)))

    def embed_audio(self, sounds: MediaLike | Iterable[MediaLike], *, rate: int | None = None) -> EmbeddedMedia:
        """Sounds with their embeddings in all spaces, for `retrieve`. rate: as in `encode_audio`."""
        check_modality(self.student, "audio", "sounds")
        check_rate(rate)
        listed, known = list_media(sounds, "sounds"), self.pretrained.model
        seconds = seconds_of_sound(known.audio, known.video)

        def embed(some: list[MediaLike], start: int) -> Embeddings:
            names = [f"sounds[{start + i}]" for i in range(len(some))]
            waves = [read_wave(*one, rate, known.audio, known.video) for one in zip(some, names, strict=True)]
            heard = sounds_of(waves, seconds, known.audio.spectrogram)
            return embed_sounds(self, heard.log_mel, heard.heard)

        return EmbeddedMedia("audio", listed, in_passes(listed, "sounds", embed, self.batch_size))

    def embed_text(self, texts: str | Iterable[str]) -> EmbeddedMedia:
        """Texts with their embeddings in all spaces, for `retrieve`."""
        check_modality(self.student, "text", "texts")
        listed, known = list_texts(texts), self.pretrained
        tokens = tokenize_texts(listed, known.tokenizer, max_words=known.max_words, max_tokens=known.max_tokens)
        return EmbeddedMedia("text", listed, embed_tokens(self, *tokens))

    def retrieve(
        self, query: EmbeddedMedia | str | Iterable[str], corpus: EmbeddedMedia | Iterable[str], k: int
    ) -> Retrieved:
        """The k (1 to the corpus's size) best of a corpus for each query, best first, by the cosine in their space.

        Either is of `embed_video`, `embed_audio` or `embed_text`; strings are texts. Both scores of what is returned
        are the cosines. InputError: two of one modality, or of two that share no space; k out of range.
        """
        query, corpus = (one if isinstance(one, EmbeddedMedia) else self.embed_text(one) for one in (query, corpus))
        space = space_between(self.student, query.modality, corpus.modality, "corpus")
        count = len(corpus.items)
        if not 1 <= k <= count:
            raise InputError(f"k: {k}, of a corpus of {count:,}; accepted: 1 to {count}")
        (found,) = search([Search(*(torch.from_numpy(one.spaces[space]) for one in (query, corpus)))], k)
        best = found.best
        return Retrieved(*(rows.numpy() for rows in (best.candidates, best.similarities, best.scores)))
