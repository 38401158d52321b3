"""The previous versions of a source, counted from the records alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from refnet import wiring
from refnet.catalog.artifact import Made
from refnet.catalog.source_name import Kind, SourceName
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings
from refnet.sources.database.source import Database
from refnet.store.previous_records import DatabaseMark, MarkState, PreviousRecord

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def test_databases_of_one_name_on_two_servers_are_counted_apart(tmp_path: Path) -> None:
    sources = {
        name: SourceSettings(name, "databases", url=f"postgresql://backup@{name}/app")
        for name in ("east", "west")
    }
    settings = Settings(home=tmp_path / "home", backup_dir=tmp_path / "backups", sources=sources)
    east, west = (SourceName(name, Kind.DATABASE) for name in sources)
    for at, (name, system) in enumerate(((east, "11"), (west, "22"), (west, "22")), 1):
        mark = DatabaseMark("app", MarkState.RESTORED, NOW)
        wiring.previous_databases(settings, SourceName.DATABASE).add(
            PreviousRecord(system, f"app_before_{at}", at, "owner", 100 + at, mark)
        )
        with wiring.store(settings).draft(name) as draft:
            draft.out.write(b"")
            details = {"database": "app", "system_identifier": system}
            draft.publish(Made(created=NOW, details=details), NOW, 1.0)

    assert [len(Database(settings, name).recorded()) for name in (east, west)] == [1, 2]
