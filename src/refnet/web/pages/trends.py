"""`/trends`: free space and when it ends, sizes, durations and recovery times of a source, and what each night sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from fastapi import APIRouter, Request, Response

from refnet.catalog import trends
from refnet.catalog.cluster_base import facts_of
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import SourceName
from refnet.catalog.trends import Night, Point
from refnet.telemetry.facts import is_proof
from refnet.web.pages.base import language_of, page, reading, translated
from refnet.web.pages.runs import malformed
from refnet.web.pages.timeline import chart, named, size_chart
from refnet.web.shared_facts import Artifacts, artifacts

router = APIRouter(include_in_schema=False)
#: The most points of a chart, and the most nights of the table.
CHARTED, NIGHTS = 1000, 60


@dataclass(frozen=True)
class Trends:
    """The content of the page."""

    source: SourceName | None
    #: Of the source: complete artifacts, oldest first; moment and seconds of each passed proof or drill.
    entries: tuple[Entry, ...]
    recoveries: tuple[tuple[datetime, float], ...]
    #: Of the backup folder, whatever the source: moment and free bytes.
    free: tuple[Point, ...]
    #: How long until it is full; None: unknown, or it does not fill.
    full_in: timedelta | None
    nights: tuple[Night, ...]
    #: Artifact → its size in bytes.
    made: Mapping[str, int]
    #: The sizes that can be compared: not those of increments.
    comparable: tuple[int, ...]
    #: The remote stores of any night.
    stores: tuple[str, ...]

    @property
    def unusual(self) -> dict[str, tuple[float, float]]:
        """Name of a trend → its last value and the usual one, where the last is more than twice as much."""
        last: dict[str, Sequence[float]] = {
            "duration": [one.manifest.seconds for one in self.entries],
            "recovery": [seconds for _, seconds in self.recoveries],
            "size": self.comparable,
        }
        return {
            name: (found[-1], usual)
            for name, found in last.items()
            if (usual := trends.unusual(found)) is not None
        }

    def size_of(self, night: Night) -> int | None:
        """Return the bytes of the artifacts of a night that are still there; None: none is."""
        sizes = [self.made[name] for name in night.artifacts if name in self.made]
        return sum(sizes) if sizes else None


def read(found: Artifacts, name: str) -> Trends:
    """Return the trends of the source `name` ("": the first one); RefnetError (USAGE) if it does not exist."""
    facts = found.facts
    source = next((one for one in found.sources if name in {"", one}), None)
    if name and source is None:
        raise malformed("source", name, f"The sources are: {', '.join(found.sources) or 'none'}.")
    entries = [one for one in facts.own.of_source(source) if one.complete][-CHARTED:] if source else []
    proofs = {
        (line.at, line.seconds) for one in entries for line in (*one.earlier, *one.evidence) if is_proof(line)
    }
    proofs |= {(line.at, line.seconds) for line in (facts.drills(source) if source else ()) if is_proof(line)}
    free = trends.free_space(facts.history)[-CHARTED:]
    days = trends.nights(facts.history, facts.schedule.zone, NIGHTS)
    return Trends(
        source,
        tuple(entries),
        tuple(sorted(proofs)[-CHARTED:]),
        free,
        trends.full_in(free, facts.now),
        days,
        {one.name: one.manifest.size for one in facts.own.entries},
        tuple(one.manifest.size for one in entries if not (base := facts_of(one)) or base.of_full),
        tuple(sorted({name for day in days for name in day.sent})),
    )


@router.get("/trends")
async def trends_page(request: Request, source: str = "") -> Response:
    """Show the trends of one source, and of the backup folder."""
    found = await artifacts(request)
    shown = await reading(request, "the backup folder", partial(read, found, source))
    say = partial(translated, language=language_of(request))
    charts = {
        "sizes": size_chart(request, shown.entries),
        "recoveries": chart([(say("Recovery time (RTO)"), "seconds", shown.recoveries)]),
        "free": chart([(say("Free space"), "bytes", shown.free)]),
    }
    return page(
        request, "trends.html.j2", found=found, facts=found.facts, shown=shown, charts=charts,
        zone=named(found.facts.schedule.zone), soon=trends.SOON, period=trends.PERIOD.days,
    )  # fmt: skip
