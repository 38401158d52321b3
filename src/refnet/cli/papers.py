"""`refnet papers`: search in the stored papers, as the page and the API do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from refnet import servers
from refnet.cli import options
from refnet.cli.completion import choice
from refnet.cli.context import current_settings, print_json
from refnet.cli.output import say
from refnet.cli.render import print_columns
from refnet.core.formatting import utf8
from refnet.network import SESSION, known, server_errors
from refnet.network.search import SearchText, Sort, search, words_of
from refnet.servers import ActsOn

#: The most authors of a line.
_NAMED = 3


def papers(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Words or their beginnings, a DOI, a URL; default: all papers."),
    ] = None,
    *,
    author: Annotated[str | None, typer.Option(metavar="NAME", help="A part of an author's name.")] = None,
    year: Annotated[int | None, typer.Option(min=1000, max=2999, metavar="YEAR", help="The year.")] = None,
    venue: Annotated[str | None, typer.Option(metavar="NAME", help="The complete name of the venue.")] = None,
    sort: Annotated[
        Sort,
        typer.Option(metavar="|".join(Sort), help="What comes first.", **choice("sort order", Sort)),
    ] = Sort.CITATIONS,
    top: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="The number of papers to show.")
    ] = 20,
    as_json: options.Json = False,
) -> None:
    """Search the stored papers.

    Quoted words are a phrase: refnet papers '"citation graph"'. Accents and case do not matter.
    """
    filters: dict[str, Any] = SearchText.read(" ".join(words)).values() if words else {}
    filters |= {"author": words_of(author)} if author else {}
    filters |= {"year": year} if year else {}
    filters |= {"venue": utf8(venue)} if venue else {}
    settings = current_settings()
    target = known(servers.existing_server(settings))
    hint = "`refnet network migrate` creates the network's tables."
    with server_errors(target, "has no papers", hint), target.connect(SESSION | {"jit": "off"}) as session:
        found, complete = search(session, filters, sort, top)
    if as_json:
        print_json({"papers": found, "complete": complete, **ActsOn.of(settings).to_json()})
        return
    say(str(ActsOn.of(settings)))
    if not found:
        say("no paper matches")
        return
    rows = [
        (_number(one["rank"]), str(one["year"] or ""), _number(one["citation_count"]), _named(one))
        for one in found
    ]
    print_columns([("rank", "year", "citations", "paper"), *rows], right=(0, 2))
    if not complete:
        say("more papers match than a search reads: add words")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _named(paper: dict[str, Any]) -> str:
    authors = ", ".join(paper["authors"][:_NAMED]) + (" …" if len(paper["authors"]) > _NAMED else "")
    title = paper["title"] or f"paper {paper['id']}"
    return f"{title} ({authors})" if authors else title
