"""JSON that arrives in pieces, taken apart one value at a time, so that a large text is never in memory at once.

A parser of whole texts makes up to 24 bytes of `[],`, so a small file could fill the memory; here each value is
short, and is checked and made small before the next one is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

_DECODER = json.JSONDecoder()
_NO_BLANK = re.compile(r"[^ \t\r\n]")
_LONGEST_KEY = 100


class JsonPieces:
    """A cursor over the JSON in `pieces`. Every method raises ValueError where the text is not what it expects."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self._text = ""
        self._at = 0

    def value(self, longest: int) -> Any:
        """The next value; no more than about `longest` characters are read for it."""
        self._skip_blanks()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise ValueError("it is nested too deep") from None
            except ValueError:
                # Perhaps it goes on in the next piece.
                if len(self._text) - self._at > longest or not self._more():
                    raise ValueError("it is no JSON, or a value is too long") from None
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def items(self, longest: int) -> Iterator[Any]:
        """The elements of the list that comes next."""
        self._expect("[")
        if self._taken("]"):
            return
        while True:
            yield self.value(longest)
            if self._taken("]"):
                return
            self._expect(",")

    def keys(self) -> Iterator[str]:
        """The keys of the object that comes next; the caller takes each one's value. None comes twice."""
        self._expect("{")
        seen: set[str] = set()
        if self._taken("}"):
            return
        while True:
            key = self.value(_LONGEST_KEY)
            if type(key) is not str or key in seen:
                raise ValueError("a key is no text or comes twice")
            seen.add(key)
            self._expect(":")
            yield key
            if self._taken("}"):
                return
            self._expect(",")

    def end(self) -> None:
        """Nothing but blanks follows."""
        self._skip_blanks()
        if self._at < len(self._text):
            raise ValueError("something follows its end")

    def _more(self) -> bool:
        """Read as much again as is held, so that a long value is not begun anew for every piece."""
        held = self._text[self._at :]
        parts, size = [held], 0
        for piece in self._pieces:
            parts.append(piece)
            size += len(piece)
            if size > len(held):
                break
        self._text, self._at = "".join(parts), 0
        return size > 0

    def _skip_blanks(self) -> None:
        while self._at < len(self._text) or self._more():
            found = _NO_BLANK.search(self._text, self._at)
            self._at = found.start() if found else len(self._text)
            if found:
                return

    def _taken(self, character: str) -> bool:
        self._skip_blanks()
        if self._text[self._at : self._at + 1] != character:
            return False
        self._at += 1
        return True

    def _expect(self, character: str) -> None:
        if not self._taken(character):
            raise ValueError(f"no {character} where one belongs")
