"""Embed images or texts into one file, for an index or a classifier of your own.

    tcl encode runs/pretrain --images photos --out photos.npy
    tcl encode runs/pretrain --shards 'data/train/*.tar' --out train.safetensors
    tcl encode runs/pretrain --shards 'data/train/*.tar' --captions --out captions.npy
    tcl encode runs/pretrain --texts captions.txt --out captions.npy
    tcl encode runs/pretrain --images photos --bank captions.npy --out photos.npy
    tcl encode runs/compressed --images photos --codes --out photos.safetensors
    tcl encode openai/clip-vit-base-patch32 --images photos --out photos.npy

MODEL may also be a folder or hub id of a CLIP or SigLIP of transformers.

.npy is a float32 array [n, embed_dim] of unit vectors, with the ids of its rows in NAME.ids.json; .safetensors holds
both ("ids" are the bytes of the JSON list). Ids are paths below --images, <shard>/<key> of --shards (captions: #0, #1,
... besides), line numbers of --texts. With --bank, queries encoded before (captions, where these are images), what each
row gets from all of them is in NAME.hubness.npy ("hubness" in safetensors), to be subtracted from its cosines: an image
that is near to every caption is no longer the first for all. With --codes, of a model of --task compressed_retrieval,
there are "codes" in place of embeddings, uint8 [n, 1 + levels, parts], with the "codebooks" that read them. What cannot
be used is skipped, counted, and listed in NAME.skipped.json.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tcl.commands.model_options import add_model_options, load_embedding_model
from tcl.commands.parser import command_parser
from tcl.config.checks import require
from tcl.errors import InputError
from tcl.shown import say

if TYPE_CHECKING:
    from tcl.inference.embed_stream import EmbeddedStream, Keep
    from tcl.inference.embedding_model import EmbeddingModel


METHODS = ("inverted_softmax", "sinkhorn")
"""Those of tcl.search.hubness, which imports torch."""


def parser() -> argparse.ArgumentParser:
    """What `tcl encode --help` lists."""
    options = command_parser("tcl encode", __doc__)
    add_model_options(options)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="a folder, with the folders in it")
    source.add_argument("--shards", metavar="PATTERN", help="shards: a glob, a brace range or a URL")
    source.add_argument("--texts", type=Path, metavar="FILE", help="a text per line")
    options.add_argument("--captions", action="store_true", help="with --shards: the captions, not the images")
    options.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .npy or .safetensors")
    options.add_argument("--codes", action="store_true", help="codes, not embeddings, into a .safetensors")
    options.add_argument("--bank", type=Path, metavar="FILE", help="embeddings of queries, against hubs")
    options.add_argument("--bank_method", choices=METHODS, default="inverted_softmax", help="default inverted_softmax")
    options.add_argument("--bank_temperature", type=float, default=0.05, metavar="T", help="default 0.05")
    options.add_argument("--bank_iterations", type=int, default=5, metavar="N", help="of sinkhorn (default 5)")
    options.add_argument("--workers", type=int, default=2, metavar="N", help="processes that decode (default 2)")
    return options


def main(arguments: list[str]) -> None:
    """InputError: impossible options, no model, a bank that cannot be used, no images or texts that can be used."""
    given = parser().parse_args(arguments)
    require(given.workers >= 0, "workers", given.workers, "0 or more")
    if given.captions and given.shards is None:
        raise InputError("captions: they are those of --shards; for a file of texts give --texts")
    if given.codes and given.bank is not None:
        raise InputError("codes: they are searched as they are; give --bank with embeddings")
    from tcl.inference.codes_file import check_codes_out, write_codes
    from tcl.inference.embed_stream import whole
    from tcl.inference.embeddings_file import check_out, read_embeddings, write_embeddings

    if given.codes:
        check_codes_out(given.out)
    check_out(given.out)
    bank = None if given.bank is None else read_embeddings(given.bank, "bank")
    embed = text_source(given) if given.captions or given.texts is not None else image_source(given)
    model = load_embedding_model(given)
    if bank is not None:  # before hours of work
        hubness_of(np.zeros((1, model.embed_dim), np.float32), bank, given)
    embedded = embed(model, code_maker(model, given.model) if given.codes else whole)
    causes = ", ".join(f"{n:,} {cause}" for cause, n in Counter(one.cause for one in embedded.skipped).most_common())
    if not embedded.ids:
        raise InputError(f"nothing that can be used: {causes or 'there is nothing'}; give images or texts")
    if bank is not None:
        embedded = replace(embedded, hubness=hubness_of(embedded.embeddings, bank, given))
    rows, size = len(embedded.embeddings), embedded.embeddings[0].size
    if given.codes:
        listed = write_codes(embedded, model.codebooks, given.out)
        say(f"{given.out}: codes of {size} bytes for each of {rows:,}; codebooks {model.codebooks_hash[:12]}")
    else:
        listed = write_embeddings(embedded, given.out)
        say(f"{given.out}: {rows:,} embeddings of {size} numbers")
    if listed is not None:
        say(f"skipped {len(embedded.skipped):,} ({causes}); {listed} lists them")


def hubness_of(embeddings: np.ndarray, bank: np.ndarray, given: argparse.Namespace) -> np.ndarray:
    """What each row of embeddings [n, embed_dim] gets from the queries of `bank`: [n]. InputError: another model's, or
    impossible numbers."""
    import torch

    from tcl.search.hubness import hubness

    features = torch.from_numpy(bank), torch.from_numpy(embeddings)
    return hubness(*features, given.bank_method, given.bank_temperature, given.bank_iterations).numpy()


def code_maker(model: "EmbeddingModel", name: str) -> "Keep":
    """Embeddings -> codes. InputError: the model has no codebooks."""
    from tcl.inference.compressed_model import TCLForCompressedRetrieval

    if not isinstance(model, TCLForCompressedRetrieval):
        raise InputError(
            f"codes: {name} is a {type(model).__name__}, without codebooks; give a model of `tcl finetune "
            f"--task compressed_retrieval`"
        )
    return model.codes_of


def image_source(given: argparse.Namespace) -> "Callable[[EmbeddingModel, Keep], EmbeddedStream]":
    """Embeds those of --images or --shards. InputError: no such files."""
    from tcl.data.images.read_images import images_of_folder, images_of_shards, stream_images
    from tcl.data.shards.list_shards import list_shards
    from tcl.inference.embed_stream import embed_image_stream
    from tcl.inference.images import MAX_PIXELS

    files = images_of_folder(given.images) if given.shards is None else images_of_shards(list_shards(given.shards))

    def embed(model: "EmbeddingModel", keep: "Keep") -> "EmbeddedStream":
        batches = stream_images(
            files, model.transform, batch_size=model.batch_size, max_pixels=MAX_PIXELS, workers=given.workers
        )
        return embed_image_stream(model, batches, keep)

    return embed


def text_source(given: argparse.Namespace) -> "Callable[[EmbeddingModel, Keep], EmbeddedStream]":
    """Embeds those of --texts, or the captions of --shards. InputError: no such files."""
    from tcl.data.shards.list_shards import list_shards
    from tcl.data.texts.read_texts import texts_of_file, texts_of_shards
    from tcl.inference.embed_stream import embed_text_stream

    urls = [] if given.shards is None else list_shards(given.shards)

    def embed(model: "EmbeddingModel", keep: "Keep") -> "EmbeddedStream":
        clean = model.clean_text
        texts = texts_of_file(given.texts, clean) if given.shards is None else texts_of_shards(urls, clean)
        return embed_text_stream(model, texts, keep)

    return embed
