"""Convert the published TCL and ALBEF checkpoints, or a BERT, into our format, and into the published names again.

    tcl convert --from tcl TCL_4M.pth exports/tcl_4m
    tcl convert --from albef ALBEF.pth exports/albef --with_teacher
    tcl convert --from hf-bert models/bert-base-uncased exports/start --config model.yaml
    tcl convert --to tcl exports/tcl_4m TCL_4M_again.pth

What became of every tensor is in <out>/conversion.json; docs/checkpoints.md has the formats.
"""

import argparse
from pathlib import Path

from tcl.commands.parser import command_parser
from tcl.config.model import ModelConfig
from tcl.errors import InputError
from tcl.exports.conversion_report import REPORT, ConversionReport
from tcl.plain_values import read_yaml
from tcl.shown import say
from tcl.typed_section import decode


def parser() -> argparse.ArgumentParser:
    """What `tcl convert --help` lists."""
    options = command_parser("tcl convert", __doc__)
    direction = options.add_mutually_exclusive_group(required=True)
    direction.add_argument("--from", dest="read", choices=("tcl", "albef", "hf-bert"), help="what SOURCE is")
    direction.add_argument("--to", dest="write", choices=("tcl",), help="what OUT becomes; SOURCE is of ours")
    options.add_argument("source", help="a .pth; hf-bert: a folder; --to: an export, run, step_* folder or hub id")
    options.add_argument("out", type=Path, help="a folder; --to: a .pth")
    options.add_argument("--tokenizer", help="hub id or folder (default bert-base-uncased; hf-bert: SOURCE)")
    options.add_argument("--image_size", type=int, metavar="PIXELS", help="interpolate positions to this size")
    options.add_argument("--image_heads", type=int, metavar="N", help="attention heads of a ViT of unusual width")
    options.add_argument("--text_heads", type=int, metavar="N", help="attention heads of a BERT of unusual width")
    options.add_argument("--with_teacher", action="store_true", help="keep momentum weights and queues")
    options.add_argument(
        "--config", type=Path, metavar="YAML", help="hf-bert: a file with a `model` section, for images"
    )
    return options


def main(arguments: list[str]) -> None:
    """InputError: options that do not go together, and all that the conversions raise."""
    options = parser().parse_args(arguments)
    refuse_useless(options)
    if options.write:
        from tcl.exports.convert_published import export_published

        count = export_published(options.source, options.out, with_teacher=options.with_teacher)
        say(f"{options.out}: {count:,} tensors under the published names")
        return
    for line in [*convert(options).lines(), f"{options.out}: an export; {REPORT} lists every tensor"]:
        say(line)


def refuse_useless(options: argparse.Namespace) -> None:
    """InputError: an option that this conversion would not heed."""
    published = {"tokenizer", "image_size", "image_heads", "text_heads", "with_teacher"}
    heeded = {"hf-bert": {"tokenizer", "config"}, None: {"with_teacher"}}.get(options.read, published)
    for name in sorted((published | {"config"}) - heeded):
        if getattr(options, name) not in (None, False):
            direction = f"--from {options.read}" if options.read else f"--to {options.write}"
            raise InputError(f"{name}: has no meaning with {direction}; accepted: {', '.join(sorted(heeded))}")


def convert(options: argparse.Namespace) -> ConversionReport:
    """--from."""
    from tcl.exports.convert_published import import_published
    from tcl.exports.import_bert import import_bert
    from tcl.exports.infer_sizes import Heads

    if options.read == "hf-bert":
        return import_bert(Path(options.source), options.out, read_model(options.config), tokenizer=options.tokenizer)
    return import_published(
        Path(options.source),
        options.out,
        tokenizer=options.tokenizer or "bert-base-uncased",
        image_size=options.image_size,
        heads=Heads(options.image_heads, options.text_heads),
        with_teacher=options.with_teacher,
    )


def read_model(path: Path | None) -> ModelConfig:
    """The `model` section of a configuration file, what it leaves out at its default. InputError: unknown fields."""
    if path is None:
        return ModelConfig()
    said = read_yaml(path, "config")
    if not isinstance(said, dict) or "model" not in said:
        raise InputError(f"config: {path} has no `model` section")
    return decode(ModelConfig, said["model"], str(path), {}, "model.")
