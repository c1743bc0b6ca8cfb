"""Write an index of images, or of clips and sounds, that `tcl search` looks through, or bring one up to date.

    tcl index runs/pretrain --images photos --out photos.index
    tcl index runs/pretrain --shards 'data/train/*.tar' --out train.index --embeddings int8 --tokens none
    tcl index openai/clip-vit-base-patch32 --matcher Salesforce/blip-itm-base-coco --images photos --out photos.index
    tcl index runs/clips --media media --out media.index
    tcl index --info photos.index
    accelerate launch --num_processes 8 -m tcl index runs/pretrain --images photos --out photos.index

The same command again adds what is new, encodes again what has changed, and drops what is gone; stopped at any point,
it goes on. Of every image there are its embedding, the tokens that the fusion encoder looks at (where the model has
one), path, size, date, caption and a small JPEG. What cannot be read is counted, and listed in INDEX/skipped.json. With
--bank (embeddings of captions, from `tcl encode`), `tcl search --rescore` keeps images that are near to every text from
the first places. With --engine milvus the search is done by a Milvus server or cluster, or by milvus-lite in a file.
"""

import argparse
import json
import os
from pathlib import Path

from tcl.commands.model_options import add_hardware_options
from tcl.commands.parser import command_parser
from tcl.config.checks import require
from tcl.errors import InputError
from tcl.shown import say

EMBEDDINGS, TOKENS, ENGINES = ("fp32", "fp16", "int8", "codes"), ("none", "fp16", "int8"), ("faiss", "milvus")
"""Those of tcl.index.description."""


def parser() -> argparse.ArgumentParser:
    """What `tcl index --help` lists."""
    options = command_parser("tcl index", __doc__)
    options.add_argument(
        "model", metavar="MODEL", nargs="?", help="a run, one of its checkpoints, an export, or a hub id"
    )
    options.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a hub id")
    add_hardware_options(options)
    options.add_argument("--matcher", metavar="MODEL", help="another model that matches, such as a BLIP")
    source = options.add_mutually_exclusive_group()
    of_media = "a folder, with the folders in it; of a model of clips: of videos, sounds and images"
    source.add_argument("--images", "--media", dest="images", metavar="DIR", help=of_media)
    source.add_argument("--shards", metavar="PATTERN", help="shards: a glob, a brace range or a URL")
    options.add_argument("--out", type=Path, metavar="INDEX", help="a folder of its own")
    options.add_argument("--embeddings", choices=EMBEDDINGS, help="default fp16; codes of a model that has codebooks")
    options.add_argument("--tokens", choices=TOKENS, help="for matching (default int8 where the model matches)")
    options.add_argument("--bank", metavar="FILE", help="embeddings of queries, against hubs")
    options.add_argument("--bank_temperature", type=float, metavar="T", help="default 0.05")
    options.add_argument("--engine", choices=ENGINES, help="default faiss")
    options.add_argument("--uri", metavar="URI", help="of Milvus: http://host:19530, or a file.db for milvus-lite")
    options.add_argument("--workers", type=int, default=2, metavar="N", help="processes that decode (default 2)")
    options.add_argument("--info", type=Path, metavar="INDEX", help="say what is in an index, and nothing else")
    options.add_argument("--json", action="store_true", help="say it as JSON")
    return options


def main(arguments: list[str]) -> None:
    """InputError: impossible options, no model, no images, an index that is otherwise; what may happen to files."""
    given = parser().parse_args(arguments)
    if given.info is not None:
        _tell(_info(given.info), given.json)
        return
    for name in ("model", "out"):
        if getattr(given, name) is None:
            raise InputError(f"{name}: it is missing; give `tcl index MODEL --images DIR --out INDEX`, or --info INDEX")
    if given.images is None and given.shards is None:
        raise InputError("images: they are missing; give --images DIR or --shards PATTERN")
    require(given.workers >= 0, "workers", given.workers, "0 or more")
    temperature = given.bank_temperature
    require(temperature is None or 0 < temperature < 1e6, "bank_temperature", temperature, "a number > 0")
    if given.images is not None and not os.path.isdir(given.images):
        raise InputError(f"images: {given.images} is no folder; give one that holds images")
    _write(given)


def _write(given: argparse.Namespace) -> None:
    from tcl.index.share import joined, own_device
    from tcl.index.stages import open_stages
    from tcl.index.write import Wanted, write_index
    from tcl.runs.launcher import watch_launcher

    wanted = Wanted(
        images=None if given.images is None else os.path.abspath(given.images),
        shards=given.shards,
        embeddings=given.embeddings,
        tokens=given.tokens,
        bank=given.bank,
        bank_temperature=given.bank_temperature,
        engine=given.engine,
        uri=given.uri if given.uri is None or "://" in given.uri else os.path.abspath(given.uri),
    )
    watch_launcher()
    stages = open_stages(
        _lasting(given.model),
        None if given.matcher is None else _lasting(given.matcher),
        revision=given.revision,
        device=own_device(given.device),
        precision=given.precision,
        batch_size=given.batch_size,
    )
    with joined() as share:
        done = write_index(given.out, wanted, stages, share, workers=given.workers)
    if done is None:
        return
    built, info = done
    if given.json:
        _tell(info, as_json=True)
        return
    rate = f", {built.encoded / built.seconds:,.1f} a second" if built.encoded else ""
    say(f"{given.out}: {built.images:,} {stages.what} ({built.encoded:,} encoded{rate}; {built.dropped:,} dropped)")
    say(f"{info['engine']}; {info['bytes_of_an_image']:,} bytes each, {info['bytes']:,} bytes in all")
    _tell_skipped(info, given.out)


def _lasting(model: str) -> str:
    """A path that is right from any folder, or a hub id."""
    return os.path.abspath(model) if os.path.exists(model) else model


def _info(folder: Path) -> dict[str, object]:
    import contextlib

    from tcl.index.description import read_description
    from tcl.index.engine import open_engine
    from tcl.index.info import info_of
    from tcl.index.store import Store

    description = read_description(folder)
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(contextlib.closing(Store(folder, description, writable=False)))
        return info_of(store, opened.enter_context(contextlib.closing(open_engine(folder, description, store))))


def _tell(info: dict[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(info, indent=1))
        return
    for name, value in info.items():
        number = type(value) is int
        say(f"{name:20}{f'{value:,}' if number else 'none' if value in (None, {}) else value}")


def _tell_skipped(info: dict[str, object], folder: Path) -> None:
    skipped = info["skipped"]
    if skipped:
        causes = ", ".join(f"{count:,} {cause}" for cause, count in skipped.items())
        say(f"skipped {sum(skipped.values()):,} ({causes}); {folder / 'skipped.json'} lists them")
