"""Query parameters of the web API, the form of a crawl, ids and neighbours of papers: a value or one clear error."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.fuzz.harness import ECHO, fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.core.member_names import checked
from refnet.network.crawls import DEEPEST
from refnet.network.layout import Links
from refnet.network.search import Sort, page_query
from refnet.web import papers, picture
from refnet.web.contents import Part, address, rendered, view
from refnet.web.pages import crawls, network
from refnet.web.work import SEEDS

_NAMES = [*papers.PapersQuery.model_fields, "x"]


@given(
    st.dictionaries(
        st.sampled_from(_NAMES),
        st.text() | st.integers().map(str) | st.sampled_from(["true", "1e9", "-1.7", "12.345"]),
    )
)
@fuzzed
def test_query_parameters(given_: dict[str, str]) -> None:
    asked = outcome(lambda: papers.PapersQuery.model_validate(given_), ValidationError, longest=20_000)
    if asked is not None:
        assert 1 <= asked.limit <= papers.MOST
        found = asked.filters
        values = [one for value in found.values() for one in (value if isinstance(value, list) else [value])]
        values = [value for value in values if isinstance(value, str)]
        assert not any("\x00" in value for value in values)
        # they are put into a tsquery, where other letters are operators
        assert all(word.isalnum() for word in (*found.get("words", ()), *found.get("author", ())))
        query = page_query(found, Sort(asked.sort), papers._ROW, after=asked.cursor is not None)
        assert not any(len(value) > 12 and value in query for value in values)


_FIELD = st.text(max_size=60) | st.sampled_from(
    ["10.1/a", "arXiv:1706.03762 10.1/b", "0", "7", "9" * 5000, "both"]
)


@given(st.fixed_dictionaries(dict.fromkeys(crawls._EMPTY, _FIELD)))
@fuzzed
def test_the_form_of_a_crawl(wanted: dict[str, str]) -> None:
    asked = outcome(lambda: crawls._order(wanted), longest=ECHO)
    if asked is not None:
        assert 1 <= len(asked.seeds) <= SEEDS
        assert 0 <= asked.depth <= DEEPEST


@given(st.sampled_from([*network._SITES, "url"]), st.text() | st.from_regex(r"\A10\.[0-9]{1,4}/[!-~]+\Z"))
@fuzzed
def test_an_external_id_leads_to_its_own_site_or_nowhere(scheme: str, value: str) -> None:
    link = network.link_of(scheme, value)
    if link is not None:
        assert link.startswith(network._SITES[scheme])
        assert urlsplit(link).hostname == urlsplit(network._SITES[scheme]).hostname
        assert not set(link) & set("\"'<>\\ \n#?")


_PAPER = st.fixed_dictionaries(
    {
        "id": st.integers(1, 60),
        "title": st.none() | st.text(),
        "year": st.none() | st.integers(1000, 2999),
        "citation_count": st.none() | st.integers(0, 2**31 - 1),
    }
)
_SIDE = st.lists(_PAPER, max_size=50, unique_by=lambda one: one["id"])


@given(_PAPER, _SIDE, _SIDE, st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=400))
@fuzzed
def test_every_neighbourhood_is_a_picture_within_bounds(
    seed: dict[str, Any], references: list[Any], citing: list[Any], citations: list[tuple[int, int]]
) -> None:
    paper = seed | {"references": {"papers": references}, "citations": {"papers": citing}}
    drawn = picture.picture(paper, Links(tuple(citations), tuple(citations)))
    assert len(drawn.nodes) <= picture.NEIGHBOURS + 1
    assert (drawn.own + drawn.others).count("L") <= picture.LINES
    assert all(0 < one.x < picture.WIDTH and 0 < one.y < drawn.height for one in drawn.nodes)


@given(
    st.binary(max_size=200)
    | st.sampled_from([b"path=%ff", b"path=../../etc/passwd", b"path=a%00", b"page=\xb2"])
)
@fuzzed
def test_the_part_of_an_artifact_that_an_address_names(query: bytes) -> None:
    part = outcome(lambda: Part.of(Request({"type": "http", "query_string": query})), longest=ECHO)
    if part is not None:
        assert not part.path or checked(os.fsencode(part.path)) == part.path
        assert part.first >= 0
        again = address("notes", "a", path=part.path).partition("?")[2].encode()
        assert Part.of(Request({"type": "http", "query_string": again})).path == part.path


class _Tags(HTMLParser):
    """What a browser makes of HTML: its tags, and its attributes with their values."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.attributes = set[str](), set[tuple[str, str | None]]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {*attrs}


_TAGS = {
    *(
        "p",
        "a",
        "code",
        "pre",
        "em",
        "strong",
        "s",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "blockquote",
        "hr",
        "br",
    ),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
_MARKS = st.text(alphabet="[]()<>!*_`~#|-:\\\n \tab/.&;\"'=%", max_size=200)
_LINKS = st.sampled_from(
    [
        "javascript:alert(1)",
        "//evil/x",
        "data:text/html,x",
        "../../../etc/passwd",
        "a.md",
        "http://e.org/",
        "&#106;s:x",
    ]
).map(lambda link: f"[a]({link}) <{link}> ![b]({link})\n\n[c]\n\n[c]: {link}")


@given(_MARKS | texts | _LINKS | st.lists(_MARKS | _LINKS, max_size=8).map("\n".join), texts)
@example("<img src=x onerror=alert(1)><script>alert(1)</script><svg/onload=x>", "a/b.md")
@fuzzed
def test_markdown_becomes_harmless_html(text: str, path: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    html = rendered(
        text,
        path,
        lambda inner: address("notes", "a", "/file", path=inner),
        lambda names: dict.fromkeys(names, path),
    )
    found = _Tags(html)
    assert found.tags <= _TAGS
    for name, value in found.attributes:
        assert name in {"href", "rel", "class", "start"}, html
        link = value if name == "href" else "http://x"
        assert re.match(r"https?://|mailto:|/artifacts/notes/a/file\?path=", link or "", re.IGNORECASE), link


@given(texts, st.binary(max_size=400) | texts.map(lambda one: one.encode("utf-8", "replace")))
@example("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
@example("a.png", b"\x89PNG\r\n\x1a\n<script>")
@fuzzed
def test_every_file_is_shown_as_text_or_an_image_or_not(path: str, data: bytes) -> None:
    shown = outcome(lambda: view(path, data, lambda inner: "/" + inner, lambda _: {}), longest=ECHO)
    assert shown is not None
    assert re.match(r"(data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]*)?\Z", shown.image)
    assert all(one.isprintable() or one in "\t\n" for one in shown.text)
