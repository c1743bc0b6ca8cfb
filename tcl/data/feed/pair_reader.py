"""Image-text pairs: what the samples of shards become in pre-training and in fine-tuning on retrieval."""

import hashlib
import random
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.images.augment import Augment, View
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.images.image_views import Images
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.masking import MaskedText, mask_tokens
from tcl.data.texts.sample_texts import EMPTY_CAPTION, clean_captions, json_of
from tcl.data.texts.text_tokens import Texts
from tcl.data.texts.tokenize import tokenize


@dataclass
class Pair:
    """One or two views of an image, and one of its captions, cleaned."""

    view: View
    other_view: View | None
    caption: str
    key: str
    image_id: int


class PairReader:
    """Decodes pairs with augmented views, and makes batches of them.

    mlm_probability 0 to 1: share of tokens masked; 0: none are, nor are masked texts made. two_views: the teacher gets
    a view of its own. named_ids: an "image_id" in the JSON says which image a pair shows,
    else its bytes alone do, as where several sources number their images each for itself.
    """

    def __init__(
        self,
        data: DataConfig,
        augment: Augment,
        tokenizer: PreTrainedTokenizerBase,
        *,
        mlm_probability: float,
        two_views: bool = True,
        named_ids: bool = False,
    ):
        self.data = data
        self.augment = augment
        self.tokenizer = tokenizer
        self.mlm_probability = mlm_probability
        self.two_views = two_views
        self.named_ids = named_ids

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> Pair:
        """A sample's bytes by extension -> a pair; `rng` draws the caption and the views. BadSample: unusable."""
        captions = clean_captions(fields, self.data.max_words)
        content = image_bytes(fields)
        pixels = decode_image(content, max_pixels=self.data.max_pixels, min_side=self.augment.min_side)
        caption = rng.choice(captions)
        if not self.tokenizer.tokenize(caption):  # e.g. nothing but control characters
            raise BadSample(EMPTY_CAPTION)
        image_id = image_id_of(fields if self.named_ids else {}, content)
        view = self.augment(pixels, rng)
        return Pair(view, self.augment(pixels, rng) if self.two_views else None, caption, key, image_id)

    def batch(self, pairs: list[Pair], seed: int) -> Batch:
        """A batch of `pairs`, masked as `seed` says."""
        ids, mask = tokenize(self.tokenizer, [pair.caption for pair in pairs], self.data.max_tokens)
        images = Images(torch.stack([pair.view.pixels for pair in pairs]), steps=[pair.view.steps for pair in pairs])
        if self.two_views:
            images.other_view = torch.stack([pair.other_view.pixels for pair in pairs])
            images.other_steps = [pair.other_view.steps for pair in pairs]
        return Batch(
            keys=[pair.key for pair in pairs],
            inputs={"image": images, "text": Texts(ids, mask, self._masked(ids, mask, seed))},
            ids=torch.tensor([pair.image_id for pair in pairs]),
        )

    def _masked(self, ids: Tensor, mask: Tensor, seed: int) -> MaskedText | None:
        if self.mlm_probability == 0:
            return None
        return mask_tokens(
            ids,
            mask,
            probability=self.mlm_probability,
            mask_id=self.tokenizer.mask_token_id,
            vocab_size=len(self.tokenizer),
            generator=torch.Generator().manual_seed(seed),
        )


def image_id_of(fields: dict[str, bytes], content: bytes) -> int:
    """Equal for samples of the same image: from "image_id" in the sample's JSON, or else from the image's bytes.

    0 to 2^63 - 1, a hash; two images share one with a probability of about 1e-19.
    """
    named = json_of(fields).get("image_id")
    identity = content if named is None else f"image_id {named}".encode(errors="backslashreplace")
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "big") >> 1
