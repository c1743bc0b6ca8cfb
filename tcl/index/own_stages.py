"""The stages of a model that was trained here: a TCL, whose image encoder runs once for both, or two towers. Tokens are
those that the fusion encoder looks at, compressed where the model compresses them."""

import hashlib
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tcl.errors import InputError
from tcl.inference.compressed_model import TCLForCompressedRetrieval
from tcl.inference.embed import PASS_TOKENS
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.images import ImageLike
from tcl.inference.match import read_all_texts
from tcl.inference.tcl_model import TCL
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.models.activation_memory import seen_tokens
from tcl.search.match_pairs import itm_logits


class OwnStages:
    """As tcl.index.stages.Stages says."""

    def __init__(self, model: EmbeddingModel, source: str):
        self.model, self.source = model, source
        encoders = model.student.encoders
        self.fingerprint = weights_hash(model.student)
        self.width = encoders.embedding_size
        self.token_shape, self.codebooks = None, None
        if isinstance(model, TCL):
            tokens = seen_tokens(encoders.fusion_encoder, encoders.image_encoder)
            self.token_shape = (tokens, encoders.image_encoder.width)
        if isinstance(model, TCLForCompressedRetrieval):
            _, _, words, size = model.codebooks.shape
            self.codebooks = model.codebooks.reshape(-1, words, size)
        self.batch_size = model.batch_size
        self.prepare = partial(_prepare, model.transform)

    @torch.no_grad()
    def encode(self, pixels: tuple[Tensor, ...], *, tokens: bool) -> tuple[np.ndarray, Tensor | None]:
        """As Stages.encode."""
        encoders, hardware = self.model.student.encoders, self.model.hardware
        with hardware.autocast():
            found = encoders.image_encoder(pixels[0].to(hardware.device))
            embeddings = encoders.embed_images(found).float().cpu().numpy()
            kept = encoders.fusion_encoder.compress(found).float().cpu() if tokens else None
        return embeddings, kept

    def embed_text(self, text: str) -> np.ndarray:
        """As Stages.embed_text."""
        self._ids_of(text)
        return self.model.encode_text(text)[0]

    def embed_image(self, image: ImageLike) -> np.ndarray:
        """As Stages.embed_image."""
        return self.model.encode_image(image)[0]

    @torch.no_grad()
    def match(self, tokens: Tensor, text: str) -> Tensor:
        """As Stages.match: the text is read once, and images go together."""
        student, hardware = self.model.student, self.model.hardware
        fusion = student.encoders.fusion_encoder
        states = read_all_texts(student, *self._ids_of(text), hardware)
        read, mask = states.get(torch.zeros(1, dtype=torch.long, device=hardware.device))
        found = []
        for some in tokens.split(max(1, PASS_TOKENS // (tokens.shape[1] + read.shape[1]))):
            with hardware.autocast():
                images = fusion.keys_values(some.to(hardware.device))
                matched = fusion.match(read.expand(len(some), -1, -1), mask.expand(len(some), -1), images)
                logits = itm_logits(student.itm_head, matched)
            found.append((logits[:, 1] - logits[:, 0]).cpu())
        return torch.cat(found)

    def _ids_of(self, text: str) -> tuple[Tensor, Tensor]:
        """InputError: no word that the tokenizer knows."""
        known = self.model.pretrained
        sizes = {"max_words": known.max_words, "max_tokens": known.max_tokens}
        ids, mask = tokenize_texts(list_texts([text], "text"), known.tokenizer, name="text", **sizes)
        if all(one == known.tokenizer.unk_token_id for one in ids[0, 1:].tolist()):
            raise InputError(f"text: {text!r} has no word that this model knows; give others")
        return ids, mask


def weights_hash(module: nn.Module) -> str:
    """Of names, shapes and values: 32 hexadecimal digits, the same on every machine."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def _prepare(transform: Callable[[np.ndarray], Tensor], rgb: np.ndarray) -> tuple[Tensor, ...]:
    return (transform(rgb),)
