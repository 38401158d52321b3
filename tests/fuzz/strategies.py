"""Valid documents and files, changed in ways that people, disks and attackers change them.

`mutated` changes a JSON document by its structure, `damaged` a file by its bytes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence, Sequence
from typing import Any

from hypothesis import strategies as st


class Raw(str):
    """JSON text that stands in a document as it is, right or wrong."""

    __slots__ = ()


def _nested(opens: str, closes: str, depth: int) -> Raw:
    return Raw(opens * depth + closes * depth)


_NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 7, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400,
    0.5, -0.0, 1e-320, 1e308, -1e308,
    Raw("1e400"), Raw("-1e400"), Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("-0"), Raw("1E2"),
    Raw("1" + "0" * 4299), Raw("1" + "0" * 5000), Raw("-" + "9" * 30_000), Raw("01"), Raw("0x10"), Raw("1."),
)  # fmt: skip

TEXTS: tuple[str, ...] = (
    "", " ", "\0", "a\0b", "\n", "a\nb", "\r", "\t", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\uffff",
    "é", "e\u0301", "文献", "🜁", "\U0010ffff", "ß", "İ", "\ud800", "a\udfffb", "\udcff", "\udc80.md",
    "a" * 255, "a" * 256, "a" * 5000, "é" * 20_000, "a/" * 300, "/" * 5000, " " * 5000, "9" * 5000,
    ".", "..", "../..", "../../etc/passwd", "/etc/passwd", "a/../b", "./a", "a//b", "a/", "~", "~root", "a\\b", "*",
    "null", "true", "NaN", "inf", "-inf", "1e5", "1_000", "+1", "-1", " 1", "1 ", "0x10", "0o17", "٣", "²", "１２", "½",
    "7", "0644", "0777777", "8", "100000000000000000000",
    "2026-11-25", "2026-11-25T02:00:00", "2026-11-25T02:00:00+00:00", "2026-11-25T02:00:00Z", "2026-02-30", "20261125",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "2026-11-25T24:00:00+00:00", "2026-W48-3",
    "2026-11-25T02:00:00+23:59", "2026-11-25T02:00:00.123456789+00:00", "1969-12-31T23:59:59-00:00", "-2026-11-25",
    "'", '"', '"; DROP TABLE x; --', "\\", "\\! id", "$(id)", "`id`", "%s", "{0}", "%n", "<script>", "-- x",
    "database", "config", "obsidian", "file", "folder", "link", "proven", "written", "passed", "failed",
)  # fmt: skip

_CONTAINERS: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], [None], [0], [""], {"": None}, {"a": {}}, [[], {}], [1, 2, 3], ["a"] * 300,
    _nested("[", "]", 50), _nested("[", "]", 400), _nested("[", "]", 950), _nested("[", "]", 20_000),
    Raw('{"a":' * 200 + "1" + "}" * 200), Raw('{"a":' * 930 + "1" + "}" * 930), Raw('{"a":' * 10_000),
)  # fmt: skip

_BROKEN: tuple[Any, ...] = (
    Raw(""), Raw("'a'"), Raw('"\\x"'), Raw('"\\ud83d"'), Raw('"a'), Raw("[1,]"), Raw("{,}"), Raw("nul"), Raw("1 2"),
    Raw('{"a":1,"a":2}'), Raw('"\x00"'), Raw("[" * 30), Raw("}"), Raw("/**/1"), Raw("undefined"),
)  # fmt: skip

#: What stands in a document where something else belongs.
ODD: tuple[Any, ...] = (*_NUMBERS, *TEXTS, *_CONTAINERS, *_BROKEN)

_values = st.one_of(
    st.sampled_from(ODD),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=20),
)
texts = st.one_of(st.sampled_from(TEXTS), st.text(st.characters(exclude_categories=()), max_size=30))

#: Values in a document beyond which it is changed no more: changes of changes would fill the memory.
_MOST = 2000

#: A container, and the key or index of what is changed in it.
_Place = tuple[Any, Any]


def _places(document: Any) -> Iterator[_Place]:
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (dict, list)):
            for key in list(one) if isinstance(one, dict) else range(len(one)):
                yield one, key
                waiting.append(one[key])


def _replace(place: _Place, value: Any, _other: Any) -> None:
    place[0][place[1]] = value


def _remove(place: _Place, _value: Any, _other: Any) -> None:
    del place[0][place[1]]


def _again(place: _Place, value: Any, other: Any) -> None:
    """The same key or element once more, with another value."""
    _insert(place, place[1], other if value is None else value)


def _add(place: _Place, value: Any, other: Any) -> None:
    """A key that is not known, or one more element."""
    _insert(place, value if isinstance(value, str) else "unknown", value if other is None else other)


def _insert(place: _Place, key: Any, value: Any) -> None:
    inside, at = place
    if isinstance(inside, dict):
        inside[Raw(_spelled(key))] = value
    else:
        inside.insert(at, value)


def _rename(place: _Place, value: Any, _other: Any) -> None:
    inside, at = place
    if isinstance(inside, dict):
        inside[value if isinstance(value, str) else str(at).upper()] = inside.pop(at)


def _retype(place: _Place, value: Any, _other: Any) -> None:
    """The same value as something else: a text, a number, a list, an object."""
    inside, at = place
    one = inside[at]
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: _spelled(one),
        lambda: [one],
        lambda: {"0": one},
        lambda: bool(one),
        lambda: len(one) if hasattr(one, "__len__") else 0.5,
        lambda: list(one) if isinstance(one, (dict, str)) else one,
        lambda: f"{one} ",
        lambda: str(one).swapcase(),
    )
    inside[at] = kinds[len(str(value)) % len(kinds)]()


def _many(place: _Place, value: Any, _other: Any) -> None:
    inside, at = place
    inside[at] = [value if isinstance(value, int) else None] * 300


def _swap(place: _Place, _value: Any, other: Any) -> None:
    place[0][place[1]] = other


_CHANGES = (_replace, _replace, _replace, _remove, _again, _add, _rename, _retype, _many, _swap)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> str:
    """The text of `document`, JSON values, with up to three changes of its structure."""
    document = [copy.deepcopy(document)]
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(document))
        if not 0 < len(places) < _MOST:
            break
        place = draw(st.sampled_from(places))
        inside, at = draw(st.sampled_from(places))
        other = copy.deepcopy(inside[at])
        draw(st.sampled_from(_CHANGES))(place, copy.deepcopy(draw(_values)), other)
    return _spelled(document[0]) if document else ""


def _spelled(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, MutableMapping):
        return "{" + ",".join(f"{_spelled(key)}:{_spelled(one)}" for key, one in value.items()) + "}"
    if isinstance(value, MutableSequence):
        return "[" + ",".join(map(_spelled, value)) + "]"
    return json.dumps(value)


_PIECES = (
    b"\0", b"\xff", b"\n", b"\r\n", b'"', b"}", b"\xed\xa0\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"\x1f\x8b",
    b"9" * 5000, bytes(512), b"[" * 5000, b"\xff" * 40, b"\xc3\xa9" * 2048,
)  # fmt: skip
_bytes = st.one_of(st.sampled_from(_PIECES), st.binary(min_size=1, max_size=20))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes of a valid file with up to three places flipped, cut, removed, repeated or overwritten."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        change = draw(
            st.sampled_from(["flip", "flip", "cut", "remove", "insert", "overwrite", "repeat", "drop"])
        )
        if change == "cut":
            del data[at:]
        elif change == "drop":
            del data[:at]
        elif change == "insert":
            data[at:at] = draw(_bytes)
        elif change == "overwrite":
            piece = draw(_bytes)
            data[at : at + len(piece)] = piece
        else:
            length = draw(st.integers(1, 200))
            if change == "flip":
                data[at : at + 1] = bytes(one ^ (1 << length % 8) for one in data[at : at + 1])
            elif change == "remove":
                del data[at : at + length]
            else:
                data[at:at] = data[at : at + length] * 3
    return bytes(data)


def documents(document: Any, whole: bytes | None = None) -> st.SearchStrategy[bytes]:
    """A JSON document, changed by its structure or by its bytes; `whole`: how its writer spells it."""
    text = json.dumps(document).encode() if whole is None else whole
    return st.one_of(mutated(document).map(_encoded), mutated(document).map(_encoded), damaged(text))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def lines(whole: Sequence[str]) -> st.SearchStrategy[bytes]:
    """A file of JSON lines of which one is changed by its structure, or the bytes."""
    text = "".join(f"{line}\n" for line in whole).encode()
    one_of_them = st.integers(0, len(whole) - 1).flatmap(
        lambda at: mutated(json.loads(whole[at])).map(
            lambda line: _encoded("\n".join([*whole[:at], line, *whole[at + 1 :]]) + "\n")
        )
    )
    return st.one_of(one_of_them, damaged(text))
