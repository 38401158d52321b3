"""Separates the statements of pg_dump's SQL text, and reduces one to its outline. The text may be forged.

This is not the only safeguard: statements are sent by a protocol that accepts only one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

#: Comments, quoted names, strings, the beginning of a dollar-quoted string, brackets, the end of a statement.
_PART = re.compile(
    rb"--[^\n]*|/\*"
    rb'|"(?:[^"]|"")*+"'
    rb"|(?<![\w$\x80-\xff])[eE]'(?:[^'\\]|\\.|'')*+'|'(?:[^']|'')*+'"
    rb"|(?<![\w$\x80-\xff])\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$"
    rb"|[()\[\];]",
    re.DOTALL,
)


def statements(text: bytes) -> Iterator[bytes]:
    """Yield each statement of `text`, without its semicolon and the comments before it."""
    begin = depth = last = 0
    blank = True  # so far, apart from comments
    for start, end in _parts(text):
        one, blank = text[start:end], blank and not text[last:start].strip()
        last = end
        if blank and one.startswith(b"--"):
            begin = end
            continue
        blank = False
        if one in b"([":
            depth += 1
        elif one in b")]":
            depth = max(0, depth - 1)
        elif one == b";" and not depth:
            yield text[begin:start].strip()
            begin, blank = end, True


def bare(statement: bytes) -> bytes:
    """`statement` with strings as '' and quoted names as x; ValueError if it contains a comment."""
    found, begin = [], 0
    for start, end in _parts(statement):
        one = statement[start:end]
        if one.startswith((b"--", b"/*")):
            raise ValueError("a comment within a statement")
        if len(one) > 1:
            found += [statement[begin:start], b"x" if one.startswith(b'"') else b"''"]
            begin = end
    return b"".join([*found, statement[begin:]])


def flat(statement: bytes) -> bytes:
    """`bare` without the content of the outermost brackets."""
    text, found, depth, begin = bare(statement), [], 0, 0
    for start, end in _parts(text):
        one = text[start:end]
        if one in b"([":
            if not depth:
                found.append(text[begin:end])
            depth += 1
        elif one in b")]":
            depth -= 1
            if depth == 0:
                begin = start
            elif depth < 0:
                raise ValueError("a bracket that nothing opened")
    if depth:
        raise ValueError("a bracket that nothing closes")
    return b"".join([*found, text[begin:]])


def outline(text: bytes) -> bytes:
    """`text` at the same length, with x for quoted text and _ for text in brackets."""
    found, depth, begin = bytearray(text), 0, 0
    for start, end in _parts(text):
        one = text[start:end]
        if one in b"([":
            depth, begin = depth + 1, start if not depth else begin
        elif one in b")]":
            depth = max(0, depth - 1)
            if not depth:
                found[begin:end] = b"_" * (end - begin)
        elif not depth and len(one) > 1:
            found[start:end] = b"x" * (end - start)
    return bytes(found)


def inherited(create: bytes) -> bytes:
    """Return the list of tables that a CREATE TABLE inherits from, or b""."""
    found = re.search(rb"_\s+INHERITS (_+)", outline(create))
    return create[found.start(1) + 1 : found.end(1) - 1] if found else b""


def items(create: bytes) -> list[bytes]:
    """Return the items in the first brackets of a CREATE TABLE."""
    hidden = outline(create)
    begin = hidden.find(b"_")
    end = begin + len(hidden[begin:]) - len(hidden[begin:].lstrip(b"_"))
    inside = create[begin + 1 : end - 1]
    commas = [-1, *(m.start() for m in re.finditer(b",", outline(inside))), len(inside)]
    return [inside[one + 1 : other] for one, other in pairwise(commas)] if begin >= 0 else []


def _parts(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield the beginning and end of each part that `_PART` finds, a dollar-quoted string as one."""
    at = 0
    while found := _PART.search(text, at):
        at = found.end()
        if found[0].startswith(b"$"):
            end = text.find(found[0], at)
            at = end + len(found[0]) if end >= 0 else len(text)
        yield found.start(), at
