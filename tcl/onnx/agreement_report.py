"""What became of a model that was written as ONNX graphs: differences from torch, sizes, recalls."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.errors import InputError
from tcl.exports.pretrained import Pretrained
from tcl.onnx.agreement import TOLERANCE, largest_differences, torch_recalls
from tcl.onnx.class_graph import class_differences, load_classifier
from tcl.onnx.export_graphs import ALL, graph_file
from tcl.onnx.graph_retrieval import onnx_recalls
from tcl.onnx.towers import load_onnx
from tcl.shown import say

REPORT = "onnx_report.json"
SHOWN = ("i2t_r1", "t2i_r1", "rerank_i2t_r1", "rerank_t2i_r1")


@dataclass
class AgreementReport:
    """What was found of the graphs, by precision: fp32 and, where there is one, int8."""

    largest_differences: dict[str, dict[str, float]]
    """From torch, of each output."""
    megabytes: dict[str, float]
    """Of all graphs together."""
    recalls: dict[str, dict[str, float]]
    """In percent, of torch in fp32 ("torch") and of the graphs; empty without shards."""


def report_onnx(pretrained: Pretrained, out: Path, *, int8: bool, data: RetrievalSet | None, rerank_k: int) -> None:
    """Compare the graphs in `out` with `pretrained`, from which they were made; print it and write it beside them.

    data: pairs on which recalls of a retrieval model are compared, of rerank_k candidates. InputError: an fp32 output
    differs from torch by more than rounding.
    """
    report = AgreementReport({}, {}, {} if data is None else {"torch": torch_recalls(pretrained, data, rerank_k)})
    for precision in ("fp32", "int8") if int8 else ("fp32",):
        quantised = precision == "int8"
        report.megabytes[precision] = megabytes(out, int8=quantised)
        if pretrained.kind.graph is not None:
            found = class_differences(pretrained, load_classifier(out, int8=quantised))
            report.largest_differences[precision] = found
            continue
        towers = load_onnx(out, int8=quantised)
        report.largest_differences[precision] = largest_differences(pretrained, towers)
        if data is not None:
            report.recalls[precision] = onnx_recalls(towers, data, rerank_k)
    (out / REPORT).write_text(json.dumps(asdict(report), indent=1) + "\n")
    print_report(report, data, out)
    for name, largest in report.largest_differences["fp32"].items():
        if not largest <= TOLERANCE:  # NaN too
            raise InputError(f"{out}: {name} differs from torch by up to {largest:.1e}; accepted: {TOLERANCE:.0e}")


def megabytes(folder: Path, *, int8: bool) -> float:
    """Size of all graphs with their weights."""
    files = [file for name in ALL for file in folder.glob(f"{graph_file(folder, name, int8=int8).name}*")]
    return sum(file.stat().st_size for file in files) / 1e6


def print_report(report: AgreementReport, data: RetrievalSet | None, out: Path) -> None:
    """A line for each precision, and a table of R@1."""
    for precision, differences in report.largest_differences.items():
        listed = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
        say(f"{precision}: {report.megabytes[precision]:.1f} MB; largest differences from torch: {listed}")
    if data is not None:
        say(f"R@1 of {len(data.images)} images x {len(data.captions)} texts, %")
        say(" " * 8 + "".join(f"{name:>15s}" for name in SHOWN))
        for name, recalls in report.recalls.items():
            say(f"  {name:6s}" + "".join(f"{recalls[shown]:15.1f}" for shown in SHOWN))
    say(f"{out}: for onnxruntime; {REPORT} has all figures")
