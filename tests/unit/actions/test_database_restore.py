"""The order in which a restore of the database begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet import servers
from refnet.actions.choose import choose_one
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.postgres.session import Target
from refnet.settings import Settings
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.database_restore import restore_of
from refnet.sources.restoring import RestoreRequest


def test_a_file_that_is_not_a_dump_starts_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "server", lambda *_: pytest.fail("a server was started"))
    context = Context(Settings(home=tmp_path / "home", backup_dir=tmp_path / "backups"))
    (tmp_path / "junk").write_bytes(bytes(range(256)))
    chosen = choose_one(context.store, str(tmp_path / "junk"), SourceName.DATABASE)

    with pytest.raises(RefnetError, match="is not a dump"):
        restore_of(context, SourceName.DATABASE, chosen, RestoreRequest())


def test_the_schema_of_an_artifact_is_not_read_before_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore of single tables reads their rows alone: damage elsewhere does not stop it."""
    (golden,) = (Path(__file__).parents[2] / "golden" / "backups" / "database").glob("*.gz")
    (member,) = Reader(golden.name, lambda: golden.open("rb")).index.members_of(MemberKind.PRE)
    data = bytearray(golden.read_bytes())
    data[member.offset + member.length // 2] ^= 0xFF
    (tmp_path / golden.name).write_bytes(data)

    def start(*_: object) -> Target:
        raise RefnetError("the server is next", "")

    monkeypatch.setattr(servers, "existing_server", start)
    context = Context(Settings(home=tmp_path / "home", backup_dir=tmp_path / "backups"))
    chosen = choose_one(context.store, str(tmp_path / golden.name), SourceName.DATABASE)

    with pytest.raises(RefnetError, match="the server is next"):
        restore_of(context, SourceName.DATABASE, chosen, RestoreRequest(tables=("papers",)))
