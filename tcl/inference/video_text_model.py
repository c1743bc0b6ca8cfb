"""A loaded TCL of video and text: clips and texts find each other, and the fusion encoder orders what was found."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tcl.inference.embed import ROOM_FOR_TOKENS, Embedded, embed_texts, keep_tokens
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.match import JointEncoder
from tcl.inference.matcher import Matcher, second_stage
from tcl.inference.media import MediaLike, list_media, read_clip
from tcl.inference.retrieve import Retrieved, check_search, retrieve
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.models.activation_memory import seen_tokens
from tcl.models.token_maker import hash_of_parts, preparation
from tcl.shown import QUIET_SECONDS


class TCLForVideo(Matcher, LoadedModel):
    """A model of `tcl pretrain --objective video_text`, ready to use; `docs/sound_and_video.md` shows it.

    Clips are paths, bytes, opened files or frames (tcl.inference.media), of which the one in the middle is seen, or
    still images; texts strings; one or a list of them, n is their number. `match`, `match_grid`, `predict` and `rank`
    are those of `Matcher`, whose images are clips. A pass holds `batch_size` frames, and one clip at least. What cannot
    be used is refused with tcl.errors.InputError, one line that names it.
    """

    @property
    def _joint(self) -> JointEncoder:
        """Text encoder, fusion encoder and ITM head."""
        encoders = self.student.encoders
        return JointEncoder(encoders.text_encoder, encoders.fusion_encoder, self.student.itm_head)

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """As `Matcher.image_tokens`, of clips [B, T, 3, H, W], or of images, which stand still."""
        if pixels.ndim == 4:
            pixels = pixels[:, None].expand(-1, self.pretrained.model.video.frames, -1, -1, -1)
        return self.student.encoders.image_encoder(pixels)

    @cached_property
    def token_maker(self) -> str:
        """As `Matcher.token_maker`: how many frames there are, and how they see each other, makes them, too."""
        encoders = self.student.encoders
        image, compression = encoders.image_encoder, encoders.fusion_encoder.compression
        clips = f"{preparation(image)} {asdict(self.pretrained.model.video)}"
        return hash_of_parts(clips, (image,) if compression is None else (image, compression))

    @property
    def token_shape(self) -> tuple[int, int]:
        """As `Matcher.token_shape`."""
        encoders = self.student.encoders
        return seen_tokens(encoders.fusion_encoder, encoders.image_encoder), encoders.image_encoder.width

    def _tokenize(self, texts: Sequence[str], name: str = "texts") -> tuple[Tensor, Tensor]:
        known = self.pretrained
        return tokenize_texts(texts, known.tokenizer, max_words=known.max_words, max_tokens=known.max_tokens, name=name)

    def _list_images(self, images: MediaLike | Iterable[MediaLike], name: str = "images") -> list[MediaLike]:
        """As `Matcher._list_images`: frames [T, ...] are one clip."""
        return list_media(images, name)

    @torch.no_grad()
    def encode_tokens(self, images: Sequence[MediaLike], name: str = "clips") -> Iterator[Tensor]:
        """Tokens [b, N, width] of listed clips, on the device."""
        video, size = self.pretrained.model.video, self.pretrained.model.image.image_size
        encoder, clips_a_pass = self.student.encoders.image_encoder, max(1, self.batch_size // video.frames)
        starts = range(0, len(images), clips_a_pass)
        for start in tqdm(starts, desc=name, unit="pass", leave=False, delay=QUIET_SECONDS, disable=None):
            some = images[start : start + clips_a_pass]
            frames = torch.stack([read_clip(one, f"{name}[{start + i}]", video, size) for i, one in enumerate(some)])
            with self.hardware.autocast():
                yield encoder(encoder.prepare(frames.to(self.hardware.device)))

    def encode_video(self, clips: MediaLike | Iterable[MediaLike]) -> np.ndarray:
        """Embeddings of clips: float32 [n, embed_dim], rows of length 1. Its product with texts' is their cosine."""
        return self.embed_video(clips).features

    def encode_text(self, texts: str | Iterable[str]) -> np.ndarray:
        """Embeddings of texts: float32 [n, embed_dim], rows of length 1; what is longer than the model reads is cut,
        with a UserWarning."""
        return self.embed_text(texts).features

    @torch.no_grad()
    def embed_video(self, clips: MediaLike | Iterable[MediaLike]) -> Embedded:
        """Clips with their embeddings, and tokens of as many as there is room for: a query or corpus for `retrieve`."""
        listed, features = list_media(clips, "clips"), []

        def batches() -> Iterator[Tensor]:
            for tokens in self.encode_tokens(listed):
                with self.hardware.autocast():
                    features.append(self.student.encoders.embed_images(tokens).cpu())
                yield tokens

        encoded = batches()
        kept = keep_tokens(encoded, ROOM_FOR_TOKENS)
        for _ in encoded:  # what there was no room for
            pass
        return Embedded("images", listed, torch.cat(features).numpy(), kept, tokens_of=self)

    def embed_text(self, texts: str | Iterable[str]) -> Embedded:
        """Texts with their embeddings: a query or corpus for `retrieve`."""
        listed = list_texts(texts)
        return Embedded(
            "texts", listed, embed_texts(self.student.encoders.embed_ids, *self._tokenize(listed), self.hardware)
        )

    def retrieve(
        self, query: Embedded | str | Iterable[str], corpus: Embedded | Iterable[str], k: int, *, candidates: int = 16
    ) -> Retrieved:
        """The k (1 to the corpus's size) best of a corpus for each query, best first: clips for texts, or texts for
        clips. Either is of `embed_video` or `embed_text`; strings are texts.

        The `candidates` (>= 1, at least k) best by embedding are ordered by ITM's logit. InputError: query and corpus
        of one kind, k or candidates out of range.
        """
        query, corpus = (one if isinstance(one, Embedded) else self.embed_text(one) for one in (query, corpus))
        check_search(query, corpus, k, candidates)
        clips, texts = (query, corpus) if query.kind == "images" else (corpus, query)
        return retrieve(query, corpus, k, candidates, second_stage(self, clips, texts))
