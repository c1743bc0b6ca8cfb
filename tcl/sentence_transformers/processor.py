"""What prepares texts, images and pairs of both for an export's networks, as transformers calls it."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from tcl.checkpoints.export_format import ExportConfig, read_config
from tcl.config.checks import require
from tcl.data.images.augment import eval_transform
from tcl.data.texts.tokenize import load_tokenizer
from tcl.errors import InputError
from tcl.exports.pretrained import folder_of
from tcl.inference.images import ImageLike, list_images, read_pixels
from tcl.inference.pairs import list_pairs
from tcl.inference.texts import list_texts, tokenize_texts

Message = dict[str, Any]
"""{"role": "query" or "document", "content": [{"type": "text", "text": ...}, {"type": "image", "image": ...}]}"""
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}:"
    "{% for part in message['content'] %} {{ part[part['type']] }}{% endfor %}\n{% endfor %}"
)
"""A query and its document as people read them. sentence-transformers gives pairs to models that have a template."""


class TCLProcessor(ProcessorMixin):
    """Texts are cleaned and cut as in training, images squeezed and normalised. InputError: what cannot be used."""

    def __init__(self, config: ExportConfig, tokenizer: PreTrainedTokenizerBase):
        """tokenizer.model_max_length, which sentence-transformers calls max_seq_length, can be lowered."""
        image = config.model.image
        self.tokenizer = tokenizer
        self.tokenizer.model_max_length = config.max_tokens
        self.chat_template = TEMPLATE
        self._config = config
        self._transform = eval_transform(image.image_size, image.mean, image.std)

    @classmethod
    def from_pretrained(cls, source: str, *, revision: str | None = None, **options: Any) -> "TCLProcessor":
        """As transformers calls it, of an export or its hub id. InputError: there is none, or it reads no texts."""
        config = read_config(folder_of(str(source), revision))
        require(config.reads_text, "source: max_tokens", config.max_tokens, "a number, of a model that reads texts")
        return cls(config, load_tokenizer(config.model.text.tokenizer))

    def save_pretrained(self, save_directory: str, **options: Any) -> list[str]:
        """Nothing: all that it knows is in the export that the model writes."""
        return []

    @classmethod
    def get_attributes(cls) -> list[str]:
        """What there is one for."""
        return ["tokenizer", "image_processor"]

    def __call__(
        self, images: Sequence[ImageLike] | None = None, text: Sequence[str] | None = None, **options: Any
    ) -> BatchFeature:
        """Texts -> input_ids and attention_mask [T, L]; images -> pixel_values [I, 3, height, width]."""
        prepared = BatchFeature()
        if text is not None:
            prepared |= self._read_texts(list_texts(text))
        if images is not None:
            prepared["pixel_values"] = read_pixels(list_images(images), self._transform, "images")
        return prepared

    def apply_chat_template(
        self, conversation: Sequence, *arguments: Any, tokenize: bool = False, **options: Any
    ) -> Any:
        """Pairs, as `sentence_transformers.CrossEncoder` hands them on: a query and a document each, one of them a text
        and the other an image -> what `TCLMatching.forward` takes. Where it is not to tokenise, what TEMPLATE makes."""
        if not tokenize:
            return super().apply_chat_template(conversation, *arguments, tokenize=False, **options)
        pairs = list_pairs(_pair(messages, f"pairs[{i}]") for i, messages in enumerate(conversation))
        texts = self._read_texts(pairs.texts)
        prepared = BatchFeature({name: rows[pairs.text_of] for name, rows in texts.items()})
        prepared["pixel_values"] = read_pixels(pairs.images, self._transform, "images")
        prepared["image_of_pair"] = pairs.image_of
        return prepared

    def _read_texts(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        most = min(self._config.max_tokens, self.tokenizer.model_max_length)
        ids, mask = tokenize_texts(texts, self.tokenizer, max_words=self._config.max_words, max_tokens=most)
        return {"input_ids": ids, "attention_mask": mask}


def _pair(messages: Sequence[Message], name: str) -> tuple[str, ImageLike]:
    """(text, image), whichever of them asks."""
    parts = [(part["type"], part[part["type"]]) for part in _parts(messages)]
    kinds = sorted(kind for kind, _ in parts)
    if kinds != ["image", "text"]:
        raise InputError(f"{name}: {' and '.join(kinds) or 'nothing'}; give a text and an image, in either order")
    found = dict(parts)
    return found["text"], found["image"]


def _parts(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        yield from message["content"]
