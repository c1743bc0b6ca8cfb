"""Image-text pairs: what the samples of shards become in pre-training and in fine-tuning on retrieval."""

import hashlib
import random
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.images.augment import Augment, View
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.masking import mask_tokens
from tcl.data.texts.sample_texts import EMPTY_CAPTION, clean_captions, json_of
from tcl.data.texts.tokenizer import tokenize


@dataclass
class Pair:
    """Two views of an image, and one of its captions, cleaned."""

    image: View
    image_aug: View
    caption: str
    key: str
    image_id: int


class PairReader:
    """Decodes pairs with two augmented views, and makes batches of them.

    mlm_probability 0 to 1: share of tokens masked. named_ids: an "image_id" in the JSON says which image a pair shows,
    else its bytes alone do, as where several sources number their images each for itself.
    """

    def __init__(
        self,
        data: DataConfig,
        augment: Augment,
        tokenizer: PreTrainedTokenizerBase,
        mlm_probability: float,
        named_ids: bool = False,
    ):
        self.data = data
        self.augment = augment
        self.tokenizer = tokenizer
        self.mlm_probability = mlm_probability
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
        return Pair(self.augment(pixels, rng), self.augment(pixels, rng), caption, key, image_id)

    def batch(self, pairs: list[Pair], seed: int) -> Batch:
        """A batch of `pairs`, masked as `seed` says."""
        input_ids, attention_mask = tokenize(self.tokenizer, [pair.caption for pair in pairs], self.data.max_tokens)
        masked = mask_tokens(
            input_ids,
            attention_mask,
            probability=self.mlm_probability,
            mask_id=self.tokenizer.mask_token_id,
            vocab_size=len(self.tokenizer),
            generator=torch.Generator().manual_seed(seed),
        )
        return Batch(
            image=torch.stack([pair.image.pixels for pair in pairs]),
            image_aug=torch.stack([pair.image_aug.pixels for pair in pairs]),
            input_ids=input_ids,
            attention_mask=attention_mask,
            masked_ids=masked.input_ids,
            mask_positions=masked.positions,
            mask_labels=masked.labels,
            keys=[pair.key for pair in pairs],
            image_ids=torch.tensor([pair.image_id for pair in pairs]),
            image_steps=[pair.image.steps for pair in pairs],
            image_aug_steps=[pair.image_aug.steps for pair in pairs],
        )


def image_id_of(fields: dict[str, bytes], content: bytes) -> int:
    """Equal for samples of the same image: from "image_id" in the sample's JSON, or else from the image's bytes.

    0 to 2^63 - 1, a hash; two images share one with a probability of about 1e-19.
    """
    named = json_of(fields).get("image_id")
    identity = content if named is None else f"image_id {named}".encode(errors="backslashreplace")
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "big") >> 1
