"""Imports run downwards: no folder of tcl/ imports from one that stands above it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "tcl"
ORDER = (
    *("presets", "config", "losses", "data", "encoders", "models", "foreign", "objectives", "search", "evaluation"),
    *("runs", "checkpoints", "tasks", "exports", "inference", "sentence_transformers", "onnx", "training"),
    *("annotations", "index", "serve", "commands"),
)
"""The folders, from below to above; files that lie in tcl/ itself are below them all."""
ENTRANCES = ("__init__.py", "__main__.py")
"""Of tcl/ itself, where people come in."""


def upward(package: Path) -> set[tuple[str, str]]:
    """(file, folder above it that it imports from), in whichever line of it, for types or when it runs."""
    found = set()
    for path in package.rglob("*.py"):
        file = path.relative_to(package)
        if str(file) not in ENTRANCES:
            named = imported(ast.parse(path.read_text(encoding="utf-8")), file)
            found |= {(str(file), folder) for folder in named if height(folder) > height(file.parts[0])}
    return found


def height(folder: str) -> int:
    return ORDER.index(folder) if folder in ORDER else -1


def imported(tree: ast.AST, file: Path) -> Iterator[str]:
    """Of each import of the package, and of each string that names a module of it, the part after `tcl.`."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are written out from tcl on"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = re.findall(r"\Atcl\.[\w.]+\Z", node.value)
        yield from (name.split(".")[1] for name in names if name.startswith("tcl."))


def test_every_folder_has_its_place():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ORDER)


def test_imports_run_downwards():
    arrows = "\n".join(f"tcl/{file} imports from tcl/{folder}/" for file, folder in sorted(upward(PACKAGE)))
    assert not arrows, f"upwards:\n{arrows}"


def test_an_import_is_seen_wherever_it_stands(tmp_path):
    for folder in ("data", "models"):
        (tmp_path / folder).mkdir()
    (tmp_path / "__init__.py").write_text("import tcl.commands.main")
    (tmp_path / "shown.py").write_text("import os, tcl.data.batch")
    (tmp_path / "data" / "a.py").write_text("def f():\n    from tcl.models import queue\n    import tcl.errors")
    (tmp_path / "data" / "b.py").write_text('"""See tcl.tasks."""\nNAME = "tcl.tasks.vqa"\nM = f"tcl.runs.{NAME}"')
    (tmp_path / "models" / "c.py").write_text("from tcl.data.batch import Batch\nfrom tcl import inference, errors")
    assert upward(tmp_path) == {
        ("shown.py", "data"),
        ("data/a.py", "models"),
        ("data/b.py", "tasks"),
        ("data/b.py", "runs"),
        ("models/c.py", "inference"),
    }
