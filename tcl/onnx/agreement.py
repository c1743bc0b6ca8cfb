"""How near ONNX graphs come to the torch model that they were made from: in their outputs, and in recall."""

from collections import defaultdict
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from tcl.config.data import DataConfig
from tcl.config.retrieval_eval import EvalConfig
from tcl.data.images.augment import eval_transform
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.data.texts.tokenize import tokenize
from tcl.data.tokens.stored_tokens import restore_tokens, store_tokens
from tcl.evaluation.decoded_images import decoded_batches
from tcl.evaluation.evaluate_retrieval import evaluate_retrieval
from tcl.exports.pretrained import Pretrained
from tcl.onnx.graphs import SIZES, graphs_of, random_texts
from tcl.onnx.towers import OnnxTowers

TOLERANCE = 1e-4
"""Largest difference of an fp32 output that is rounding."""


@torch.no_grad()
def largest_differences(pretrained: Pretrained, towers: OnnxTowers) -> dict[str, float]:
    """Of each output of the graphs, by its name, on random pixels and texts of `SIZES`, padding included.

    NaN where either side is. `pretrained` is on the CPU. The pair scorer is given torch's tokens, so that no error
    counts twice; stored_itm_logits, where there is a graph of stored tokens, are compared with those of the restored.
    """
    graphs, differences = graphs_of(pretrained.student), defaultdict(list)
    for pairs, longest in SIZES:
        pixels = _random_pixels(pretrained, pairs)
        ids, mask = random_texts(pretrained, pairs, longest)
        image_tokens, image_embedding = graphs.image(pixels)
        text_tokens, text_embedding = graphs.text(ids, mask)
        found_images, found_texts = towers.encode_images(pixels.numpy()), towers.encode_texts(ids.numpy(), mask.numpy())
        logits = towers.match(image_tokens.numpy(), text_tokens.numpy(), mask.numpy())
        for name, expected, found in (
            ("image_tokens", image_tokens, found_images[0]),
            ("image_embedding", image_embedding, found_images[1]),
            ("text_tokens", text_tokens, found_texts[0]),
            ("text_embedding", text_embedding, found_texts[1]),
            ("itm_logits", graphs.fusion(image_tokens, text_tokens, mask), logits),
        ):
            differences[name].append((torch.from_numpy(found) - expected).abs().max())
        if towers.storage is not None:
            stored = store_tokens(image_tokens, towers.storage)
            found = torch.from_numpy(towers.match_stored(stored, text_tokens.numpy(), mask.numpy()))
            expected = graphs.fusion(restore_tokens(stored), text_tokens, mask)
            differences["stored_itm_logits"].append((found - expected).abs().max())
    return {name: float(torch.stack(each).max()) for name, each in differences.items()}


def torch_recalls(pretrained: Pretrained, data: RetrievalSet, rerank_k: int) -> dict[str, float]:
    """As `tcl.onnx.graph_retrieval.onnx_recalls`, by torch in fp32. `pretrained` is on the CPU."""
    image, side = pretrained.student.encoders.image_encoder, pretrained.model.image.image_size
    transform = eval_transform(side, image.mean, image.std)
    return evaluate_retrieval(
        Accelerator(cpu=True, mixed_precision="no"),
        pretrained.student,
        data,
        partial(decoded_batches, data.images, transform=transform, max_pixels=DataConfig.max_pixels, workers=0),
        partial(tokenize, pretrained.tokenizer, max_tokens=pretrained.max_tokens),
        config=EvalConfig(rerank_k=rerank_k),
    ).metrics


def _random_pixels(pretrained: Pretrained, pairs: int) -> Tensor:
    """[pairs, 3, H, W]."""
    generator, side = torch.Generator().manual_seed(pairs), pretrained.model.image.image_size
    return torch.randn(pairs, 3, side, side, generator=generator)
