"""Embed images or texts into one file, for an index or a classifier of your own.

    tcl encode runs/pretrain --images photos --out photos.npy
    tcl encode runs/pretrain --shards 'data/train/*.tar' --out train.safetensors
    tcl encode runs/pretrain --shards 'data/train/*.tar' --captions --out captions.npy
    tcl encode runs/pretrain --texts captions.txt --out captions.npy

.npy is a float32 array [n, embed_dim] of unit vectors, with the ids of its rows in NAME.ids.json; .safetensors holds
both ("ids" are the bytes of the JSON list). Ids are paths below --images, <shard>/<key> of --shards (captions: #0, #1,
... besides), line numbers of --texts. What cannot be used is skipped, counted, and listed in NAME.skipped.json.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tcl.commands.model_options import add_model_options, load_model
from tcl.commands.parser import command_parser
from tcl.config.checks import require
from tcl.errors import InputError
from tcl.shown import say

if TYPE_CHECKING:
    from tcl.inference.embed_stream import EmbeddedStream


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
    options.add_argument("--workers", type=int, default=2, metavar="N", help="processes that decode (default 2)")
    return options


def main(arguments: list[str]) -> None:
    """InputError: impossible options, no model, no images or texts that can be used."""
    given = parser().parse_args(arguments)
    require(given.workers >= 0, "workers", given.workers, "0 or more")
    if given.captions and given.shards is None:
        raise InputError("captions: they are those of --shards; for a file of texts give --texts")
    from tcl.inference.embeddings_file import check_out, write_embeddings

    check_out(given.out)
    of_texts = given.captions or given.texts is not None
    embedded = embed_texts(given) if of_texts else embed_images(given)
    causes = ", ".join(f"{n:,} {cause}" for cause, n in Counter(one.cause for one in embedded.skipped).most_common())
    if not embedded.ids:
        raise InputError(f"nothing that can be used: {causes or 'there is nothing'}; give images or texts")
    listed = write_embeddings(embedded, given.out)
    rows, dim = embedded.embeddings.shape
    say(f"{given.out}: {rows:,} embeddings of {dim} numbers")
    if listed is not None:
        say(f"skipped {len(embedded.skipped):,} ({causes}); {listed} lists them")


def embed_images(given: argparse.Namespace) -> "EmbeddedStream":
    """Those of --images or --shards. InputError: no such files, no such model."""
    from tcl.data.images.read_images import images_of_folder, images_of_shards, stream_images
    from tcl.data.shards.list_shards import list_shards
    from tcl.inference.embed_stream import embed_image_stream
    from tcl.inference.embedding_model import EmbeddingModel
    from tcl.inference.images import MAX_PIXELS

    files = images_of_folder(given.images) if given.shards is None else images_of_shards(list_shards(given.shards))
    model = load_model(EmbeddingModel, given)
    batches = stream_images(
        files, model.transform, batch_size=model.batch_size, max_pixels=MAX_PIXELS, workers=given.workers
    )
    return embed_image_stream(model, batches)


def embed_texts(given: argparse.Namespace) -> "EmbeddedStream":
    """Those of --texts, or the captions of --shards. InputError: no such files, no such model."""
    from tcl.data.shards.list_shards import list_shards
    from tcl.data.texts.read_texts import texts_of_file, texts_of_shards
    from tcl.inference.embed_stream import embed_text_stream
    from tcl.inference.embedding_model import EmbeddingModel

    urls = [] if given.shards is None else list_shards(given.shards)
    model = load_model(EmbeddingModel, given)
    max_words = model.pretrained.max_words
    texts = texts_of_file(given.texts, max_words) if given.shards is None else texts_of_shards(urls, max_words)
    return embed_text_stream(model, texts)
