"""Strict one-pass parser for the XML of S3 lists, without entities: the server may be hostile."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.parsers import expat

from refnet.core import checked
from refnet.store.buckets.bucket import Stored, Version

#: An object of a list, a version of one, a mark that one is deleted.
_ROWS = frozenset({"Contents", "Version", "DeleteMarker"})
_MOST_ROWS = 1000
_DEEPEST = 6
_LONGEST = 4096
_SIZE = checked.integer(0, 1 << 50)
_ID = checked.text(1024, like=r"[\x21-\x7e]*")
_TAG = checked.text(200, like=r"[\x20-\x7e]*")


@dataclass
class Page:
    """One response: a page of a list, or another small document."""

    #: The name of the outermost element.
    root: str = ""
    #: The elements of the document itself, by name: `IsTruncated`, `NextKeyMarker`.
    top: dict[str, str] = field(default_factory=dict)
    #: The kind and the elements of each object.
    rows: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def key(self, row: dict[str, str]) -> str:
        """Return the key of an object."""
        return unquote(row["Key"], errors="strict") if self.top.get("EncodingType") == "url" else row["Key"]

    def stored(self, row: dict[str, str], name: str) -> Stored:
        """Parse an object of a list; ValueError, or KeyError for a missing element."""
        return Stored(
            name, _SIZE(int(row["Size"])), checked.moment(row["LastModified"]), _TAG(row.get("ETag", ""))
        )

    def version(self, kind: str, row: dict[str, str], name: str) -> Version:
        """Parse a version of a list; ValueError, or KeyError for a missing element."""
        size, modified = _SIZE(int(row.get("Size", "0"))), checked.moment(row["LastModified"])
        gone = kind == "DeleteMarker"
        return Version(name, _ID(row["VersionId"]), size, modified, row.get("IsLatest") == "true", gone)


def read(answer: bytes) -> Page:
    """Parse an XML document; ValueError if S3 would not write it."""
    reader = _Reader()
    try:
        reader.parser.Parse(answer, True)
    except (expat.ExpatError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError("not XML") from error
    return reader.page


class _Reader:
    def __init__(self) -> None:
        self.page = Page()
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self._depth = 0
        self._row: dict[str, str] | None = None
        self._parts: list[str] = []
        self._length = 0

    def _refuse(self, *_: object) -> None:
        raise ValueError("it declares a document type")

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        self._parts, self._length = [], 0
        if self._depth > _DEEPEST:
            raise ValueError("nested too deep")
        if self._depth == 1:
            self.page.root = name
        if self._depth == 2 and name in _ROWS:
            if len(self.page.rows) == _MOST_ROWS:
                raise ValueError(f"more than {_MOST_ROWS} objects on one page")
            self._row = {}
            self.page.rows.append((name, self._row))

    def _text(self, text: str) -> None:
        self._length += len(text)
        if self._length > _LONGEST:
            raise ValueError("a text that is too long")
        self._parts.append(text)

    def _end(self, name: str) -> None:
        into = self.page.top if self._depth == 2 else self._row if self._depth == 3 else None
        if self._depth == 2 and name in _ROWS:
            self._row = None
        elif into is not None and len(into) < 40:
            if name in {"Key", "VersionId"} and name in into:
                raise ValueError(f"two elements {name}")
            into[name] = "".join(self._parts)
        self._parts, self._length = [], 0
        self._depth -= 1
