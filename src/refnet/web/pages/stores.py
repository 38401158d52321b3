"""`/stores`: the backup folder, each remote store, and the places of each artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from refnet.actions.store import can_prune
from refnet.catalog.catalog import kept_bytes
from refnet.catalog.manifest import Entry
from refnet.catalog.monitoring_stores import StoreCheck
from refnet.catalog.remote_state import StoreState
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.settings.stores import StoreSettings
from refnet.web.pages.base import overview_page, reading
from refnet.web.shared_facts import Artifacts, CopyPlace

router = APIRouter(include_in_schema=False)
#: Limits: artifacts on a page, lines of one kind per store, the number of a page.
ROWS, LINES, HIGHEST = 50, 10, 1_000_000


@dataclass(frozen=True)
class Card:
    """A remote store on the page."""

    state: StoreState
    settings: StoreSettings
    #: The last check for refused deletions; None: never checked.
    check: StoreCheck | None
    #: Source → retention of its copies, as text.
    kept: Mapping[SourceName, str]

    @property
    def damaged(self) -> int:
        """The number of damaged copies."""
        return sum(copy.damaged for copy in self.state.copies)

    @property
    def can_prune(self) -> bool:
        """Whether this machine may delete in the store."""
        return can_prune(self.settings)


@dataclass(frozen=True)
class ArtifactRow:
    """An artifact, and its places."""

    entry: Entry
    #: The state in the backup folder, or `none`.
    here: str
    places: Mapping[str, CopyPlace]


@dataclass(frozen=True)
class Stores:
    """The content of the page."""

    cards: tuple[Card, ...]
    rows: tuple[ArtifactRow, ...]
    #: The number of artifacts on all pages.
    total: int
    #: The number of the page, from 1.
    number: int


def stores(found: Artifacts, source: str, number: int) -> Stores:
    """Return the stores, and page `number` of the artifacts of `source` ("": all)."""
    wanted = [one for one in found.all if source in {"", one.source}]
    here = {id(entry) for entry in found.here.values()}
    rows = tuple(
        ArtifactRow(one, one.state if id(one) in here else "none", found.places(one))
        for one in wanted[(number - 1) * ROWS : number * ROWS]
    )
    cards = tuple(_card(found, name, state) for name, state in found.stores.items())
    return Stores(cards, rows, len(wanted), number)


def _card(found: Artifacts, name: str, state: StoreState) -> Card:
    kept = {
        source: str(found.retention(source, name) or "")
        for source in found.sources
        if source in state.sources
    }
    return Card(state, found.settings.stores[name], found.facts.store_checks.get(name), kept)


@router.get("/stores")
async def stores_page(
    request: Request, source: str = "", number: Annotated[int, Query(alias="page", ge=1, le=HIGHEST)] = 1
) -> Response:
    """Show every store, and one page of artifacts."""
    return await overview_page(request, "stores.html.j2", partial(_values, request, source, number))


async def _values(request: Request, source: str, number: int, found: Artifacts) -> dict[str, Any]:
    shown = await reading(request, "the backup folder", lambda: stores(found, source, number))

    def link(to: int) -> str:
        return f"/stores?{urlencode({'source': source, 'page': to})}#artifacts"

    own = next((one for one in found.facts.stores if one.name == LOCAL), None)
    return {
        "found": found,
        "facts": found.facts,
        "shown": shown,
        "source": source,
        "most": LINES,
        "before": link(number - 1) if number > 1 else "",
        "after": link(number + 1) if number * ROWS < shown.total else "",
        "own": own,
        "own_bytes": own.total.stored if own else kept_bytes(found.here.values()),
        "unlisted": own.unlisted if own else found.facts.unlisted,
    }
