"""A forged file of a run at work."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refnet.catalog.run import Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.store.run_journal import RunJournal

NOW = datetime(2026, 11, 25, 17, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("id_", ["../precious", "a/../../precious", ".", "", "x" * 300])
def test_the_file_of_a_lost_run_names_no_other_file(tmp_path: Path, id_: str) -> None:
    precious, folder = tmp_path / "precious.running", tmp_path / "runs"
    folder.mkdir()
    precious.write_text("mine")
    forged = json.loads(Run("a", RunKind.BACKUP, SourceName.DATABASE, NOW).to_json())
    (folder / "forged.running").write_text(json.dumps(forged | {"id": id_}))
    journal, run = RunJournal(folder), Run("b", RunKind.BACKUP, SourceName.DATABASE, NOW)
    journal.begin(run)
    journal.end(run)
    assert precious.read_text() == "mine"
    assert [one.id for one in journal.history().runs] == ["b"]
