"""`/api/backups` and `/metrics`: the output of `refnet list --json` and `refnet metrics`. Read-only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Request, Response

from refnet.actions.catalog import listing
from refnet.actions.monitor import facts_of
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.clock import utc_now
from refnet.core.extras import needed
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.web.answers import json_text
from refnet.web.waiting import SECONDS, threaded, within

router = APIRouter()
#: The most artifacts, and the most lines of evidence per artifact.
MOST, LINES = 1000, 20


class Reports:
    """Reports on the backup folder, made in threads, as they read files and query the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = CapacityLimiter(4)
        self._one_at_a_time = threading.Lock()  # the metrics share cached facts
        self._exposition: Callable[[str], tuple[bytes, str]] | None = None

    async def backups(self, limit: int) -> str:
        """Return the newest `limit` artifacts with their evidence, as JSON."""
        return await within(
            SECONDS, "the backup folder", threaded(lambda: self._backups(limit), self._threads)
        )

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics in a format of the header Accept, and their content type."""
        work = threaded(lambda: self._metrics(accept), self._threads)
        return await within(SECONDS, "the backup folder or the database", work)

    def _backups(self, limit: int) -> str:
        found = listing(Context(self._settings), None)
        said = found.to_json()
        evidence = [
            [json.loads(line.to_json()) for line in entry.evidence[-LINES:]] for entry in found.entries
        ]
        all_of_them = [
            {**one, "evidence": lines} for one, lines in zip(said["artifacts"], evidence, strict=True)
        ]
        newest = sorted(all_of_them, key=lambda one: one["created"])[-limit:]
        left_out = len(all_of_them) - len(newest)
        return json.dumps({**said, "artifacts": newest, "left_out": left_out}) + "\n"

    def _metrics(self, accept: str) -> tuple[bytes, str]:
        with needed("metrics"):
            from refnet.telemetry.metrics import exposition
        with self._one_at_a_time:
            if self._exposition is None:
                read = facts_of(self._settings, utc_now)
                self._exposition = lambda accept: exposition(
                    lambda: read(source_of(self._settings, SourceName.DATABASE).whose()), accept
                )
            return self._exposition(accept)


@router.get("/api/backups", tags=["backups"])
async def backups(request: Request, limit: Annotated[int, Query(ge=1, le=MOST)] = 200) -> Response:
    """List the newest artifacts, oldest first, as `refnet list --json`; each with its last lines of evidence."""
    return json_text(await request.app.state.reports.backups(limit))


@router.get("/metrics", tags=["health"])
async def metrics(request: Request) -> Response:
    """Return the metrics for Prometheus, as `refnet metrics` does."""
    text, kind = await request.app.state.reports.metrics(request.headers.get("accept", ""))
    return Response(text, media_type=kind)
