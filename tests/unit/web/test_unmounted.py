"""A backup folder whose disk is not mounted: every page says so, and none says that there is nothing, or nothing wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.dashboard import browser

from refnet import wiring
from refnet.actions.choose import choose
from refnet.catalog.artifact import Made
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.settings import Settings, load

SAYS = "is not the store of earlier runs: is the disk mounted?"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a vault with an artifact, whose backup folder is an empty one now."""
    (tmp_path / "vault").mkdir()
    environment = {"REFNET_HOME": str(tmp_path), "REFNET_BACKUP_DIR": str(tmp_path / "backups")}
    found = load(environment | {"REFNET_VAULT_DIR": str(tmp_path / "vault")}, tmp_path, root=True, cores=2)
    store = wiring.store(found)
    with store.lock(SourceName.OBSIDIAN), store.draft(SourceName.OBSIDIAN) as draft:
        draft.out.write(b"x")
        draft.publish(Made(created=NOW, details={}), NOW, 1.0)
    store.remember()
    (tmp_path / "backups").rename(tmp_path / "unmounted")
    (tmp_path / "backups").mkdir()
    return found


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with browser(settings) as found:
        yield found


@pytest.mark.parametrize("path", ["/", "/timeline", "/stores", "/restore?source=obsidian"])
def test_a_page_reports_an_unmounted_disk_instead_of_an_empty_list(client: TestClient, path: str) -> None:
    text = client.get(path).text
    assert SAYS in text
    for said in ("There is no artifact", "No artifact.", "No day of these months is missed", "0 (0 B)"):
        assert said not in text


def test_the_timeline_says_why_a_never_listed_store_shows_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "refnet.toml").write_text(
        f'backup_dir = "{tmp_path}/backups"\nvault_dir = "{tmp_path}/vault"\n[stores.far]\nurl = "file://{tmp_path}/file/far"\n'
    )
    (tmp_path / "refnet.toml").chmod(0o600)
    with browser(load({"REFNET_HOME": str(tmp_path)}, tmp_path, root=True, cores=2)) as client:
        text = client.get("/timeline?source=obsidian&store=far").text
        card = client.get("/stores").text
    assert 'role="alert"' in text
    assert "There is no artifact" not in text
    assert "never checked whether it refuses to delete" in card


def test_a_restore_asks_for_the_disk_and_not_for_a_backup(settings: Settings) -> None:
    with pytest.raises(RefnetError, match="is the disk mounted") as refused:
        choose(wiring.store(settings), [SourceName.OBSIDIAN])
    assert refused.value.hint.startswith("Mount it.")
