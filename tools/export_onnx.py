"""Write a retrieval model as ONNX graphs, checked against torch in onnxruntime.

    python tools/export_onnx.py runs/mine onnx/mine
    python tools/export_onnx.py runs/mine onnx/mine --int8 --shards 'data/val/*.tar'

OUT gets image.onnx, text.onnx and fusion.onnx (and *.int8.onnx), the tokenizer, config.json, preprocessor_config.json
and onnx_report.json: the largest differences from torch, sizes and, where shards are given, recalls.
docs/checkpoints.md says what the graphs take and give.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tcl.checkpoints.hub import load_pretrained
from tcl.checkpoints.onnx_export import GRAPHS, export_onnx, graph_file
from tcl.command_line import end_with_one_line
from tcl.config import DataConfig
from tcl.config_checks import check_at_least
from tcl.data.retrieval_set import RetrievalSet, load_retrieval_set
from tcl.errors import InputError
from tcl.evaluation.onnx_agreement import TOLERANCE, largest_differences, torch_recalls
from tcl.evaluation.onnx_retrieval import onnx_recalls
from tcl.evaluation.retrieval import check_rerank_k
from tcl.inference.onnx_towers import load_onnx

REPORT = "onnx_report.json"
SHOWN = ("i2t_r1", "t2i_r1", "rerank_i2t_r1", "rerank_t2i_r1")


@dataclass
class Report:
    """What was found of the graphs, by precision: fp32 and, where there is one, int8."""

    largest_differences: dict[str, dict[str, float]]
    """From torch, of each output."""
    megabytes: dict[str, float]
    """Of the three graphs together."""
    recalls: dict[str, dict[str, float]]
    """In percent, of torch in fp32 ("torch") and of the graphs; empty without shards."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="an export, a run's output_dir, a step_* folder, or a hub id")
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("--int8", action="store_true", help="also graphs with int8 weights")
    parser.add_argument("--shards", metavar="PATTERN", help="image-text pairs on which recalls are compared")
    parser.add_argument("--rerank_k", type=int, default=16, metavar="K", help="candidates that ITM orders (default 16)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """InputError: what the export raises, shards without use, graphs that differ from torch by more than rounding."""
    options = parse(arguments)
    check_at_least(1, {"rerank_k": options.rerank_k})
    pretrained = load_pretrained(options.source)
    data = None
    if options.shards is not None:
        data = load_retrieval_set(options.shards, max_words=pretrained.max_words, max_pixels=DataConfig.max_pixels)
        check_rerank_k(options.rerank_k, data)
    export_onnx(pretrained, options.out, int8=options.int8)
    report = Report({}, {}, {} if data is None else {"torch": torch_recalls(pretrained, data, options.rerank_k)})
    for precision in ("fp32", "int8") if options.int8 else ("fp32",):
        towers = load_onnx(options.out, int8=precision == "int8")
        report.largest_differences[precision] = largest_differences(pretrained, towers)
        report.megabytes[precision] = megabytes(options.out, int8=precision == "int8")
        if data is not None:
            report.recalls[precision] = onnx_recalls(towers, data, options.rerank_k)
    (options.out / REPORT).write_text(json.dumps(asdict(report), indent=1) + "\n")
    print_report(report, data, options.out)
    for name, largest in report.largest_differences["fp32"].items():
        if not largest <= TOLERANCE:  # NaN too
            raise InputError(
                f"{options.out}: {name} differs from torch by up to {largest:.1e}; accepted: {TOLERANCE:.0e}"
            )


def megabytes(folder: Path, *, int8: bool) -> float:
    """Size of the three graphs with their weights."""
    files = [file for name in GRAPHS for file in folder.glob(f"{graph_file(folder, name, int8=int8).name}*")]
    return sum(file.stat().st_size for file in files) / 1e6


def print_report(report: Report, data: RetrievalSet | None, out: Path) -> None:
    """A line for each precision, and a table of R@1."""
    for precision, differences in report.largest_differences.items():
        listed = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
        print(f"{precision}: {report.megabytes[precision]:.1f} MB; largest differences from torch: {listed}")
    if data is not None:
        print(f"R@1 of {len(data.images)} images x {len(data.captions)} texts, %")
        print(" " * 8 + "".join(f"{name:>15s}" for name in SHOWN))
        for name, recalls in report.recalls.items():
            print(f"  {name:6s}" + "".join(f"{recalls[shown]:15.1f}" for shown in SHOWN))
    print(f"{out}: for onnxruntime; {REPORT} has all figures")


if __name__ == "__main__":
    end_with_one_line(main)
