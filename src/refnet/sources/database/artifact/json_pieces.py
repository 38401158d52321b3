"""Parse JSON that arrives in pieces, one value at a time, so that a large text is never in memory at once.

A parser of complete texts needs up to 24 bytes per byte of `[],[],`, so a small file could fill the memory. Here
each value is short, and the caller checks and converts it before the next one is read.
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
    """A cursor over the JSON in `pieces`. Every method raises ValueError if the text is not as expected."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self._text = ""
        self._at = 0

    def value(self, longest: int) -> Any:
        """Return the next value; ValueError if it is longer than about `longest` characters."""
        self._skip_blanks()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            except ValueError:
                # It may continue in the next piece.
                if len(self._text) - self._at > longest or not self._more():
                    raise ValueError("it is not JSON, or a value is too long") from None
                continue
            if end == len(self._text) and self._more():
                continue  # a number may continue
            self._at = end
            return value

    def items(self, longest: int) -> Iterator[Any]:
        """Yield the elements of the list that comes next."""
        self._expect("[")
        if self._taken("]"):
            return
        while True:
            yield self.value(longest)
            if self._taken("]"):
                return
            self._expect(",")

    def keys(self) -> Iterator[str]:
        """Yield the keys of the object that comes next; the caller reads each one's value. ValueError if one repeats."""
        self._expect("{")
        seen: set[str] = set()
        if self._taken("}"):
            return
        while True:
            key = self.value(_LONGEST_KEY)
            if type(key) is not str or key in seen:
                raise ValueError("a key is not text or repeats")
            seen.add(key)
            self._expect(":")
            yield key
            if self._taken("}"):
                return
            self._expect(",")

    def end(self) -> None:
        """Raise ValueError if anything but blanks follows."""
        self._skip_blanks()
        if self._at < len(self._text):
            raise ValueError("something follows its end")

    def _more(self) -> bool:
        """Double the pending text, so that repeated attempts to parse a long value stay linear."""
        pending = self._text[self._at :]
        parts, size = [pending], 0
        for piece in self._pieces:
            parts.append(piece)
            size += len(piece)
            if size > len(pending):
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
            raise ValueError(f"{character} is missing")
