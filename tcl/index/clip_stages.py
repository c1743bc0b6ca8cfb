"""What an index asks of a model of video, sound and text, as tcl.index.stages asks it of models of images and texts.

A row has a block of numbers for each space in which anything is asked. Of an item it holds the embeddings, of length 1,
in all of these that the item comes into; of a text, or of what items are to be like, those in which it is compared. The
other blocks are 0: a product of the two is the cosine in the one space that both have, and one search finds clips and
sounds.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from tcl.config.audio import seconds_of_sound
from tcl.errors import InputError
from tcl.index.media_reader import MediaReader
from tcl.index.read_item import Seen
from tcl.inference.clip_spaces import check_modality, shared_space
from tcl.inference.clips_model import TCLForClips
from tcl.inference.embed_clips import embed_read, files_a_batch
from tcl.inference.files import at_hand, decoded, is_file_like
from tcl.inference.images import MAX_PIXELS, ImageLike, list_images, read_image
from tcl.inference.media import read_clip
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.models.token_maker import hash_of_parts, preparation

SEEN = ("video", "audio")
"""Modalities of items."""


class ClipStages:
    """A loaded model, and where it was loaded from. It has one stage."""

    what = "clips and sounds"
    plays = True
    matcher = matcher_source = token_maker = token_shape = codebooks = None
    explains = False

    def __init__(self, model: TCLForClips, source: str):
        self.model, self.source = model, source
        student, known = model.student, [one for one in SEEN if one in model.modalities]
        self._text_spaces = {one: shared_space(student, one, "text") for one in known if "text" in model.modalities}
        """By modality, where its items are compared with a text; None: nowhere."""
        self._seen_space = shared_space(student, *known) if len(known) == 2 else next(iter(self._text_spaces.values()))
        """Where items, and what they are to be like, are compared."""
        spaces, dims = {self._seen_space, *self._text_spaces.values()}, student.averaged.spaces.dims
        self._dims = {space: dim for space, dim in dims.items() if space in spaces}

    @property
    def embed_dim(self) -> int:
        """Numbers of a row."""
        return sum(self._dims.values())

    @property
    def text_dim(self) -> int:
        """Numbers of a text, as `tcl encode` embeds it for clips."""
        return self._dims[next(iter(self._text_spaces.values()))]

    @property
    def batch_size(self) -> int:
        """Files that are read together."""
        return files_a_batch(self.model, "video")

    @cached_property
    def embedding_maker(self) -> str:
        """Hash of the weights and of how frames and sounds are prepared for them."""
        known = self.model.pretrained.model
        read = asdict(known.video), asdict(known.audio.spectrogram), seconds_of_sound(known.audio, known.video)
        student = self.model.student
        return hash_of_parts(repr((preparation(student.averaged.image_encoder), read)), [student])

    @property
    def reader(self) -> MediaReader:
        """Of what is indexed, and of queries. What no text could find is not indexed."""
        known, trained = self.model.pretrained.model, self.model.modalities
        unknown = {one: f"{one}, which the model was not trained on" for one in SEEN if one not in trained}
        apart = {one: f"{one}, which the model does not compare with text" for one in self._text_spaces}
        refused = {one: cause for one, cause in apart.items() if self._text_spaces[one] is None}
        return MediaReader(known.video, known.audio, known.image.image_size, unknown, unknown | refused)

    def encode(self, modality: str, inputs: tuple[Tensor, ...], *, tokens: bool) -> tuple[np.ndarray, None]:
        """Of n items what `reader` saw of each, stacked, on the host -> rows float32 [n, embed_dim]; no tokens."""
        return self._rows(embed_read(self.model, modality, inputs), self._dims), None

    def knows(self, text: str) -> bool:
        """As `EmbeddingModel.knows`. InputError, too: a model that was not trained on texts."""
        check_modality(self.model.student, "text", "text")
        known = self.model.pretrained
        limits = {"max_words": known.max_words, "max_tokens": known.max_tokens, "name": "text"}
        ids, _ = tokenize_texts(list_texts([text], "text"), known.tokenizer, **limits)
        return any(one != known.tokenizer.unk_token_id for one in ids[0, 1:].tolist())

    def check_text(self, text: str) -> None:
        """InputError: a query without any word that the model knows, or a model of no texts."""
        if not self.knows(text):
            raise InputError(f"text: {text!r} has no word that this model knows; give others")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Queries, that `check_text` took -> float32 [n, embed_dim]."""
        return self._rows(self.model.embed_text(texts).spaces, self._text_spaces.values())

    def see(self, image: ImageLike) -> Seen:
        """A query: a file of an image, a video or a sound, an image, or frames as tcl.inference.media has them.
        InputError: none of these."""
        reader = self.reader
        if is_file_like(image):
            see = partial(reader.see, max_pixels=MAX_PIXELS)
            return decoded(at_hand(image, "image"), "image", reader.accepted(MAX_PIXELS), see)
        if isinstance(image, np.ndarray | Tensor) and image.ndim == 4:
            return Seen("video", (read_clip(image, "image", reader.video, reader.size),))
        (listed,) = list_images([image], "image")
        return reader.still(read_image(listed, "image"))

    def embed_seen(self, queries: Sequence[Seen]) -> np.ndarray:
        """Of each what `see` or `reader` gave -> rows float32 [n, embed_dim], as the index has them."""
        rows = np.empty((len(queries), self.embed_dim), np.float32)
        for modality in {one.modality for one in queries}:
            places = [i for i, one in enumerate(queries) if one.modality == modality]
            inputs = zip(*(queries[i].inputs for i in places), strict=True)
            rows[places], _ = self.encode(modality, tuple(map(torch.stack, inputs)), tokens=False)
        return rows

    def like(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the index [n, embed_dim] -> the same as what is asked with for items like these."""
        kept = self._blocks(rows)[self._seen_space]
        lengths = np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return self._rows({self._seen_space: kept / lengths}, [self._seen_space])

    def together(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """What is asked with, [embed_dim] each, one at least -> all of it as one: an item's product with it is the mean
        of its cosines with each."""
        return np.mean(parts, axis=0)

    def bank_rows(self, bank: np.ndarray) -> np.ndarray | None:
        """Embeddings of texts [n, D], as `tcl encode` gives them for clips -> what `embed_texts` gives of these; None:
        they are those of another model, or sounds have a space of their own with texts."""
        check_modality(self.model.student, "text", "bank")
        spaces = set(self._text_spaces.values()) - {None}
        if len(spaces) != 1 or bank.shape[1] != self.text_dim:
            return None
        return self._rows(dict.fromkeys(spaces, bank), spaces)

    def _rows(self, found: dict[str, np.ndarray], spaces: Sequence[str | None]) -> np.ndarray:
        """Embeddings [n, dim] by space -> [n, embed_dim], with those in `spaces`."""
        rows = np.zeros((len(next(iter(found.values()))), self.embed_dim), np.float32)
        blocks = self._blocks(rows)
        for space in blocks.keys() & found.keys() & set(spaces):
            blocks[space][:] = found[space]
        return rows

    def _blocks(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Views of rows [n, embed_dim] by space, [n, dim] each."""
        ends = np.cumsum(list(self._dims.values()))[:-1]
        return dict(zip(self._dims, np.split(rows, ends, axis=1), strict=True))
