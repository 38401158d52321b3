"""The content of artifacts for pages: the lists that were read last, which part of an artifact a request is about, and what is
shown of a file: text, an image, Markdown; or nothing, and why.

A file may be anything. No byte of it becomes HTML by itself: text is escaped, Markdown is rendered by a library with HTML
off, an image is data of one of four types and never SVG. A link of Markdown leads to another file of the artifact, to a web
page or an address of mail, or nowhere.
"""

from __future__ import annotations

import base64
import os
import posixpath
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from fastapi import Request
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Entry
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import first_text, plain
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


#: Of files that are shown, in bytes: the largest; how much of a text, and of one that is rendered as Markdown.
LARGEST, TEXT, MARKDOWN = 4 << 20, 256 << 10, 64 << 10
#: The first bytes of an image → its type.
_IMAGES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
_NOTES = (".md", ".markdown")
#: The YAML at the head of a note.
_HEAD = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)
_HEADING = re.compile("h[1-6]")
#: A link of Obsidian: the path from the top of the vault, or a name; and the text instead of it. And a comment of Obsidian.
_WIKI = re.compile(r"\[\[([^\[\]|#^]{1,1000}+)(?:[#^][^\[\]|]{0,1000}+)?(?:\|([^\[\]]{1,1000}+))?\]\]")
_COMMENT = re.compile(r"%%[^%]*%%")
_EXTENSION = re.compile(r"\.[A-Za-z]{2,6}$")
_OUTSIDE = frozenset({"http", "https", "mailto"})
#: Path of a file in the artifact → the address of its page.
Address = Callable[[str], str]
#: Names of files → name → path, of those that one file of the artifact alone has.
Find = Callable[[Collection[str]], Mapping[str, str]]


@dataclass(frozen=True)
class FileView:
    """What of a file is shown."""

    #: Escaped by the template.
    text: str = ""
    #: Rendered Markdown; `text` is then the head of the note.
    rendered: Markup = Markup("")
    #: The URL of an image: its data.
    image: str = ""
    #: Why nothing is shown: `binary`, `large`; "": something is.
    nothing: str = ""
    #: The bytes at its end that are not shown.
    cut: int = 0


def view(path: str, data: bytes, address: Address, find: Find, *, as_text: bool = False) -> FileView:
    """Return what is shown of the file `path` with the content `data`. as_text: Markdown is not rendered."""
    if kind := _image(data):
        return FileView(image=f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
    text = first_text(data, TEXT)
    if text is None:
        return FileView(nothing="binary")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if path.lower().endswith(_NOTES) and not as_text and len(data) <= MARKDOWN:
        head = _HEAD.match(text)
        body = text[head.end() :] if head else text
        return FileView(_plain(head[1] if head else ""), rendered(body, path, address, find))
    return FileView(_plain(text), cut=max(0, len(data) - TEXT))


def _plain(text: str) -> str:
    """Escape what cannot be printed, such as marks that turn the direction of a line, but tabs and line ends."""
    return "\n".join("\t".join(map(plain, line.split("\t"))) for line in text.split("\n"))


def _image(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((kind for start, kind in _IMAGES.items() if data.startswith(start)), "")


def rendered(text: str, path: str, address: Address, find: Find) -> Markup:
    """Render the Markdown `text` of the file `path` to HTML without scripts, images, and headings of the first two levels."""

    def target(href: str) -> str:
        return _target(href, path, address)

    def wiki(named: str) -> str:
        return _inner("", named if "/" in named else places.get(named, ""), address)

    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = made.parse(text)
    texts = (one.content for token in tokens for one in token.children or () if one.type == "text")
    links = (found for one in texts for found in _WIKI.finditer(one))
    names = {named for found in links if "/" not in (named := _named(found))}
    places = find(names) if names else {}
    for token in tokens:
        token.attrs.pop("style", None)  # of a column; the Content-Security-Policy refuses it
        if _HEADING.fullmatch(token.tag):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        if token.children:
            hidden = _COMMENT.fullmatch(token.content)
            token.children = [] if hidden else _linked(token.children, target, wiki)
    return Markup(made.renderer.render(tokens, made.options, {}))  # noqa: S704  # the library escapes


def _linked(tokens: list[Token], target: Address, wiki: Address) -> list[Token]:
    """Return the tokens of a line with links that lead inside or to the web; an image is its description.

    target, wiki: return where a link of Markdown, and one of Obsidian, leads; "": nowhere.
    """
    for token in tokens:
        if token.type == "link_open":
            place = target(str(token.attrGet("href") or ""))
            token.attrs = {"href": place, "rel": "noreferrer"} if place else {}
        elif token.type == "image":
            token.type, token.tag, token.attrs, token.children = "text", "", {}, None
            token.content = f"[{token.content}]"
    depth, found = 0, list[Token]()
    for token in tokens:
        depth += token.nesting if token.type.startswith("link_") else 0
        found += _wiki(token, wiki) if token.type == "text" and not depth else [token]
    return found


def _named(link: re.Match[str]) -> str:
    """Return the name of the file that a link of Obsidian names."""
    return link[1] if _EXTENSION.search(link[1]) else f"{link[1]}.md"


def _wiki(token: Token, wiki: Address) -> Iterator[Token]:
    """Yield the text of `token`, and what its links of Obsidian are in HTML; one that leads nowhere stays text."""
    end, text = 0, token.content
    for found in _WIKI.finditer(text):
        if target := wiki(_named(found)):
            yield Token("text", "", 0, content=text[end : found.start()])
            yield Token("link_open", "a", 1, attrs={"href": target, "rel": "noreferrer"})
            yield Token("text", "", 0, content=found[2] or found[1])
            yield Token("link_close", "a", -1)
            end = found.end()
    yield Token("text", "", 0, content=text[end:])


def _target(href: str, path: str, address: Address) -> str:
    """Return where a link leads; "": nowhere."""
    try:
        found = urlsplit(href)
    except ValueError:
        return ""
    if found.scheme or found.netloc:
        return href if found.scheme in _OUTSIDE else ""
    return _inner(posixpath.dirname(path), unquote(found.path), address)


def _inner(folder: str, named: str, address: Address) -> str:
    """Return the address of the file `named` in `folder`; "": it is not in the artifact."""
    inner = posixpath.normpath(posixpath.join(folder, named)) if named else ""
    return "" if not inner or inner.startswith(("/", "..")) else address(inner)
