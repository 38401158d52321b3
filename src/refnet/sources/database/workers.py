"""The workers of a dump, a load or a comparison."""

from __future__ import annotations

from dataclasses import dataclass

from refnet.catalog.artifact import Progress, silent
from refnet.postgres.binaries import Binaries


@dataclass(frozen=True)
class Workers:
    """Parallel workers of a dump, a load or a comparison."""

    #: PostgreSQL's client programs, of the server's major or newer.
    binaries: Binaries
    #: How many run at once.
    jobs: int
    #: Gets the bytes that a dump has copied (on the server's disk), or that a load or comparison has read (COPY text).
    progress: Progress = silent
