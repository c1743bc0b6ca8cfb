"""Image-text pairs: what the samples of shards become in pre-training and in fine-tuning on retrieval."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.feed.view_reader import Opened, ViewReader
from tcl.data.images.pixel_views import content_hash
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.masked_texts import masked_texts
from tcl.data.texts.sample_texts import EMPTY_CAPTION, clean_captions, json_of


@dataclass
class Pair:
    """One or two views of an image, and one of its captions, cleaned."""

    view: Any
    other_view: Any
    """None: the objective has no use for another."""
    caption: str
    key: str
    image_id: int


class PairReader:
    """Reads pairs, with views of their images that `images` makes, and makes batches of them.

    mlm_probability 0 to 1: share of tokens masked; 0: none are, nor are masked texts made. two_views: the teacher gets
    a view of its own. named_ids: an "image_id" in the JSON says which image a pair shows,
    else its bytes alone do, as where several sources number their images each for itself.
    """

    def __init__(
        self,
        data: DataConfig,
        images: ViewReader,
        tokenizer: PreTrainedTokenizerBase,
        *,
        mlm_probability: float,
        two_views: bool = True,
        named_ids: bool = False,
    ):
        self.data = data
        self.images = images
        self.tokenizer = tokenizer
        self.mlm_probability = mlm_probability
        self.two_views = two_views
        self.named_ids = named_ids

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> Pair:
        """A sample's bytes by extension -> a pair; `rng` draws the caption and the views. BadSample: unusable."""
        captions = clean_captions(fields, self.data.max_words)
        image = self.images.open(fields)
        caption = rng.choice(captions)
        if not self.tokenizer.tokenize(caption):  # e.g. nothing but control characters
            raise BadSample(EMPTY_CAPTION)
        image_id = image_id_of(fields if self.named_ids else {}, image)
        view = image.view(rng)
        return Pair(view, image.view(rng) if self.two_views else None, caption, key, image_id)

    def batch(self, pairs: list[Pair], seed: int) -> Batch:
        """A batch of `pairs`, masked as `seed` says."""
        captions = [pair.caption for pair in pairs]
        others = [pair.other_view for pair in pairs] if self.two_views else None
        images = self.images.batch([pair.view for pair in pairs], others)
        return Batch(
            keys=[pair.key for pair in pairs],
            inputs={
                "image": images,
                "text": masked_texts(self.tokenizer, captions, self.data.max_tokens, self.mlm_probability, seed),
            },
            ids=torch.tensor([pair.image_id for pair in pairs]),
        )


def image_id_of(fields: dict[str, bytes], image: Opened) -> int:
    """Equal for samples of the same image: from "image_id" in the sample's JSON, or else from the image's bytes.

    0 to 2^63 - 1, a hash; two images share one with a probability of about 1e-19.
    """
    named = named_id(json_of(fields))
    return image.identity if named is None else named


def named_id(said: dict) -> int | None:
    """A hash, 0 to 2^63 - 1, of the "image_id" in a sample's JSON; None without one."""
    named = said.get("image_id")
    return None if named is None else content_hash(f"image_id {named}".encode(errors="backslashreplace"))
