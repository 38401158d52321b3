"""The page of the settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.dashboard import browser
from tests.unit.test_settings_report import SECRETS, URLS, examined, with_every_secret

from refnet.context import examine_settings
from refnet.settings import keys, variable

TOKEN = SECRETS["web.token"]


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    with_every_secret(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REFNET_HOME", str(folder / "home"))
    for key, value in SECRETS.items():
        monkeypatch.setenv(variable(key), value)
    return browser(examine_settings().valid(), Authorization=f"Bearer {TOKEN}")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    for name in ("REFNET_CONFIG", "REFNET_BACKUP_DIR", "REFNET_LOG_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    with opened(tmp_path, monkeypatch) as found:
        yield found


def test_every_setting_is_shown_and_no_secret(client: TestClient) -> None:
    said = client.get("/settings")
    assert said.status_code == 200
    assert "hunter2" not in said.text
    assert said.text.count("(hidden)") == len(SECRETS) + len(URLS)  # those of a database and a cluster
    for key in keys():
        assert f"<code>{key}</code>" in said.text
    assert "<code>databases.shop.url</code>" in said.text
    assert "No setting is wrong." in said.text


def test_a_search_needs_no_script_and_finds_no_secret(client: TestClient) -> None:
    found = client.get("/settings?q=Semantic+scholar").text
    assert "<code>crawl.api_key</code>" in found
    assert "<code>jobs</code>" not in found
    said = client.get("/settings?q=hunter2-hunter2").text
    assert "No setting matches." in said
    assert "<code>jobs</code>" not in client.get("/settings?changed=yes").text
    assert "<code>web.token</code>" in client.get("/settings?changed=yes").text


def test_a_search_is_shown_as_text(client: TestClient) -> None:
    said = client.get("/settings", params={"q": '"><script>alert(1)</script>'}).text
    assert "<script>alert" not in said


def test_a_problem_of_the_file_is_seen_before_the_next_start(client: TestClient, tmp_path: Path) -> None:
    examined(tmp_path, 'jobs = 0\n[schedule]\ndatabase = "<b>daily</b>"\n[notify]\nurls = "mailto:hunter2"\n')
    said = client.get("/settings").text
    assert said.count('role="alert"') == 3
    assert "<b>daily" not in said
    assert "hunter2" not in said
    assert "No setting is wrong." not in said
    assert "<code>jobs</code>" in said


def test_a_value_the_server_does_not_use_yet_is_named_without_secrets(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examined(tmp_path, "jobs = 1\n")
    monkeypatch.setenv("REFNET_CRAWL_API_KEY", "hunter2-changed")
    said = client.get("/settings").text
    assert "other values of: jobs, crawl.api_key" in said
    assert "hunter2" not in said


def test_the_page_is_japanese_for_a_japanese_browser(client: TestClient) -> None:
    assert "設定に誤りはありません。" in client.get("/settings", headers={"Accept-Language": "ja"}).text
