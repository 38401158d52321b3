"""The settings as `refnet settings` and the page of the settings show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refnet.settings import Examined, all_keys, examine, keys, variable
from refnet.settings.report import ShownSetting, report, text_of

SECRETS = {
    "database_url": "postgresql://u:hunter2@h/db",
    "broker_url": "redis://:hunter2@h/0",
    "notify.urls": "mailtos://user:hunter2@example.org",
    "notify.backup_ping": "https://example.org/hunter2/{source}",
    "notify.drill_ping": "https://example.org/hunter2/{source}",
    "crawl.api_key": "hunter2-of-the-crawl",
    "crawl.openalex_key": "hunter2-of-openalex",
    "summarize.api_key": "hunter2-of-the-model",
    "database.restore_url": "postgresql://keeper:hunter2@h/db",
    "web.token": "hunter2-of-the-pages-4711",
    "web.metrics_token": "hunter2-of-Prometheus-0815",
}
_NAMED = """
[databases.shop]
url = "postgresql://u:hunter2@shop/db"
restore_url = "postgresql://w:hunter2@shop/db"
[clusters.main]
url = "postgresql://u:hunter2@main/postgres"
restore_url = "postgresql://w:hunter2@main/postgres"
[folders.notes]
path = "/srv/notes"
"""
URLS = ("databases.shop.", "databases.shop.restore_", "clusters.main.", "clusters.main.restore_")


def examined(folder: Path, text: str = "", **environment: str) -> Examined:
    file = folder / "refnet.toml"
    file.write_text(text)
    file.chmod(0o600)
    given = {"REFNET_HOME": str(folder / "home"), **environment}
    return examine(given, folder, root=False, cores=3)


def shown(found: Examined) -> dict[str, ShownSetting]:
    return {one.key: one for one in report(found)}


def with_every_secret(folder: Path) -> Examined:
    return examined(folder, _NAMED, **{variable(key): value for key, value in SECRETS.items()})


def test_every_setting_has_a_description_in_one_sentence_or_more(tmp_path: Path) -> None:
    found = with_every_secret(tmp_path)
    assert not found.problems
    for one in report(found):
        assert one.description[0].isupper(), one.key
        assert one.description.endswith("."), one.key
        assert "None" not in one.description, one.key
    assert shown(found)["exclude.obsidian"].description == shown(found)["exclude.config"].description


def test_no_secret_is_shown_whatever_is_set(tmp_path: Path) -> None:
    found = with_every_secret(tmp_path)
    secret = {key for key, field in all_keys(found.settings.named).items() if field.metadata["secret"]}
    assert secret == {*SECRETS, *(f"{one}url" for one in URLS)}  # a new one belongs here
    listed: Any = [one.to_json() for one in report(found)]
    assert "hunter2" not in str(listed)
    assert {one["key"] for one in listed if one["value"] == "(hidden)"} == secret


def test_a_value_has_its_origin_and_what_it_would_be_without_settings(tmp_path: Path) -> None:
    found = shown(examined(tmp_path, f'jobs = 1\nbackup_dir = "{tmp_path}/b"\n{_NAMED}'))
    assert (found["jobs"].value, found["jobs"].default) == (1, 3)
    assert found["jobs"].origin.endswith("refnet.toml")
    assert found["backup_dir"].default != found["backup_dir"].value
    assert (found["recover.seconds"].origin, found["recover.seconds"].default) == ("the default", 120)
    assert found["databases.shop.schedule"].default == "as schedule.database"
    assert found["folders.notes.one_file_system"].default == "as one_file_system"
    assert (found["schedule.database"].default, found["hooks.on_error"].default) == ("daily 02:00", [])


def test_a_wrong_setting_has_no_value(tmp_path: Path) -> None:
    found = shown(examined(tmp_path, "jobs = 0\n"))
    assert (found["jobs"].valid, found["jobs"].value, text_of(found["jobs"].value)) == (
        False,
        None,
        "not set",
    )
    assert all(found[key].valid for key in keys() if key != "jobs")


def test_a_flag_is_shown_as_it_is_written() -> None:
    assert [text_of(one) for one in (True, False, None, ["a", "b"], 3)] == [
        "true",
        "false",
        "not set",
        "a, b",
        "3",
    ]
