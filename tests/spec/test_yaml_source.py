"""Reading YAML: what YAML lets pass and we do not, and where everything stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.spec.yaml_source import MAX_BYTES, MAX_DEPTH, MAX_NODES, Mark, read


def test_marks_keys_and_values() -> None:
    source = read("a:\n  - {b: 1, c: two}\n  - d\n", "f.yaml")
    assert source.data == {"a": [{"b": 1, "c": "two"}, "d"]}
    assert source.problems == []
    assert source.mark(("a", 0, "c")) == Mark(2, 15)
    assert source.mark(("a", 0, "c"), key=True) == Mark(2, 12)
    assert source.mark(("a", 1)) == Mark(3, 5)
    assert source.mark(("a", 0, "missing")) == source.mark(("a", 0)) == Mark(2, 5)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("off", "off"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("12:30:45", "12:30:45"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("2026-11-22", "2026-11-22"),
        ("+5", "+5"),
        (".5", ".5"),
        ("5.", "5."),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("-0", 0),
        ("'5'", "5"),
        ('"true"', "true"),
        ("'~'", "~"),
        ("! 5", "5"),
    ],
)
def test_resolves_scalars_by_the_json_schema_of_yaml_1_2(written: str, value: object) -> None:
    source = read(f"key: {written}\n", "f.yaml")
    assert source.problems == []
    assert source.data["key"] == value
    assert type(source.data["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "column", "found", "expected"),
    [
        ("", 1, 1, "an empty file", "fairlead init"),
        ("# only a comment\n", 1, 1, "an empty file", "fairlead init"),
        ("- a\n", 1, 1, "not a mapping", "fairlead: 1"),
        ("word", 1, 1, "not a mapping", "fairlead: 1"),
        ("a: 1\nb:\n\tc: 2\n", 3, 1, "'c: 2'", "spaces"),
        ("a: 1\na: 2\n", 2, 1, "'a' a second time", "line 1"),
        ("x: {a: 1, a: 2}\n", 1, 11, "'a' a second time", "line 1"),
        ("a: [1, 2\nb: 3\n", 2, 2, "'b: 3'", "closing bracket"),
        ('a: "open\n', 2, 1, "end of the file", "closing quote"),
        ("bound: >= 0.6\n", 1, 9, "'bound: >= 0.6'", "quotes"),
        ("a: b: c\n", 1, 5, "'a: b: c'", "quotes"),
        ("a: @x\n", 1, 4, "'a: @x'", "quotes"),
        ("a: *b\n", 1, 4, "*b", "&b"),
        ("a: &a [*a]\n", 1, 8, "*a", "something else"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document", "one document"),
        ("<<: {a: 1}\n", 1, 1, "merge key", "written out"),
        ("a: !!python/object/apply:os.system [x]\n", 1, 4, "tag", "no YAML tags"),
        ("a: !!set {x}\n", 1, 4, "tag", "no YAML tags"),
        ("? [a]\n: b\n", 1, 3, "as a key", "plain text"),
        ("a: .nan\n", 1, 4, ".nan", "finite"),
        ("a: -.inf\n", 1, 4, "-.inf", "finite"),
        ("a: 1e999\n", 1, 4, "too large", "18 digits"),
        ("a: 1234567890123456789\n", 1, 4, "too large", "18 digits"),
        ('a: "\\0"\n', 1, 4, "U+0000", "printable"),
        ('a: "\\ud800"\n', 1, 4, "U+D800", "printable"),
        ('"": 1\n', 1, 1, "empty", "key of 1"),
        ('a: "\\U99999999"\n', 1, 1, "escape", "valid YAML"),
        ("%YAML 3.0\n---\na: 1\n", 1, 1, "%YAML 3.0", "valid YAML"),
        ("a: x\x07y\n", 1, 5, "U+0007", "printable"),
        (b"a: \xff\n", 1, 4, "0xff", "UTF-8"),
        (b"a: 1\nb: \x00\n", 2, 4, "U+0000", "printable"),
        ("a: 1\n".encode("utf-16"), 1, 1, "0xff", "UTF-8"),
    ],
)
def test_refuses_with_the_place(text: str | bytes, line: int, column: int, found: str, expected: str) -> None:
    problem = read(text, "f.yaml").problems[0]
    assert found in problem.found
    assert expected in problem.expected
    assert (problem.line, problem.column) == (line, column)


def test_takes_a_byte_order_mark_and_windows_line_ends() -> None:
    assert read(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f.yaml").data == {"a": 1, "b": 2}
    assert read("\ufeffa: 1\n", "f.yaml").data == {"a": 1}


def test_takes_aliases_as_values() -> None:
    source = read("a: &x {b: [1]}\nc: *x\n", "f.yaml")
    assert source.problems == []
    assert source.data == {"a": {"b": [1]}, "c": {"b": [1]}}


def test_keeps_the_first_of_a_key_written_twice() -> None:
    assert read("a: 1\na: 2\nb: 3\n", "f.yaml").data == {"a": 1, "b": 3}


def test_bounds_the_expansion_of_aliases() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    source = read("\n".join(lines), "f.yaml")
    assert source.data is None
    assert f"{MAX_NODES:,}" in source.problems[0].expected


def test_bounds_the_depth_also_through_aliases() -> None:
    deep = "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)
    assert "levels" in read(f"a: {deep}", "f.yaml").problems[0].found
    half = "[" * (MAX_DEPTH // 2) + "x" + "]" * (MAX_DEPTH // 2)
    shared = f"a: &a {half}\nb: {'[' * (MAX_DEPTH // 2)}*a{']' * (MAX_DEPTH // 2)}"
    assert "levels" in read(shared, "f.yaml").problems[0].found


@pytest.mark.parametrize("bomb", ["[" * 100_000, "{a: " * 50_000, "- " * 100_000, "? " * 100_000])
def test_survives_deep_nesting(bomb: str) -> None:
    assert read(bomb, "f.yaml").data is None


def test_bounds_the_size() -> None:
    assert "bytes" in read("a: 1\n" + "#" * MAX_BYTES, "f.yaml").problems[0].found


def test_never_shows_a_line_that_may_hold_a_secret() -> None:
    problem = read("api_key: @sk-abcdefghijklmnopqrstuvwxyz\n", "f.yaml").problems[0]
    assert "abcdefghij" not in str(problem)


YAML_PIECES = st.sampled_from(
    ["a", "b", ": ", ":", "\n", "  ", "- ", "[", "]", "{", "}", ", ", '"', "'", "&a ", "*a", "!", "!!str ", "%", "|",
     ">", "---", "...", "#", "\t", "? ", "<<", "~", "\\", "\\x", "\\U", "9", "%YAML ", "%TAG ", "\x00", "\u2028", "é"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=200), st.lists(YAML_PIECES, max_size=60).map("".join), st.binary(max_size=200)))
def test_reads_anything_without_raising(text: str | bytes) -> None:
    source = read(text, "f.yaml")
    assert (source.data is None) <= bool(source.problems)
    assert source.data is None or isinstance(source.data, dict)
    for problem in source.problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.found
        assert problem.expected


@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.text(st.characters(codec="utf-8"), max_size=20)
        ),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz_", min_size=1, max_size=8), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_reads_json_as_json(value: object) -> None:
    source = read(json.dumps({"key": value}), "f.yaml")
    if not source.problems:  # control characters and surrogates are refused
        assert source.data == {"key": value}
    else:
        assert "U+" in source.problems[0].found
