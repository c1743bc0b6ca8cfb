"""A loaded TCL: embeddings, matching, retrieval, masked words, and why and where an image matches a text."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcl.data.texts.tokenize import words_of
from tcl.data.tokens.stored_tokens import Storage, store_tokens
from tcl.data.tokens.token_file import TokenFile, TokenWriter, open_tokens
from tcl.errors import InputError
from tcl.evaluation.box_choice import locate
from tcl.evaluation.text_maps import Mode, text_maps, watched
from tcl.inference.embed import PASS_TOKENS, Embedded
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.fill_mask import Guess, fill_masks, tokenize_masked
from tcl.inference.grounded_text import GroundedText, list_boxes
from tcl.inference.heat_map import HeatMap, fusion_layer, grad_cam
from tcl.inference.images import ImageLike, list_images, read_image
from tcl.inference.match import match_one_to_one, match_probabilities, match_several, read_all_texts
from tcl.inference.texts import list_texts
from tcl.models.token_maker import token_maker_hash
from tcl.search.match_stored import match_stored
from tcl.search.pair_scores import MatchPairs, image_by_image


class TCL(EmbeddingModel):
    """A pre-trained or retrieval model, ready to use; `docs/python.md` shows every method."""

    def match(self, images: ImageLike | Iterable[ImageLike], texts: str | Iterable[str]) -> np.ndarray:
        """Does each text belong to its image? Probabilities float32 [n], 0 to 1, of n pairs.

        One text is paired with each of n images, and one image with each of n texts. InputError: not as many texts as
        images, and neither of them is one.
        """
        images, texts = list_images(images), list_texts(texts)
        if len(images) == 1 < len(texts):
            return self.match_grid(images, texts)[0]
        if len(texts) not in (1, len(images)):
            raise InputError(
                f"texts: {len(texts)} for {len(images)} images; give one for each, or one for all, or use match_grid "
                f"for all pairs"
            )
        ids, mask = (tensor.expand(len(images), -1) for tensor in self._tokenize(texts))
        return match_probabilities(
            match_one_to_one(self.student, self._encode(images), ids, mask, self.hardware)
        ).numpy()

    def match_grid(self, images: ImageLike | Iterable[ImageLike], texts: str | Iterable[str]) -> np.ndarray:
        """Does any of the texts belong to any of the images? Probabilities float32 [images, texts], 0 to 1."""
        images, texts = list_images(images), list_texts(texts)
        logits = self._match_several(self._encode(images), texts, [torch.arange(len(texts))] * len(images))
        return match_probabilities(torch.stack(list(logits))).numpy()

    def fill_mask(self, image: ImageLike, text: str, k: int = 5) -> list[list[Guess]]:
        """What may stand in place of each [MASK] of a text about an image, e.g. "a red [MASK] on the left".

        For each of them the k (1 to the vocabulary) most probable tokens, best first, with their probabilities.
        InputError: no [MASK], a longer text than the model reads, weights without an MLM head.
        """
        if "encoders.mlm_head." in self.pretrained.lacks:
            raise InputError("fill_mask: this model was loaded without the MLM head; load a pre-trained one")
        ids, masks = tokenize_masked(text, self.pretrained.tokenizer, self.pretrained.max_tokens)
        tokens, probabilities = fill_masks(
            self.student.encoders, self._encode(list_images([image], "image"), "image"), ids, masks, k, self.hardware
        )
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
        ids, mask = self._tokenize(list_texts([text], "text"), "text")
        unknown = self.pretrained.tokenizer.unk_token_id
        if unknown is not None and (ids[0, 1:] == unknown).all():
            raise InputError(f"text: {text!r} has no word that the model knows; give others")
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

    def store_tokens(
        self, images: ImageLike | Iterable[ImageLike], path: str | Path, *, storage: Storage = "int8"
    ) -> Embedded:
        """Write what the fusion encoder looks at in n images into the file `path`, in fp16 or int8 (with a scale for
        each token); returns them with their embeddings, as a corpus that `retrieve` never encodes again.

        N tokens an image: model.fusion.image_tokens, or all of them; int8 takes N x (width + 4) bytes. They are written
        as they come. InputError: no storage of that name, a file that cannot be written.
        """
        if storage not in get_args(Storage):
            raise InputError(f"storage: {storage!r} is not possible; accepted: {', '.join(get_args(Storage))}")
        listed, encoders = list_images(images), self.student.encoders
        features = []
        with TokenWriter(path, self.token_maker) as out, torch.no_grad():
            for tokens in self._encode(listed):
                with self.hardware.autocast():
                    features.append(encoders.project_image(tokens[:, 0]).cpu())
                    compressed = encoders.fusion_encoder.compress(tokens)
                out.append(store_tokens(compressed.float(), storage))
        return Embedded("images", listed, torch.cat(features).numpy(), stored=self.open_tokens(path))

    def open_tokens(self, path: str | Path) -> TokenFile:
        """Tokens that `store_tokens` of this model wrote; they stay on the disk until they are matched.

        InputError: no such file, a damaged one, or one of another model: another image encoder or compression. A fusion
        encoder that was trained on above them reads the same.
        """
        return open_tokens(path, self.token_maker)

    def match_stored(
        self, tokens: TokenFile | str | Path, texts: str | Iterable[str], images: Iterable[int] | None = None
    ) -> np.ndarray:
        """As `match_grid`, of stored images: probabilities float32 [images, texts], 0 to 1.

        tokens: a file, or what `open_tokens` gave. images: their places in it; None: all. InputError: as `open_tokens`,
        a place that is not there.
        """
        stored, listed = self.open_tokens(tokens.path if isinstance(tokens, TokenFile) else tokens), list_texts(texts)
        rows = torch.tensor(list(range(len(stored)) if images is None else images), dtype=torch.int64)
        if not len(rows):
            raise InputError("images: there are none; give at least one place")
        pairs = torch.cartesian_prod(torch.arange(len(rows)), torch.arange(len(listed)))
        logits = self._match_stored(stored, listed, rows[pairs[:, 0]], pairs[:, 1])
        return match_probabilities(logits).unflatten(0, (len(rows), len(listed))).numpy()

    @cached_property
    def token_maker(self) -> str:
        """Hash of what makes the tokens of images, which files of them know."""
        return token_maker_hash(self.student.encoders)

    def _second_stage(self, images: Embedded, texts: Embedded) -> MatchPairs:
        """ITM, from stored tokens where there are any, else image by image; tokens that were kept are not encoded
        again."""

        def match(
            image_numbers: Sequence[int], text_numbers: Sequence[int], texts_of_image: Sequence[Tensor]
        ) -> Iterator[Tensor]:
            kept = [images.tokens[i].to(self.hardware.device)[None] for i in image_numbers if i < len(images.tokens)]
            others = [images.items[i] for i in image_numbers[len(kept) :]]
            encoded = chain(kept, self._encode(others))
            return self._match_several(encoded, [texts.items[i] for i in text_numbers], texts_of_image)

        def match_from_disk(image_numbers: Tensor, text_numbers: Tensor) -> Tensor:
            asked, of_text = text_numbers.unique(return_inverse=True)
            named = [texts.items[i] for i in asked.tolist()]
            return self._match_stored(images.stored, named, image_numbers, of_text)[:, 1]

        return partial(image_by_image, match=match) if images.stored is None else match_from_disk

    def _match_several(
        self, encoded: Iterable[Tensor], texts: Sequence[str], texts_of_image: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        """ITM logits [R, 2] of each image (tokens, in batches) with its own of `texts` (indices [R])."""
        states = read_all_texts(self.student, *self._tokenize(texts), self.hardware)
        texts_of_image = [some.to(self.hardware.device) for some in texts_of_image]
        return match_several(self.student, encoded, texts_of_image, states, self.hardware)

    def _match_stored(self, stored: TokenFile, texts: Sequence[str], images: Tensor, of_texts: Tensor) -> Tensor:
        """ITM logits [P, 2], on the host, of pairs: `stored` images [P] and `texts` (indices [P]), image by image."""
        student = self.student
        return match_stored(
            student.encoders.fusion_encoder,
            student.itm_head,
            stored,
            read_all_texts(student, *self._tokenize(texts), self.hardware),
            images,
            of_texts,
            pass_tokens=PASS_TOKENS,
            autocast=self.hardware.autocast,
        ).cpu()
