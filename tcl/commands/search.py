"""Search an index that `tcl index` wrote: by a text, by an image, or by both; one of clips and sounds by these, too.

    tcl search photos.index "a dog on a mat"
    tcl search photos.index --image dog.jpg -k 5
    tcl search photos.index "the same at night" --image dog.jpg --json
    tcl search media.index --like bark.wav
    tcl search photos.index "a dog on a mat" --rescore --folder holiday/2021 --since 2021-05-01 --until 2021-06-30

prints a line for each image, best first: the probability that the text belongs to it (where the index keeps tokens),
its cosine, its path.
"""

import argparse
import json
from pathlib import Path

from tcl.commands.model_options import add_hardware_options
from tcl.commands.parser import command_parser
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl search --help` lists."""
    options = command_parser("tcl search", __doc__)
    options.add_argument("index", type=Path, metavar="INDEX", help="a folder that `tcl index` wrote")
    options.add_argument("text", nargs="?", metavar="TEXT", help="what is to be seen")
    options.add_argument("--image", "--like", dest="image", metavar="FILE", help="what is to be like it")
    options.add_argument("-k", type=int, metavar="N", help="how many (default 10)")
    options.add_argument("--rerank", type=int, default=64, metavar="N", help="how many to match (default 64; 0: none)")
    options.add_argument("--rescore", action="store_true", help="against hubs, by the bank of the index")
    options.add_argument("--folder", metavar="DIR", help="only images below it, as their paths in the index are")
    options.add_argument("--since", metavar="DATE", help="only images taken then or later: 2021-05-30")
    options.add_argument("--until", metavar="DATE", help="only images taken then or earlier")
    options.add_argument("--json", action="store_true", help='a list of {"id", "path", "similarity", "match"} instead')
    options.add_argument("--model", metavar="MODEL", help="where the model of the index is now, if it has moved")
    options.add_argument("--matcher", metavar="MODEL", help="the same of another model that matches")
    add_hardware_options(options)
    return options


def main(arguments: list[str]) -> None:
    """InputError: no index, no model, a query that cannot be used."""
    given = parser().parse_args(arguments)
    from tcl.index.index import Index

    running = {"device": given.device, "precision": given.precision, "batch_size": given.batch_size}
    with Index.open(given.index, given.model, given.matcher, **running) as index:
        hits = index.search(
            given.text,
            given.image,
            given.k,
            rerank=given.rerank,
            rescore=given.rescore,
            folder=given.folder,
            since=given.since,
            until=given.until,
        )
        pending = index.pending
    if given.json:
        found = [{"id": hit.id, "path": hit.path, "similarity": hit.similarity, "match": hit.match} for hit in hits]
        print(json.dumps(found, indent=1))
        return
    for hit in hits:
        match = "" if hit.match is None else f"{hit.match:.3f}  "
        say(f"{match}{hit.similarity:+.3f}  {hit.path}")
    if pending:
        say(f"{pending:,} images cannot be found yet: `tcl index` was stopped; run it again")
