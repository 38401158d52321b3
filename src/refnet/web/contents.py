"""The content of artifacts for pages: the lists that were read last, and which part of an artifact a request is about."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, quote

from fastapi import Request

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Entry
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.core.member_names import ArchiveError
from refnet.core.member_names import checked as checked_path
from refnet.sources.folder.browsing import FileNames, names_of

#: Lines of a page; the names of files that stay in memory (about 100 bytes each), and the lists of tables.
ROWS, NAMES, LISTS = 200, 600_000, 8
_TABLES = checked.each(
    checked.record(
        {
            "schema": checked.text(1000),
            "name": checked.text(1000),
            "rows": checked.integer(0, 1 << 63),
            "bytes": checked.integer(0, 1 << 63),
        }
    ),
    100_000,
)
_Value = TypeVar("_Value")


class Contents:
    """The lists of one server."""

    def __init__(self) -> None:
        self._names = OrderedDict[str, FileNames]()
        self._tables = OrderedDict[str, list[dict[str, Any]]]()
        self._reading = threading.Lock()

    def names(self, artifact: OpenArtifact) -> FileNames:
        """Return the names in the list of files of `artifact`, which is read once; RefnetError as for `names_of`."""
        digest = artifact.manifest.files_sha256 if artifact.manifest else None
        with self._reading:  # one list is in memory at a time
            found = self._names.get(digest or "") or names_of(artifact)
            _keep(self._names, digest or "", found)
            while len(self._names) > 1 and sum(map(len, self._names.values())) > NAMES:
                self._names.popitem(last=False)
        return found

    def tables(self, entry: Entry) -> list[dict[str, Any]] | None:
        """Return the tables of an artifact that were kept; None if none were."""
        return self._tables.get(entry.manifest.sha256)

    def keep_tables(self, entry: Entry, shown: object) -> list[dict[str, Any]]:
        """Keep the tables that `refnet show --tables` printed; ValueError if they are malformed."""
        found: list[dict[str, Any]] = _TABLES(shown)
        _keep(self._tables, entry.manifest.sha256, found)
        while len(self._tables) > LISTS:
            self._tables.popitem(last=False)
        return found


def contents_of(request: Request) -> Contents:
    """Return the lists of the server."""
    found: Contents = request.app.state.contents
    return found


def _keep(kept: OrderedDict[str, _Value], key: str, value: _Value) -> None:
    kept[key] = value
    kept.move_to_end(key)


@dataclass(frozen=True)
class Part:
    """What of an artifact a request is about."""

    #: A file or folder, decoded as names of files are.
    path: str = ""
    schema: str = ""
    table: str = ""
    search: str = ""
    #: Of a list, from 1 on.
    page: int = 1
    #: The artifact that a file is compared with.
    before: str = ""

    @classmethod
    def of(cls, request: Request) -> Self:
        """Read the query string of `request`; RefnetError (USAGE) if a field is malformed."""
        query = request.scope["query_string"].decode("latin-1")
        try:
            given = dict(
                parse_qsl(query, keep_blank_values=True, errors="surrogateescape", max_num_fields=20)
            )
            path, page = given.get("path", ""), given.get("page", "1")
            path = checked_path(os.fsencode(path)) if path else ""
            number = int(page) if page.isascii() and page.isdecimal() and len(page) < 8 else 0
        except (ValueError, ArchiveError) as error:
            raise _no_part(str(error)) from None
        if number < 1:
            raise _no_part(f"page: {page}")
        texts = {name: given.get(name, "")[:1000] for name in ("schema", "table", "search", "before")}
        return cls("" if path == "." else path, page=number, **texts)

    @property
    def first(self) -> int:
        """The place of the first line of the page."""
        return (self.page - 1) * ROWS

    @property
    def folders(self) -> list[tuple[str, str]]:
        """Name and path of each folder that leads to `path`, and of `path`."""
        names = self.path.split("/") if self.path else []
        return [(name, "/".join(names[: at + 1])) for at, name in enumerate(names)]


def _no_part(why: str) -> RefnetError:
    return RefnetError(
        f"the artifact has no part with this address: {plain(why)[:200]}",
        "Open the artifact, and choose the part there.",
        Exit.USAGE,
    )


def octets(path: str) -> str:
    """Quote the name of a file for an address, byte by byte: it need not be UTF-8."""
    return quote(os.fsencode(path), safe="")


def address(source: str, name: str, end: str = "", **fields: str | int) -> str:
    """Return the address of an artifact's page, or of one of its parts: `end` is the end of the path."""
    query = "&".join(f"{key}={octets(str(value))}" for key, value in fields.items() if value)
    return f"/artifacts/{octets(source)}/{octets(name)}{end}{'?' if query else ''}{query}"


def tables_of(found: list[dict[str, Any]], asked: Part) -> list[dict[str, Any]]:
    """Return the tables whose name contains what is searched."""
    wanted = asked.search.casefold()
    return [one for one in found if wanted in f"{one['schema']}.{one['name']}".casefold()]
