"""The lines of keys in a TOML text."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.settings.document import first_duplicate, lines_of

TEXT = '''\
# jobs = 1
jobs = 2                       # [schedule]

"quoted key" = 1
postgres.bin_dir = "/opt"
'literal' . "mixed\\u0021" = 3
long = """
jobs = 3
[schedule]
"""
raw = \'\'\'
# "
[x]\'\'\'
list = [
  "[retention]",  # ]
  1,
]
inline = {one = 1, two = {three = "}"}}
[schedule]  # the times
database = "daily 02:00"
[ retention . "config" ]
days = 7
[empty]
[[array]]
inside = 1
[[array]]
inside = 2
[ "last.one" ]
end = true
'''
LINES = {
    "jobs": 2, "quoted key": 4, "postgres": 5, "postgres|bin_dir": 5, "literal": 6, "literal|mixed!": 6, "long": 7,
    "raw": 11, "list": 14, "inline": 18, "inline|one": 18, "inline|two": 18, "inline|two|three": 18, "schedule": 19,
    "schedule|database": 20, "retention": 21, "retention|config": 21, "retention|config|days": 22, "empty": 23,
    "array": 24, "last.one": 28, "last.one|end": 29,
}  # fmt: skip


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_key_and_table_has_the_line_that_defines_it(newline: str) -> None:
    text = TEXT.replace("\n", newline)
    tomllib.loads(text)
    assert {"|".join(path): line for path, line in lines_of(text).items()} == LINES


@pytest.mark.parametrize(
    ("text", "duplicate"),
    [
        ("jobs = 1\njobs = 2\n", (("jobs",), 1, 2)),
        ("[a]\nb = 1\n[c]\n[a]\nb = 1\n", (("a", "b"), 2, 5)),
        ("a.b = '''\n\n'''\n\"a\".'b' = 2\n", (("a", "b"), 1, 4)),
        ("[[a]]\nb = 1\n[[a]]\nb = 1\n", None),
        ("a = '''\na = 1\na = 2\n'''\n", None),
        ("a.b = 1\na.c = 2\n", None),
        ("a =\na = 1\na = 2\n", None),
        ("", None),
    ],
)
def test_a_key_that_is_set_twice_is_found_with_both_lines(
    text: str, duplicate: tuple[tuple[str, ...], int, int] | None
) -> None:
    assert first_duplicate(text) == duplicate


def test_a_text_that_is_not_toml_gives_the_lines_before_the_fault() -> None:
    assert lines_of("a = 1\nb = \nc = 1\n") == {("a",): 1}


def test_a_statement_that_takes_too_long_ends_the_search() -> None:
    assert lines_of("a = 1\nb = [\n" + "1,\n" * 20_000 + "]\nc = 1\n") == {("a",): 1}


_BARE = st.text("ab", min_size=1, max_size=2)
_STRINGS = st.text(st.sampled_from(["a", "=", "#", "[", "]", "\n", '"', "'", "{", "}", ",", " "]), max_size=8)


def _multiline(text: str) -> str:
    return '"""' + json.dumps(text)[1:-1].replace("\\n", "\n") + '"""'


_VALUES = st.one_of(
    _STRINGS.map(json.dumps),
    _STRINGS.map(_multiline),
    st.lists(_STRINGS.map(_multiline), max_size=3).map(lambda items: "[\n" + ",\n".join(items) + "\n]"),
    st.just("{x = [\n1,\n]}"),
)


@given(st.lists(st.tuples(st.booleans(), _BARE, _VALUES), max_size=6, unique_by=lambda part: part[:2]))
def test_the_lines_are_those_where_the_keys_were_written(parts: list[tuple[bool, str, str]]) -> None:
    text, table, written = "", (), {}
    for is_table, key, value in parts:
        path = (f"t{key}",) if is_table else (*table, key)
        table = path if is_table else table
        written[path] = text.count("\n") + 1
        text += f"[t{key}]\n" if is_table else f"{key} = {value}\n"
    tomllib.loads(text)
    assert {path: line for path, line in lines_of(text).items() if path[-1] != "x"} == written
    assert first_duplicate(text) is None
