"""What loaded classifiers of texts about images compute."""

from collections.abc import Iterable

import torch
from torch import Tensor
from tqdm import tqdm

from tcl.errors import InputError
from tcl.inference.images import ImageLike, list_images, read_pixels
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.shown import QUIET_SECONDS


@torch.no_grad()
def statement_logits(
    model: LoadedModel, images: dict[str, ImageLike | Iterable[ImageLike]], text: str | Iterable[str]
) -> Tensor:
    """Logits [T, classes] of T texts, fp32, on the host, by a `model` whose networks are a FusedClassifier.

    images: by the name of each image of a text, one for all texts, or as many as there are. InputError: neither, and
    what cannot be used.
    """
    texts = list_texts(text, "text")
    listed = {name: list_images(given, name) for name, given in images.items()}
    for name, some in listed.items():
        if len(some) not in (1, len(texts)):
            raise InputError(f"{name}: {len(some)} for {len(texts)} texts; give one for all, or one for each")
    known, device = model.pretrained, model.hardware.device
    ids, mask = tokenize_texts(
        texts, known.tokenizer, max_words=known.max_words, max_tokens=known.max_tokens, name="text"
    )
    logits = []
    starts = range(0, len(texts), model.batch_size)
    for start in tqdm(starts, desc="classifying", unit="batch", leave=False, delay=QUIET_SECONDS, disable=None):
        some = slice(start, start + model.batch_size)
        count = len(ids[some])
        views, places = [], []
        for name, every in listed.items():
            for_all = len(every) == 1
            pixels = read_pixels(every if for_all else every[some], model.transform, name, 0 if for_all else start)
            first = sum(map(len, views))
            places.append(torch.full((count,), first) if for_all else torch.arange(first, first + count))
            views.append(pixels)
        inputs = torch.cat(views), ids[some], mask[some], torch.stack(places, dim=1)
        with model.hardware.autocast():
            logits.append(model.student.networks.logits(*(tensor.to(device) for tensor in inputs)).float().cpu())
    return torch.cat(logits)
