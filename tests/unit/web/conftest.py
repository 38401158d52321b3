"""A REFNET_HOME for children, and browsers on a dashboard with a token and without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.dashboard import TOKEN, browser

from refnet.settings import Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("REFNET_HOME", str(tmp_path))
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    monkeypatch.setenv("REFNET_BACKUP_DIR", str(tmp_path / "backups"))
    (tmp_path / "web").mkdir(mode=0o700)
    yield tmp_path
    for lock in (tmp_path / "web").glob("*.lock"):  # whatever a test has left at work
        (lock.with_suffix(".stop")).touch()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[TestClient]:
    with browser(Settings(home=tmp_path, backup_dir=tmp_path / "backups", web_token=TOKEN)) as found:
        yield found


@pytest.fixture
def local(tmp_path: Path) -> Iterator[TestClient]:
    with browser(Settings(home=tmp_path, backup_dir=tmp_path / "backups")) as found:
        yield found
