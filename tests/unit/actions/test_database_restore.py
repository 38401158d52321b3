"""The order in which a restore of the database begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet import servers
from refnet.actions.choose import choose_one
from refnet.actions.context import Context
from refnet.actions.database_restore import restore_of
from refnet.errors import RefnetError
from refnet.recovery.model.artifact import SourceName
from refnet.settings import Settings


def test_a_file_that_is_not_a_dump_starts_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "server", lambda _: pytest.fail("a server was started"))
    context = Context(Settings(home=tmp_path / "home", backup_dir=tmp_path / "backups"))
    (tmp_path / "junk").write_bytes(bytes(range(256)))
    chosen = choose_one(context.store, str(tmp_path / "junk"), SourceName.DATABASE)

    with pytest.raises(RefnetError, match="is not a dump"):
        restore_of(context, chosen)
