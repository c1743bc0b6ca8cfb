"""Embed images, clips, sounds or texts into one file, for an index or a classifier of your own.

    tcl encode runs/pretrain --images photos --out photos.npy
    tcl encode runs/pretrain --shards 'data/train/*.tar' --out train.safetensors
    tcl encode runs/pretrain --shards 'data/train/*.tar' --captions --out captions.npy
    tcl encode runs/pretrain --texts captions.txt --out captions.npy
    tcl encode runs/pretrain --images photos --bank captions.npy --out photos.npy
    tcl encode runs/compressed --images photos --codes --out photos.safetensors
    tcl encode openai/clip-vit-base-patch32 --images photos --out photos.npy
    tcl encode runs/clips --clips media --out clips.npy
    tcl encode runs/clips --sounds media --to text --out sounds.npy
    tcl encode runs/clips --shards 'data/val/*.tar' --sound --out sounds.npy
    tcl encode runs/clips --texts captions.txt --to audio --out captions.npy

MODEL may also be a folder or hub id of a CLIP or SigLIP of transformers. A model of video, sound and text embeds each
to be compared with one other, --to (default: text for clips, else video): vectors of two files can be compared where
each was made for the other. --clips takes videos and images, of which a clip in the middle is seen, --sounds sounds,
and the sound of such a clip; --shards samples with either, read as an evaluation reads them.

.npy is a float32 array [n, embed_dim] of unit vectors, with the ids of its rows in NAME.ids.json; .safetensors holds
both ("ids" are the bytes of the JSON list). Ids are paths below the folder, <shard>/<key> of --shards (captions: #0,
#1, ... besides), line numbers of --texts. With --bank, queries encoded before (captions, where these are images), what
each row gets from all of them is in NAME.hubness.npy ("hubness" in safetensors), to be subtracted from its cosines: an
image that is near to every caption is no longer the first for all. With --codes, of a model of --task
compressed_retrieval, there are "codes" in place of embeddings, uint8 [n, 1 + levels, parts], with the "codebooks" that
read them. What cannot be used is skipped, counted, and listed in NAME.skipped.json.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tcl.commands.model_options import add_model_options, load_any_model
from tcl.commands.parser import command_parser
from tcl.config.checks import require
from tcl.errors import InputError
from tcl.shown import say

if TYPE_CHECKING:
    from tcl.data.feed.file_stream import Decode, Files
    from tcl.inference.embed_stream import EmbeddedStream, Keep
    from tcl.inference.embedding_model import EmbeddingModel
    from tcl.inference.load_model import Loaded
    from tcl.inference.one_space import OneSpace

    Embeds = EmbeddingModel | OneSpace
    Source = Callable[[Embeds, Keep], EmbeddedStream]

MODALITIES = ("video", "audio", "text")
"""Those of tcl.inference.clip_spaces, which imports torch."""
METHODS = ("inverted_softmax", "sinkhorn")
"""Those of tcl.search.hubness, which imports torch."""


def parser() -> argparse.ArgumentParser:
    """What `tcl encode --help` lists."""
    options = command_parser("tcl encode", __doc__)
    add_model_options(options)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="a folder, with the folders in it")
    source.add_argument("--shards", metavar="PATTERN", help="shards: a glob, a brace range or a URL")
    source.add_argument("--clips", type=Path, metavar="DIR", help="a folder of videos and images")
    source.add_argument("--sounds", type=Path, metavar="DIR", help="a folder of sounds and videos with sound")
    source.add_argument("--texts", type=Path, metavar="FILE", help="a text per line")
    of_samples = options.add_mutually_exclusive_group()
    of_samples.add_argument("--captions", action="store_true", help="with --shards: the captions, not the images")
    of_samples.add_argument("--sound", action="store_true", help="with --shards: the sounds, not the clips")
    options.add_argument("--to", choices=MODALITIES, help="of a model of clips: what they are to be compared with")
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
    if given.sound and given.shards is None:
        raise InputError("sound: it is that of --shards; for a folder give --sounds")
    if given.codes and given.bank is not None:
        raise InputError("codes: they are searched as they are; give --bank with embeddings")
    from tcl.inference.codes_file import check_codes_out, write_codes
    from tcl.inference.embed_stream import whole
    from tcl.inference.embeddings_file import check_out, read_embeddings, write_embeddings

    if given.codes:
        check_codes_out(given.out)
    check_out(given.out)
    bank = None if given.bank is None else read_embeddings(given.bank, "bank")
    embed = source_of(given)
    model = load_any_model(given)
    keep = code_maker(model, given.model) if given.codes else whole
    embeds = embeds_of(model, given)
    if bank is not None:  # before hours of work
        hubness_of(np.zeros((1, embeds.embed_dim), np.float32), bank, given)
    embedded = embed(embeds, keep)
    causes = ", ".join(f"{n:,} {cause}" for cause, n in Counter(one.cause for one in embedded.skipped).most_common())
    if not embedded.ids:
        raise InputError(f"nothing that can be used: {causes or 'there is nothing'}; give others")
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


def embeds_of(model: "Loaded", given: argparse.Namespace) -> "Embeds":
    """The model, or of a model of clips what is embedded in one of its spaces. InputError: one that does not embed what
    is given."""
    from tcl.inference.load_model import check_embeds, is_of_clips

    name = next(name for name in ("clips", "sounds", "images", "shards", "texts") if getattr(given, name) is not None)
    if is_of_clips(model):
        from tcl.inference.one_space import OneSpace

        if name == "images":
            raise InputError(
                f"{name}: {given.model} is a model of clips; give --clips, which takes images too, or --sounds"
            )
        modality = "text" if _reads_texts(given) else "audio" if given.sounds or given.sound else "video"
        return OneSpace.open(model, modality, given.to or ("text" if modality == "video" else "video"))
    for option in ("to", "clips", "sounds", "sound"):
        if getattr(given, option):
            raise InputError(
                f"{option}: {given.model} is a {type(model).__name__}, which has seen no clips; give a model of `tcl "
                f"pretrain --objective clips`"
            )
    return check_embeds(model, given.model)


def _reads_texts(given: argparse.Namespace) -> bool:
    return given.captions or given.texts is not None


def code_maker(model: "Loaded", name: str) -> "Keep":
    """Embeddings -> codes. InputError: the model has no codebooks."""
    from tcl.inference.compressed_model import TCLForCompressedRetrieval

    if not isinstance(model, TCLForCompressedRetrieval):
        raise InputError(
            f"codes: {name} is a {type(model).__name__}, without codebooks; give a model of `tcl finetune "
            f"--task compressed_retrieval`"
        )
    return model.codes_of


def source_of(given: argparse.Namespace) -> "Source":
    """What embeds all that is given. InputError: no such files."""
    if _reads_texts(given):
        return text_source(given)
    if given.shards is not None:
        return shard_source(given.shards, given.workers)
    for option in ("clips", "sounds"):
        if getattr(given, option) is not None:
            return media_source(getattr(given, option), option, given.workers)
    return image_source(given.images, given.workers)


def image_source(folder: Path, workers: int) -> "Source":
    """Those of --images. InputError: no such files."""
    from tcl.data.images.read_images import images_of_folder

    return partial(_embed_images, images_of_folder(folder), workers)


def media_source(folder: Path, option: str, workers: int) -> "Source":
    """Those of --clips or --sounds. InputError: no such files, no PyAV."""
    from tcl.inference.media import media_of_folder

    files = media_of_folder(folder, option)
    return lambda some, keep: _embed_media(files, some.reader, option, workers, some, keep)


def shard_source(pattern: str, workers: int) -> "Source":
    """What the model reads of samples: images, or clips or sounds. InputError: no such files, no PyAV."""
    from tcl.data.feed.file_stream import files_of_shards
    from tcl.data.images.read_images import images_of_shards
    from tcl.data.shards.list_shards import list_shards
    from tcl.inference.one_space import OneSpace

    urls = list_shards(pattern)

    def embed(model: "Embeds", keep: "Keep") -> "EmbeddedStream":
        if isinstance(model, OneSpace):
            files = files_of_shards(urls, dict)  # all of a sample
            return _embed_media(files, model.sample_reader, "samples", workers, model, keep)
        return _embed_images(images_of_shards(urls), workers, model, keep)

    return embed


def _embed_images(files: "Files", workers: int, model: "EmbeddingModel", keep: "Keep") -> "EmbeddedStream":
    from tcl.data.images.read_images import stream_images
    from tcl.inference.embed_stream import embed_file_stream
    from tcl.inference.images import MAX_PIXELS

    batches = stream_images(files, model.transform, batch_size=model.batch_size, max_pixels=MAX_PIXELS, workers=workers)
    return embed_file_stream(
        lambda inputs: model.embed_pixels(*inputs).numpy(), model.embed_dim, batches, "images", keep
    )


def _embed_media(
    files: "Files", reader: "Decode", what: str, workers: int, some: "OneSpace", keep: "Keep"
) -> "EmbeddedStream":
    from tcl.data.feed.file_stream import stream_files
    from tcl.inference.embed_stream import embed_file_stream

    batches = stream_files(files, reader, batch_size=some.batch_size, workers=workers)
    return embed_file_stream(some.embed_files, some.embed_dim, batches, what, keep)


def text_source(given: argparse.Namespace) -> "Source":
    """Those of --texts, or the captions of --shards. InputError: no such files."""
    from tcl.data.shards.list_shards import list_shards
    from tcl.data.texts.read_texts import texts_of_file, texts_of_shards
    from tcl.inference.embed_stream import embed_text_stream

    urls = [] if given.shards is None else list_shards(given.shards)

    def embed(model: "Embeds", keep: "Keep") -> "EmbeddedStream":
        clean = model.clean_text
        texts = texts_of_file(given.texts, clean) if given.shards is None else texts_of_shards(urls, clean)
        return embed_text_stream(model, texts, keep)

    return embed
