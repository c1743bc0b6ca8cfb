"""No call in the sources can run code that a file brings along, or write where a file says.

The rules look at the syntax: what they cannot see, an unpickler in a library, is in tests/test_untrusted_files.py.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("*.py"), *(p for d in ("tcl", "tools", "benchmarks") for p in (ROOT / d).rglob("*.py"))])
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
SAFE_YAML = {"SafeLoader", "CSafeLoader"}


def unsafe_calls(source: str) -> list[str]:
    """What in `source` is refused, as 'line: why'."""
    return [f"{node.lineno}: {why}" for node in ast.walk(ast.parse(source)) for why in _reasons(node)]


def _reasons(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"import {name.name}" for name in node.names if name.name.split(".")[0] in UNPICKLERS)
    if isinstance(node, ast.ImportFrom):
        if (node.module or "").split(".")[0] in UNPICKLERS:
            yield f"import {node.module}"
        if node.module in ("torch", "numpy", "yaml"):  # renamed, the rules below would miss it
            yield from (f"from {node.module} import {name.name}" for name in node.names if "load" in name.name)
    if isinstance(node, ast.Call):
        yield from _call_reasons(ast.unparse(node.func), {word.arg: word.value for word in node.keywords}, node)


def _call_reasons(called: str, options: dict[str | None, ast.expr], node: ast.Call) -> Iterator[str]:
    name = called.rpartition(".")[2]
    if called == "torch.load" and not _is(options.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if called in ("np.load", "numpy.load") and "allow_pickle" in options and not _is(options["allow_pickle"], False):
        yield "numpy.load with allow_pickle"
    if called == "yaml.load" and not any(ast.unparse(value).endswith(tuple(SAFE_YAML)) for value in _values(node)):
        yield "yaml.load without SafeLoader"
    if name in ("unsafe_load", "unsafe_load_all", "full_load", "full_load_all"):
        yield name
    if called in ("eval", "exec", "os.system", "os.popen", "torch.hub.load"):
        yield called
    if "shell" in options and not _is(options["shell"], False):
        yield "shell"
    if name == "extractall" or (name == "extract" and "tar" in called.lower()):
        yield "files out of an archive, where it says"
    if "trust_remote_code" in options and not _is(options["trust_remote_code"], False):
        yield "trust_remote_code"


def _is(value: ast.expr | None, constant: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is constant


def _values(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(word.value for word in node.keywords)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sources_make_no_unsafe_call(path):
    assert unsafe_calls(path.read_text()) == []


def test_all_sources_are_looked_at():
    assert {ROOT / "pretrain.py", ROOT / "tcl" / "checkpoints" / "weights_file.py", ROOT / "tools" / "demo.py"} <= set(
        SOURCES
    )


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "torch.hub.load('a/b', 'c')",
        "from torch import load",
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "from joblib.numpy_pickle import load",
        "np.load(path, allow_pickle=True)",
        "numpy.load(path, allow_pickle=flag)",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text, Loader=yaml.FullLoader)",
        "yaml.unsafe_load(text)",
        "yaml.full_load(text)",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "tar.extractall(folder)",
        "tar.extract(member)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_each_unsafe_call_is_found(source):
    assert len(unsafe_calls(f"x = 1\n{source}\n")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "model.eval()",
        "subprocess.run([a, b])",
        "pattern.extract(text)",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=False)",
    ],
)
def test_safe_calls_are_left_alone(source):
    assert unsafe_calls(source) == []
