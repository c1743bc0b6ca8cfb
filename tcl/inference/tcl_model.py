"""A loaded TCL: embeddings, matching, retrieval, masked words, and why and where an image matches a text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcl.data.texts.tokenize import words_of
from tcl.errors import InputError
from tcl.evaluation.box_choice import locate
from tcl.evaluation.text_maps import Mode, text_maps, watched
from tcl.inference.embedding_model import Taken
from tcl.inference.fill_mask import Guess, fill_masks, tokenize_masked
from tcl.inference.grounded_text import GroundedText, list_boxes
from tcl.inference.heat_map import HeatMap, fusion_layer, grad_cam
from tcl.inference.images import ImageLike, list_images, read_image
from tcl.inference.match import JointEncoder, match_several
from tcl.inference.matcher import Matcher
from tcl.inference.own_towers import OwnTowers
from tcl.inference.texts import list_texts
from tcl.models.activation_memory import seen_tokens
from tcl.models.token_maker import token_maker_hash
from tcl.search.match_pairs import TextStates


class TCL(OwnTowers, Matcher):
    """A pre-trained or retrieval model, ready to use; `docs/python.md` shows every method."""

    @property
    def _matcher(self) -> Matcher:
        """Itself."""
        return self

    @property
    def _joint(self) -> JointEncoder:
        """Text encoder, fusion encoder and ITM head."""
        encoders = self.student.encoders
        return JointEncoder(encoders.text_encoder, encoders.fusion_encoder, self.student.itm_head)

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """As `Matcher.image_tokens`."""
        return self.student.encoders.image_encoder(pixels)

    @cached_property
    def token_maker(self) -> str:
        """As `Matcher.token_maker`. A fusion encoder that was trained on above the same image encoder and compression
        reads the same tokens."""
        return token_maker_hash(self.student.encoders)

    @property
    def token_shape(self) -> tuple[int, int]:
        """As `Matcher.token_shape`."""
        encoders = self.student.encoders
        return seen_tokens(encoders.fusion_encoder, encoders.image_encoder), encoders.image_encoder.width

    def match_tokens(
        self, batches: Iterable[Tensor], states: TextStates, texts_of_image: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        """As `Matcher.match_tokens`; equal images get equal logits, whichever batch they are in."""
        return match_several(self._joint, batches, texts_of_image, states, self.hardware)

    def _embed_for(
        self, matcher: Matcher, images: list[ImageLike], take: Callable[[Iterator[Tensor]], Taken]
    ) -> tuple[np.ndarray, Taken]:
        """As `EmbeddingModel._embed_for`; for its own second stage every image is encoded once."""
        if matcher is not self:
            return super()._embed_for(matcher, images, take)
        features = []

        def batches() -> Iterator[Tensor]:
            for tokens in self.encode_tokens(images):
                features.append(self.embed_tokens(tokens))
                yield tokens

        encoded = batches()
        taken = take(encoded)
        for _ in encoded:  # what was left
            pass
        return torch.cat(features).numpy(), taken

    def fill_mask(self, image: ImageLike, text: str, k: int = 5) -> list[list[Guess]]:
        """What may stand in place of each [MASK] of a text about an image, e.g. "a red [MASK] on the left".

        For each of them the k (1 to the vocabulary) most probable tokens, best first, with their probabilities.
        InputError: no [MASK], a longer text than the model reads, weights without an MLM head.
        """
        if "encoders.mlm_head." in self.pretrained.lacks:
            raise InputError("fill_mask: this model was loaded without the MLM head; load a pre-trained one")
        ids, masks = tokenize_masked(text, self.pretrained.tokenizer, self.pretrained.max_tokens)
        encoded = self.encode_tokens(list_images([image], "image"), "image")
        tokens, probabilities = fill_masks(self.student.encoders, encoded, ids, masks, k, self.hardware)
        tokenizer = self.pretrained.tokenizer
        return [
            [Guess(word, p) for word, p in zip(words_of(tokenizer, row), of_row, strict=True)]
            for row, of_row in zip(tokens.tolist(), probabilities.tolist(), strict=True)
        ]

    def explain(self, image: ImageLike, text: str, *, layer: int | None = None) -> HeatMap:
        """Where in the image its match with the text comes from: Grad-CAM of the ITM logit, in fp32.

        layer: of the fusion encoder, from 0; None: the third of six, as published. The heat map has a map [rows,
        columns] >= 0 of patches for the text and for each of its tokens; its `save` writes the overlay as a PNG.
        InputError: no such layer.
        """
        layer = fusion_layer(len(self.student.encoders.fusion_encoder.layers), layer)
        ids, _ = self._tokenize(list_texts([text], "text"), "text")
        (image,) = list_images([image], "image")
        shown = read_image(image, "image")
        with torch.no_grad():
            tokens = self.student.encoders.image_encoder(self.transform(shown)[None].to(self.hardware.device))
        contributions = grad_cam(self.student, tokens, ids.to(self.hardware.device), layer)
        maps = contributions.unflatten(1, self.student.encoders.image_encoder.grid).cpu().numpy()
        words = words_of(self.pretrained.tokenizer, ids[0, 1:].tolist())
        return HeatMap(Image.fromarray(shown), words, maps[1:], maps[0])

    def ground(
        self,
        image: ImageLike,
        text: str,
        boxes: Iterable | None = None,
        *,
        mode: Mode = "itm",
        layer: int | None = None,
    ) -> GroundedText:
        """Where in the image is what the text means: by Grad-CAM, in fp32, as in the task grounding.

        boxes: [x, y, width, height] in pixels of the image, from which one is chosen; None: the best rectangle of whole
        patches. mode: itm looks through the fusion encoder, itc through the image encoder; layer: of these, from 0;
        None: as published. InputError: a text of no word that the model knows, a box of no area or outside of the
        image, no such layer, an image encoder that itc cannot look into.
        """
        where = watched(self.student, mode, layer)
        if not self.knows(text):
            raise InputError(f"text: {text!r} has no word that the model knows; give others")
        ids, mask = self._tokenize(list_texts([text], "text"), "text")
        (image,) = list_images([image], "image")
        shown = read_image(image, "image")
        height, width, _ = shown.shape
        listed = () if boxes is None else list_boxes(boxes, height, width)
        inputs = self.transform(shown)[None], ids, mask, torch.zeros(1, dtype=torch.int64)
        inputs = (tensor.to(self.hardware.device) for tensor in inputs)
        heat = text_maps(self.student, where, *inputs, autocast=nullcontext)[0].cpu()
        found = locate(heat, height, width, listed)
        return GroundedText(
            Image.fromarray(shown), found.box, found.proposal, found.score, found.point, found.blank, heat.numpy()
        )
