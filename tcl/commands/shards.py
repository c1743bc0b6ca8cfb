"""Turn image-text data into webdataset shards.

    tcl shards --from jsonl --annotations train.jsonl --images images/ --out shards/train

--from says what the annotations are:
    jsonl     a line {"image": path, "captions": [...]} or {"image": path, "caption": "..."} per sample
    json      a list [{"image": path, "caption": "..." or [...]}], as ALBEF and TCL use them; rows that name the same
              image are not merged, each is a sample
    csv       a table with a line per sample, as in
                  image,caption
                  a.jpg,"a dog, running"
              --image_column and --caption_column name other columns or, in a table without a first line of names,
              count them from 1; --delimiter another mark than a comma; rows are not merged, as in json
    tsv       the same with tabs, which csv too expects of files called .tsv
    folder    no --annotations: in --images and the folders in it, a.txt beside a.jpg; each of its lines is a caption
    coco      a COCO captions file, {"images": [...], "annotations": [...]}; one sample per image with all its captions
    karpathy  a Karpathy split file, such as dataset_coco.json; as coco, for the images of --split train,restval
and for questions about images, a sample per question:
    vqa       a line {"question_id": 1, "image": path, "question": "...", "answers": ["...", ...]} per question, or a
              list of them as ALBEF, TCL and VizWiz have it, {"data": [...]} as TextVQA, {"1": {...}} as GQA. Answers
              may be objects {"answer": "..."}, or one "answer"; images may be named by "image_id"; "question_id",
              "question_type" and "answer_type" may be missing. A list without any answers is a test split
    vqa_v2    the questions of VQA v2, with its annotations as --answers; without them, as for its test, "answers" is []
    vg_qa     question_answers.json of Visual Genome, [{"id": 1, "qas": [{"qa_id", "question", "answer"}, ...]}, ...]
and for expressions about parts of images, a sample per image:
    refcoco   a line {"image": path, "text": "...", "box": [x, y, width, height]} per expression, or a list of them,
              perhaps with "ref_id", "height" and "width" of the image, and "proposals", boxes to choose from; or a file
              of MDETR; or refer's list of references as JSON, with its instances.json as --instances, for --split
              train. --proposals: what a detector found, {"image id": [[x, y, width, height], ...]}, as dets.json.
              Without any box the samples are to train on
and for texts about images with a label, a sample per text:
    snli_ve   the lines of SNLI-VE, {"Flickr30K_ID", "sentence2", "gold_label"}, the lists of ALBEF and TCL, [{"image",
              "sentence", "label"}], or lines {"image", "hypothesis", "label"}; labels are contradiction, neutral and
              entailment. The premise ("sentence1") is left behind
    nlvr2     the lines of NLVR2, {"identifier", "sentence", "label"}, whose images lie in --images as in its archives
              (train/<directory>/train-1-0-img0.png, dev/dev-1-0-img0.png), or {"images": [left, right], "sentence",
              "label"}, a line or in a list as ALBEF and TCL have it; labels are True and False, "identifier" and
              "group" say which are right or wrong together
and for clips with sound, a sample per clip:
    clips     a line {"video": path, "audio": path, "captions": [...]} per clip, or a list of them; "image" is a still
              in place of a video, the sound may be in the video, and what is not there may be missing. A caption is a
              text or {"text": "...", "start": seconds, "end": seconds}; or "start" and "end" are lists beside the
              captions; as numbers they say which part of the video the row is about. "label", "fold" and "image_id" are
              kept. "audio" is relative to --sounds, where that is given
Paths are relative to --images; those that leave it, by links too, are skipped (give the folder that links lead to).
Absolute ones count where they lie in it, which all do with --images /. Images that vqa, vqa_v2, vg_qa, refcoco and
snli_ve name by an id have the path that --image_name makes of it. A caption that is null or blank is dropped alone. A
line may have 8 MiB, the JSON of a sample 1 MiB.

The JSON of a sample is {"captions", "image"}, plus "image_id" for coco and karpathy, or {"question", "answers",
"question_id", "image"}, plus the types, or {"captions", "caption_ids", "boxes", "proposals", "height", "width",
"image"}, or {"hypothesis", "label", "image"}, or {"sentence", "label", "identifier", "images"}, whose images are
KEY.left.* and KEY.right.*, or {"captions", "start", "end", "image_id", "label", "fold", "video", "image", "audio"}.
Images that decode are stored byte for byte, unless --max_side shrinks them, videos and sounds whose first and last
second decode. sizes.json counts the samples of each shard; report.json lists the rows that were skipped and why.

    tcl shards --tokens MODEL --shards 'shards/train/*.tar' --out shards/train_tokens

makes shards of stored image tokens out of shards: `tcl shards --tokens --help`.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tcl.annotations.make_shards import ShardsReport, make_shards
from tcl.annotations.read_rows import IMAGE_NAME_HELP, STRUCTURES, read_rows
from tcl.commands import token_shards
from tcl.commands.parse_number import parse_number
from tcl.commands.parser import command_parser
from tcl.errors import InputError
from tcl.shown import say

_COLUMNS = ("image_column", "caption_column", "delimiter")
_READING = ("structure", "annotations", "split", "answers", "instances", "proposals", "image_name", *_COLUMNS)
"""The options that say how rows are read; the others say what becomes of them."""


def parser() -> argparse.ArgumentParser:
    """What `tcl shards --help` lists."""
    options = command_parser("tcl shards", __doc__)
    options.add_argument("--from", dest="structure", choices=tuple(STRUCTURES), required=True)
    options.add_argument("--annotations", type=Path, metavar="FILE")
    options.add_argument("--split", metavar="NAMES", help="karpathy, refcoco: splits to take, as train,restval")
    options.add_argument("--answers", type=Path, metavar="FILE", help="vqa_v2: annotations of the questions")
    options.add_argument("--instances", type=Path, metavar="FILE", help="refcoco: instances.json of refer")
    options.add_argument("--proposals", type=Path, metavar="FILE", help="refcoco: boxes to choose from, by image")
    options.add_argument("--image_name", metavar="TEMPLATE", help=IMAGE_NAME_HELP)
    options.add_argument("--image_column", metavar="NAME", help="csv, tsv: column of image paths (default image)")
    options.add_argument("--caption_column", metavar="NAME", help="csv, tsv: column of captions (default caption)")
    options.add_argument("--delimiter", metavar="MARK", help="csv, tsv: what is between columns, such as ';' or tab")
    options.add_argument("--images", type=Path, required=True, metavar="DIR")
    options.add_argument("--sounds", type=Path, metavar="DIR", help="clips: folder of sounds (default --images)")
    options.add_argument("--out", type=Path, required=True, metavar="DIR")
    options.add_argument("--shard_size", type=int, metavar="N", help="samples per shard (default 1000)")
    options.add_argument("--shard_bytes", metavar="SIZE", help="instead: largest size of a shard, such as 300MB")
    options.add_argument("--max_side", type=int, metavar="PIXELS", help="shrink images whose longer side exceeds this")
    options.add_argument("--quality", type=int, default=90, help="JPEG quality of shrunk images (default 90)")
    options.add_argument("--max_pixels", default="100e6", help="larger images are skipped (default 100e6)")
    options.add_argument("--max_image_bytes", default="100e6", help="larger files are skipped (default 100e6)")
    options.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    options.add_argument("--overwrite", action="store_true", help="replace --out if it is there")
    return options


FORMS = (parser, token_shards.parser)
"""The command has two."""


def main(arguments: list[str]) -> None:
    """InputError: impossible options, and all that read_rows and make_shards raise, or `token_shards.main`."""
    if any(argument.partition("=")[0] == token_shards.TOKENS for argument in arguments):
        with _sigterm_tidies_up():
            token_shards.main(arguments)
        return
    options = vars(parser().parse_args(arguments))
    for name in ("max_pixels", "max_image_bytes", "shard_bytes"):
        if options[name] is not None:
            options[name] = parse_number(name, options[name])
    reading = {name: options.pop(name) for name in _READING} | {"images": options["images"]}
    for path in (reading[name] for name in ("annotations", "answers", "instances", "proposals")):
        if path is not None and path.resolve().is_relative_to(options["out"].resolve()):
            raise InputError(f"out: {options['out']} would replace {path}; name another folder")
    with _sigterm_tidies_up():
        print_report(make_shards(read_rows(**reading), **options))


def print_report(report: ShardsReport) -> None:
    """What was written, and how many rows were skipped for which cause."""
    say(f"{report.samples:,} samples in {report.shards:,} shards; skipped {len(report.skipped):,} rows")
    for cause, count in report.causes.items():
        say(f"{count:10,}  {cause}")
    if report.blank_captions:
        say(f"{report.blank_captions:10,}  blank captions dropped from rows that have others")


@contextlib.contextmanager
def _sigterm_tidies_up() -> Iterator[None]:
    """As Ctrl-C does: unfinished shards are removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
