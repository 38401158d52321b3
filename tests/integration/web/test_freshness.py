"""What has changed is on every page within 5 s, although all browsers share the pages."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from tests.serving import Served

from refnet.catalog.artifact import Made
from refnet.catalog.run import Ended, Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.store.local import LocalStore
from refnet.store.run_journal import RunJournal

DATABASE = SourceName.DATABASE
#: In seconds.
OLDEST = 5.0


def backed_up(environment: dict[str, str], number: int) -> str:
    """Publish an artifact, and record the run that made it; return its name."""
    store, now = LocalStore(Path(environment["REFNET_BACKUP_DIR"])), datetime.now(UTC).replace(microsecond=0)
    with store.draft(DATABASE) as draft:
        draft.out.write(bytes(1024 + number))
        name = draft.publish(Made(created=now, details={}), now, 1.0).name
    run = Run(f"{number:012x}", RunKind.BACKUP, DATABASE, now, Ended.DONE, 1.0, artifact=name)
    RunJournal(Path(environment["REFNET_HOME"], "runs")).end(run)
    return name


def test_a_new_artifact_is_on_the_overview_the_timeline_the_stores_and_the_runs_within_5_s(
    served: Served, environment: dict[str, str]
) -> None:
    for number in range(2):
        waiting = {"/": "", "/timeline": "", "/stores": "", "/runs": ""}
        for path in waiting:
            assert served.ask(path, Accept="text/html").status == 200  # so that it was just made
        name, begun = backed_up(environment, number), time.monotonic()
        seconds = {}
        while waiting:
            for path in [*waiting]:
                if name in served.ask(path, Accept="text/html").body.decode():
                    seconds[path] = time.monotonic() - begun
                    del waiting[path]
            assert time.monotonic() < begun + 60, waiting
        assert max(seconds.values()) < OLDEST, seconds
