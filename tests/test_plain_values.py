"""YAML and JSON from outside: plain values, whatever they cost bounded, everything else one line."""

import math

import pytest

from tcl.errors import InputError
from tcl.plain_values import MAX_BYTES, dump_yaml, parse_yaml, read_json, read_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"stands for more than 100,000 values"),
        ("model: &m\n  image: *m\n", r"a value holds itself"),
        ("&a [*a]", r"a value holds itself"),
        ("seed: " + "[" * 5000, r"nests more than 32 deep"),
        ("- " * 5000, r"nests more than 32 deep"),
        ("a: &a {<<: *a}", r"a value holds itself"),
        ("a: 1\na: 2", r"'a' is there twice"),
        ("1: 2", r"1 is no name of a field"),
        ("a: !!python/object/apply:os.system [x]", r"os\.system is no plain value"),
        ("a: !!python/name:os.system", r"os\.system is no plain value"),
        ("!!set {a}", r"set is no plain value"),
        ("a: !!binary aGk=", r"binary is no plain value"),
        ("a: !!int ''", r"cannot be read"),
        ("a: !!bool x", r"'x' is no boolean"),
        ("a: " + "9" * 5000, r"a number of 5,000 characters"),
        ('"\\UFFFFFFFF"', r"cannot be read"),
        ("\0", r"unacceptable character"),
        ("a: [1, 2", r"cannot be read"),
        ("a: *nowhere", r"undefined alias"),
        ("---\na\n---\nb", r"single document"),
        ("#" * (MAX_BYTES + 1), r"is longer than"),
    ],
    ids=lambda value: str(value)[:20].encode("unicode_escape").decode(),
)
def test_what_is_no_plain_yaml_is_one_line(text, message):
    with pytest.raises(InputError, match=message) as refused:
        parse_yaml(text, "config")
    assert "\n" not in str(refused.value) and str(refused.value).startswith("config")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lr: 1e-4", {"lr": 0.0001}),
        ("[1, -5, 1_000, 0x1F, 0.5, 1.0e-05]", [1, -5, 1000, 31, 0.5, 1e-5]),
        ("a: 2026-11-25", {"a": "2026-11-25"}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: [yes, true, null, ~]", {"a": [True, True, None, None]}),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("\N{ZERO WIDTH NO-BREAK SPACE}a: Stra\xdfe", {"a": "Stra\xdfe"}),
        ("", None),
    ],
)
def test_plain_values(text, value, tmp_path):
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "x.yaml", "config") == value


@pytest.mark.parametrize(
    "text", ["1e-4", "010", "0o7", "12:30", "2026-11-25", "yes", "null", "", "=", "<<", ".inf", "é"]
)
def test_texts_that_look_like_other_values_are_written_as_texts(text):
    assert parse_yaml(dump_yaml({"a": text, "b": 1e-05}), "x") == {"a": text, "b": 1e-05}


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_places_that_hold_no_text(read, tmp_path):
    (tmp_path / "latin1").write_bytes("output_dir: Straße".encode("latin-1"))
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "latin1", "a\0b", "/" + "x" * 5000, "/dev/zero"):
        with pytest.raises(InputError, match=r"^config: .*(cannot be read|has more than)") as refused:
            read(path, "config")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "1e999", "9" * 5000, "[" * 100_000, '{"a":' * 100_000, '{"a": 1, "a": 2}', "{", ""]
)
def test_what_is_no_json_is_one_line(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"^source: .*x\.json cannot be read") as refused:
        read_json(tmp_path / "x.json", "source")
    assert "\n" not in str(refused.value)


def test_json_keeps_its_numbers(tmp_path):
    (tmp_path / "x.json").write_text('\N{ZERO WIDTH NO-BREAK SPACE}{"a": [1, 0.1, -2e-3, 12345678901234567890]}')
    assert read_json(tmp_path / "x.json", "source") == {"a": [1, 0.1, -0.002, 12345678901234567890]}
    assert math.isfinite(read_json(tmp_path / "x.json", "source")["a"][1])
