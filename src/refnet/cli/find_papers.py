"""`refnet find-papers`, and the seeds of `refnet crawl --from` and `--search`: found, shown, and taken after a yes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refnet import servers
from refnet.cli import options
from refnet.cli.context import confirm, current_settings, note, print_json, progress
from refnet.cli.output import output, say
from refnet.cli.render import print_columns
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain, plural
from refnet.settings import Settings

if TYPE_CHECKING:
    from refnet.network.find_papers import FoundPapers

#: The most papers of a search, as many as Semantic Scholar gives at once.
_MOST = 100
_TOP = Annotated[
    int, typer.Option(min=1, max=_MOST, metavar="N", help="The maximum number of papers of a search.")
]


@dataclass(frozen=True)
class SeedOptions:
    """Where seeds come from, besides ids."""

    bibliography: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="The papers of a .bib, .ris, CSL-JSON, .csv or list of ids, or of notes with `doi:`.",
        ),
    ] = None
    search: Annotated[
        str | None, typer.Option(metavar="WORDS", help="The papers that Semantic Scholar finds.")
    ] = None
    top: _TOP = 10
    yes: Annotated[bool, typer.Option("--yes", help="Take what was found without asking.")] = False

    @property
    def given(self) -> bool:
        return bool(self.bibliography or self.search)


def find_papers(
    words: Annotated[
        list[str], typer.Argument(metavar="WORDS", help="Words of the title, the abstract, an author's name.")
    ],
    *,
    top: _TOP = 10,
    as_json: options.Json = False,
) -> None:
    """Search Semantic Scholar for papers.

    It prints ids for `refnet crawl`, collects nothing, and needs no database.
    """
    from refnet.network.find_papers import finder

    asked = " ".join(words)
    with finder(None, current_settings(), note) as at:
        found = at.search(asked, top)
    if as_json:
        print_json(found.to_json())
        return
    _show(found, with_ids=True)
    if not found.candidates:
        raise RefnetError(f"Semantic Scholar finds no paper for '{asked}'", "Use fewer or other words.")


def planned(settings: Settings, seeds: SeedOptions) -> str:
    """Say what `choose` would do; it reads the bibliography, and asks no server."""
    parts = []
    if seeds.bibliography:
        from refnet.network.bibliography import read

        found = read(seeds.bibliography)
        ids = sum(bool(one.id) for one in found.entries)
        titles = plural(len(found.entries) - ids, "title")
        parts.append(f"look up {plural(ids, 'id')} and {titles} of {seeds.bibliography}")
        parts += [f"leave out {seeds.bibliography}, {problem}" for problem in found.problems]
    if seeds.search:
        parts.append(f"search for '{seeds.search}'")
    return f"{'; '.join(parts)}; at {settings.crawl_semantic_scholar_url}, and crawl what is confirmed"


def choose(settings: Settings, seeds: SeedOptions, *, as_json: bool) -> FoundPapers:
    """Find and show the papers of `seeds`; return them after a yes. RefnetError (CONFIRM) without one."""
    if as_json and not seeds.yes:
        raise RefnetError("--json cannot ask whether to crawl what was found", "Add --yes.", Exit.USAGE)
    found = _found(settings, seeds)
    if not as_json:
        _show(found)
    if not found.candidates:
        unmatched = f": {plain(found.unmatched[0])}" if found.unmatched else ""
        raise RefnetError(f"no paper was found{unmatched}", "Give ids: `refnet crawl ID…`.")
    papers = plural(len(found.candidates), "paper")
    confirm(
        f"Crawl from {papers}?",
        force=seeds.yes,
        what=f"the crawl would start from {papers}",
        option="--yes",
    )
    return found


def _found(settings: Settings, seeds: SeedOptions) -> FoundPapers:
    from refnet.network.bibliography import read
    from refnet.network.find_papers import FoundPapers, finder
    from refnet.network.migrate import migrate

    bibliography = read(seeds.bibliography) if seeds.bibliography else None
    target = servers.server(settings)
    migrate(target)  # the rate of requests is kept there
    found = FoundPapers()
    with finder(target, settings, note) as at:
        if bibliography:
            with progress("look up") as shown:
                found = at.match(bibliography, shown)
        if seeds.search:
            found.add(at.search(seeds.search, seeds.top).candidates)
    return found


def _show(found: FoundPapers, *, with_ids: bool = False) -> None:
    """Print the papers with year and citations, and what was not found."""
    if output.quiet:
        return
    if found.candidates:
        head = ("year", "citations", "author", "title", "id" if with_ids else "from")
        rows = [
            (
                str(one.year or "-"),
                "-" if one.citations is None else f"{one.citations:,}",
                one.author,
                one.title,
                one.id if with_ids else one.where,
            )
            for one in found.candidates
        ]
        print_columns([head, *rows], right=(1,), shorten=3)
    for sentence in found.unmatched:
        say(f"not found: {plain(sentence)}")
