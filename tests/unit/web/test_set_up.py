"""The pages that change the settings file: what they write, what they show first, and what they refuse."""

from __future__ import annotations

import html
import os
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apprise
import pytest
from httpx import Response
from starlette.testclient import TestClient
from tests.dashboard import browser, csrf

from refnet.context import examine_settings
from refnet.core.errors import RefnetError
from refnet.core.files import replace_file
from refnet.settings import converters, urls
from refnet.settings.encryption import parse_recipients, parse_signers
from refnet.settings.known_keys import setting
from refnet.settings.report import description_of
from refnet.settings.sources import TABLES
from refnet.settings.stores import read_credentials, store_url
from refnet.settings.writable import IN_TABLE, PLACES, WRITABLE, Subject
from refnet.web.pages.base import sayings
from refnet.web.pages.set_up import LINES, _lines_of_defaults
from refnet.web.settings_file import LAST_VERSION, SettingsFile, edited

TEXT = """# of the shop
jobs = 2   # two
database_url = "none"
[web]
token = "hunter2-of-the-pages-4711"

[schedule]   # at night
obsidian = "daily 01:00"   # early

# how long
[retention]
obsidian = "days=30"

[folders.photos]   # mine
path = "{photos}"

# stores
[notify]
urls = ["json://localhost/hunter2"]
"""
RECIPIENT = "age14tz0w803r0qyrsla7gxv3mz5uc8t5hu2vrn2jc5q7c70yw7v4uvqq3j25h"
_VERSION = re.compile(r'name="version" value="([0-9a-f]{64})"')


@dataclass
class Place:
    """A settings file, and a browser on the dashboard that was started with it."""

    file: Path
    client: TestClient
    photos: Path

    @property
    def text(self) -> str:
        return self.file.read_text()

    def version(self, **about: str) -> str:
        said = self.client.get("/settings/edit", params=about)
        assert said.status_code == 200, said.text
        found = _VERSION.search(said.text)
        assert found
        return found[1]

    def send(self, path: str, about: dict[str, str], version: str = "", **values: str) -> Response:
        fields = {key.replace("__", "."): value for key, value in values.items()}
        sent = about | {"version": version or self.version(**about), "csrf": csrf(self.client, "/settings")}
        return self.client.post(path, data=sent | fields)

    def write(self, about: dict[str, str], version: str = "", **values: str) -> Response:
        return self.send("/settings/write", about, version, **values)


OBSIDIAN = {"table": "", "name": "obsidian"}
PHOTOS = {"table": "folders", "name": "photos"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in [*os.environ]:
        if name.startswith("REFNET_"):
            monkeypatch.delenv(name)
    for name in ("vault", "photos", "home"):
        (tmp_path / name).mkdir(mode=0o700)
    file = tmp_path / "refnet.toml"
    file.write_text(TEXT.format(photos=tmp_path / "photos"))
    file.chmod(0o640)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    monkeypatch.setenv("REFNET_BACKUP_DIR", str(tmp_path / "backups"))
    monkeypatch.setenv("REFNET_VAULT_DIR", str(tmp_path / "vault"))
    token = "hunter2-of-the-pages-4711"
    with browser(examine_settings().valid(), Authorization=f"Bearer {token}") as client:
        yield Place(file, client, tmp_path / "photos")


def test_the_difference_is_shown_first_and_shows_no_other_line(place: Place) -> None:
    before = place.text
    said = place.send("/settings/edit", PHOTOS, folders__photos__exclude="*.tmp\r\n*.log")
    assert said.status_code == 200, said.text
    assert "+exclude = [&#34;*.tmp&#34;, &#34;*.log&#34;]" in said.text
    assert "hunter2" not in said.text
    assert place.text == before


def test_the_token_of_the_form_may_be_in_the_header_too_and_is_never_a_setting(place: Place) -> None:
    token = csrf(place.client, "/settings")
    sent = OBSIDIAN | {
        "version": place.version(**OBSIDIAN),
        "csrf": token,
        "schedule.obsidian": "daily 04:00",
    }
    said = place.client.post("/settings/edit", data=sent, headers={"X-CSRF-Token": token})
    assert said.status_code == 200, said.text
    assert "+obsidian = &#34;daily 04:00&#34;" in said.text


def test_comments_mode_and_the_last_version_are_kept(place: Place) -> None:
    before = place.text
    values = {"schedule__obsidian": "daily 03:00", "exclude__obsidian": "*.tmp"}
    said = place.write(OBSIDIAN, **values)
    assert (said.status_code, said.headers.get("location")) == (303, "/settings/set-up?written=yes"), (
        said.text
    )
    expected = before.replace('"daily 01:00"', '"daily 03:00"') + '\n[exclude]\nobsidian = ["*.tmp"]\n'
    assert place.text == expected
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o640
    kept = place.file.parent / "home" / LAST_VERSION
    assert (kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == (before, 0o600)
    assert not [one for one in place.file.parent.iterdir() if one.name.startswith(".refnet")]


def test_a_new_key_is_above_the_comments_of_the_next_table_and_an_empty_field_removes_one(
    place: Place,
) -> None:
    general = {"table": "", "name": ""}
    assert place.write(general, schedule__prune="off").status_code == 303
    assert 'early\nprune = "off"\n\n# how long\n' in place.text
    assert place.write(OBSIDIAN, schedule__obsidian="").status_code == 303
    assert "early" not in place.text
    assert (
        place.write(
            PHOTOS, folders__photos__min_bytes="10", folders__photos__one_file_system="true"
        ).status_code
        == 303
    )
    assert f'path = "{place.photos}"\nmin_bytes = 10\none_file_system = true\n\n# stores' in place.text


def test_the_pages_use_what_was_written_without_a_restart(place: Place) -> None:
    place.write(OBSIDIAN, schedule__obsidian="daily 04:56")
    said = place.client.get("/settings/set-up?written=yes").text
    assert "daily 04:56" in said
    assert LAST_VERSION in said
    assert "other values of" not in place.client.get("/settings").text


def test_what_a_server_reads_only_once_is_not_taken_over_with_it(place: Place) -> None:
    place.file.write_text(place.text.replace("jobs = 2", "jobs = 3"))
    assert place.write(OBSIDIAN, schedule__obsidian="daily 04:56").status_code == 303
    assert "other values of: jobs, schedule.obsidian" in place.client.get("/settings").text


WRONG = [
    ("schedule.obsidian", "daily 25:00", "hour must be 0-23"),
    ("retention.obsidian", "days=0", "at least one period"),
    ("exclude.obsidian", "a*b*c*d*e", "too many wildcards"),
    ("exclude.obsidian", "x" * 10_001, "more than 10,000 characters"),
    ("schedule.obsidian", "daily 02:00\nx", "control characters"),
    ("schedule.obsidian", "daily 01:00", "nothing is changed"),
]


def test_what_the_settings_refuse_is_refused_and_stays_typed(place: Place) -> None:
    before, version = place.text, place.version()
    for key, value, why in WRONG:
        for path in ("/settings/edit", "/settings/write"):
            said = place.send(path, OBSIDIAN, version, **{key.replace(".", "__"): value})
            assert said.status_code == 400
            assert why in said.text, said.text
            assert value.split("\n", maxsplit=1)[0] in said.text
    assert place.text == before


OUTSIDE: list[tuple[dict[str, str], str]] = [
    (OBSIDIAN, "hooks.on_error"),
    (OBSIDIAN, "notify.urls"),
    (OBSIDIAN, "encryption.recipients"),
    (OBSIDIAN, "encryption.signers"),
    (OBSIDIAN, "postgres.bin_dir"),
    (OBSIDIAN, "vault_dir"),
    (OBSIDIAN, "web.token"),
    (OBSIDIAN, "retention.database"),
    (PHOTOS, "folders.photos.path"),
    (PHOTOS, "folders.photos.before_backup"),
    (PHOTOS, "folders.photos.exclude]\n[hooks"),
    (PHOTOS, "folders.other.schedule"),
    ({"table": "stores", "name": "nas"}, "stores.nas.credentials_file"),
    ({"table": "stores", "name": "nas"}, "stores.nas.endpoint"),
    ({"table": "databases", "name": "shop"}, "databases.shop.url"),
]


def test_a_key_outside_of_the_list_is_refused(place: Place) -> None:
    before, sent = place.text, {"version": place.version(), "csrf": csrf(place.client, "/settings")}
    for about, key in OUTSIDE:
        said = place.client.post("/settings/write", data=about | sent | {key: "x"})
        assert said.status_code == 400, key
        assert "no page writes the setting" in said.text, key
    assert place.text == before


def test_no_writable_key_names_a_program_a_secret_a_place_or_a_key() -> None:
    """The list is what a page may write; what is dangerous is named here a second time."""
    dangerous = {
        *(converters.hooks, converters.commands, converters.services, converters.compose_service),
        *(converters.absolute_folder, converters.absolute_file, converters.log_folder, converters.entries),
        *(
            urls.apprise_urls,
            urls.web_url,
            urls.ping_url,
            urls.broker_url,
            urls.database_url,
            urls.own_or_url,
        ),
        *(converters.token, converters.header_value, converters.networks, store_url),
        *(parse_recipients, parse_signers),
    }
    in_tables = {f"{table}.x.{key}" for table, keys in IN_TABLE.items() for key in keys}
    for key in WRITABLE | in_tables:
        field = setting(key)
        assert field, key
        assert not field.metadata["secret"], key
        assert field.metadata["convert"] not in dangerous, key
    assert {*IN_TABLE} == {*TABLES, "stores"}
    assert {*PLACES} < {*IN_TABLE}


VALUES = ('"]\n[hooks]\non_error = ["/bin/sh"]', "'''\n", '\\"', "]] #", "\u2028x = 1", "日本\t", "a\rb = 1")


def test_a_value_that_is_toml_stays_a_value(place: Place) -> None:
    for value in VALUES:
        said = place.write(PHOTOS, folders__photos__exclude=value)
        assert said.status_code in {303, 400}
        found = SettingsFile.read(examine_settings().valid()).given.table
        assert found.keys() == {"jobs", "database_url", "web", "schedule", "retention", "folders", "notify"}
        assert found["folders"]["photos"].keys() <= {"path", "exclude"}


def test_a_name_that_no_source_can_have_is_refused(place: Place) -> None:
    before, version = place.text, place.version()
    for name in ("x]\n[hooks", "Ünïx", "all", "a.b", "", "x" * 41, "../x", "photos-globals"):
        about = {"table": "folders", "name": name}
        said = place.write(about, version, **{f"folders__{name}__path": str(place.photos / "a")})
        assert said.status_code == 400, name
    assert place.text == before


def test_a_file_that_changed_meanwhile_is_not_replaced(place: Place) -> None:
    version = place.version(**OBSIDIAN)
    place.file.write_text(place.text + "# by hand\n")
    before = place.text
    for path in ("/settings/edit", "/settings/write"):
        said = place.send(path, OBSIDIAN, version, schedule__obsidian="daily 05:00")
        assert said.status_code == 409
        assert "has changed since this form was made" in said.text
        assert 'value="daily 05:00"' in said.text
        assert place.version(**OBSIDIAN) in said.text
    assert place.text == before


def test_of_two_at_once_one_is_written_and_the_other_refused(place: Place) -> None:
    running, start, said = examine_settings().valid(), threading.Barrier(2), list[str]()

    def change(time: str) -> None:
        file = SettingsFile.read(running)
        draft = file.draft(Subject("", "obsidian"), {"schedule.obsidian": time})
        start.wait(10)
        try:
            file.write(draft)
            said.append(time)
        except RefnetError as error:
            said.append(error.message)

    threads = [threading.Thread(target=change, args=(f"daily 0{n}:30",)) for n in (1, 2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    won = [one for one in said if one.startswith("daily")]
    assert len(won) == 1, said
    assert [one for one in said if "has changed since" in one]
    assert f'obsidian = "{won[0]}"' in place.text


def test_a_linked_file_is_not_written_and_the_lines_to_add_are_shown(place: Place) -> None:
    real = place.file.rename(place.file.with_name("real.toml"))
    place.file.symlink_to(real)
    _refused(place, "is a link", real)
    assert place.file.is_symlink()


def test_a_file_with_a_second_name_is_not_written(place: Place) -> None:
    os.link(place.file, place.file.with_name("other.toml"))
    _refused(place, "has another name too", place.file)


def test_a_file_whose_folder_was_swapped_meanwhile_is_not_written(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's name leads to another one between the check and the write."""
    other = tmp_path.with_name(f"{tmp_path.name}-other")
    other.mkdir()
    (other / "name.toml").write_text("jobs = 1\n")
    os.link(other / "name.toml", other / place.file.name)

    def swap(kept: Path, data: bytes) -> None:
        replace_file(kept, data)
        tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-mine"))
        tmp_path.symlink_to(other)

    monkeypatch.setattr("refnet.web.settings_file.replace_file", swap)
    said = place.write(OBSIDIAN, schedule__obsidian="daily 05:00")
    assert said.status_code == 409
    assert "has another name too" in said.text
    assert (other / "name.toml").read_text() == "jobs = 1\n"
    assert "hunter2" not in (other / place.file.name).read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_in_a_folder_that_may_not_be_written_is_not_written(place: Place) -> None:
    place.file.parent.chmod(0o500)
    try:
        _refused(place, "may not write", place.file)
    finally:
        place.file.parent.chmod(0o700)


def _refused(place: Place, why: str, real: Path) -> None:
    before = real.read_bytes()
    shown = place.send("/settings/edit", OBSIDIAN, schedule__obsidian="daily 05:00")
    assert shown.status_code == 200
    assert why in shown.text
    assert "[schedule]\nobsidian = &#34;daily 05:00&#34;" in shown.text
    assert "Write the settings file" not in shown.text
    said = place.write(OBSIDIAN, schedule__obsidian="daily 05:00")
    assert said.status_code == 409
    assert why in said.text
    assert real.read_bytes() == before


def test_a_new_folder_lies_inside_of_a_source(place: Place, tmp_path: Path) -> None:
    outside, inner = tmp_path / "outside", tmp_path / "vault" / "inner"
    for one in (outside, inner):
        one.mkdir()
    (tmp_path / "vault" / "link").symlink_to(outside)
    about, before = {"table": "databases", "name": "app"}, place.text
    for path in (outside / "app.db", tmp_path / "vault" / "link" / "app.db", tmp_path / "vault", Path("/etc/app.db"),
                 tmp_path / "vault" / ".." / "outside" / "app.db", tmp_path / "home" / "app.db"):  # fmt: skip
        said = place.write(about, databases__app__path=str(path))
        assert said.status_code == 400, path
        assert "only places inside of a folder that is a source already" in said.text
    assert place.text == before
    assert place.write(about, databases__app__path=str(inner / "app.db")).status_code == 303
    assert place.text.endswith(f'\n[databases.app]\npath = "{inner}/app.db"\n')


def test_a_new_source_shows_what_its_retention_will_keep(place: Place, tmp_path: Path) -> None:
    (tmp_path / "vault" / "inner").mkdir()
    about = {"table": "databases", "name": "app"}
    given = {
        "path": str(tmp_path / "vault" / "inner" / "app.db"),
        "schedule": "daily 05:00",
        "retention": "days=7 weekly=4",
    }
    said = place.send(
        "/settings/edit", about, **{f"databases__app__{key}": text for key, text in given.items()}
    )
    assert said.status_code == 200, said.text
    rows = re.findall(
        r'<th scope="row">(\d+) days</th><td class="number">(\d+)</td><td class="number">(.+?)</td>',
        said.text,
    )
    assert [(days, size) for days, _, size in rows] == [("30", "–"), ("365", "–")]
    assert all(9 <= int(count) <= 13 for _, count, _ in rows), rows
    assert "next prune" not in said.text


@pytest.mark.parametrize(("title", "note", "text"), LINES)
def test_the_lines_to_add_by_hand_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, note: str, text: str
) -> None:
    for name in [*os.environ]:
        if name.startswith("REFNET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFNET_HOME", str(tmp_path / "home"))
    places = {"/etc/refnet": tmp_path, "/srv": tmp_path, "/mnt/nas": tmp_path, "age1…": RECIPIENT}
    for before, after in places.items():
        text = text.replace(before, str(after))
    for name in re.findall(r'url_file = "(.+)"', text):
        Path(name).touch(mode=0o600)
        Path(name).write_text(note.partition(": ")[2] + "\n")
    for name in re.findall(r'credentials_file = "(.+)"', text):
        said = re.findall(r"access_key_id|secret_access_key|service_account|\baccount\b|\bkey\b", note)
        Path(name).touch(mode=0o600)
        Path(name).write_text("".join(f'{key} = "{tmp_path}/a"\n' for key in said))
    (tmp_path / "a").touch(mode=0o600)
    (tmp_path / "refnet.toml").touch(mode=0o600)
    (tmp_path / "refnet.toml").write_text(text)
    found = examine_settings().valid()
    for store in found.stores.values():
        if store.credentials_file:
            read_credentials(store.credentials_file, store.place.kind)
    assert all(apprise.Apprise().add(url) for url in found.notify_urls)
    assert found.named or found.notify_urls or found.encryption_recipients, title


def test_what_is_a_source_by_default_is_named_with_the_lines_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("VAULT_DIR", "CONFIG_DIR", "DATABASE_URL", "CONFIG"):
        monkeypatch.delenv(f"REFNET_{name}", raising=False)
    monkeypatch.setenv("REFNET_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "vault").mkdir(parents=True)
    (tmp_path / "refnet.toml").touch(mode=0o600)
    own = _lines_of_defaults(examine_settings().valid())
    assert own == f'vault_dir = "{tmp_path}/home/vault"'
    (tmp_path / "refnet.toml").write_text(f'{own}\n[folders.home]\npath = "{tmp_path}/other"\n')
    assert "obsidian" in examine_settings().valid().sources


def test_a_new_source_is_in_an_entry_of_a_folder_of_which_only_entries_are_protected(
    place: Place, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    for name in ("docs", "secrets"):
        (site / name).mkdir(parents=True)
    (site / "docs" / "link").symlink_to(site / "secrets")
    place.file.write_text(f'{place.text}\n[folders.site]\npath = "{site}"\nentries = ["a|docs/?"]\n')
    for table, path in (("databases", "secrets/app.db"), ("folders", "secrets"), ("folders", "docs/link")):
        about = {"table": table, "name": "app"}
        said = place.write(about, **{f"{table}__app__path": str(site / path)})
        assert said.status_code == 400, path
        assert "only places inside of a folder that is a source already" in said.text
    said = place.write({"table": "folders", "name": "app"}, folders__app__path=str(site / "docs"))
    assert said.status_code == 303, said.text


def test_a_difference_shows_what_cannot_be_printed(place: Place) -> None:
    said = place.send("/settings/edit", PHOTOS, folders__photos__exclude="a\u202etxt.b")
    assert said.status_code == 200, said.text
    assert "\u202e" not in said.text.partition("<form")[0]


def test_a_new_store_is_a_bucket_without_options_and_secrets(place: Place) -> None:
    before, version = place.text, place.version()
    for url in (
        "file:///mnt/nas", "rclone:remote:path", "s3://bucket/p?credentials_file=/etc/x", "s3://key:secret@bucket/p",
        "s3://bucket?endpoint=https://evil.example", "sftp://user:password@host/folder", "x",
    ):  # fmt: skip
        said = place.write({"table": "stores", "name": "off"}, version, stores__off__url=url)
        assert said.status_code == 400, url
    assert place.text == before


def test_no_source_is_lost_by_adding_another(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The vault in REFNET_HOME is a source by default, until a table names one."""
    for folder in (tmp_path / "conf", tmp_path / "home" / "vault"):
        folder.mkdir()
    (tmp_path / "home" / "vault" / "a.md").touch()
    place.file.write_text(f'config_dir = "{tmp_path}/conf"\n')
    monkeypatch.delenv("REFNET_VAULT_DIR")
    before, about = place.text, {"table": "databases", "name": "app"}
    said = place.write(about, databases__app__path=str(tmp_path / "conf" / "docs" / "app.db"))
    assert said.status_code == 400
    assert "obsidian would no longer be backed up" in said.text
    assert place.text == before


def test_a_store_is_added_with_what_is_kept_there(place: Place) -> None:
    about = {"table": "stores", "name": "off"}
    said = place.write(
        about, stores__off__url="s3://bucket/shop", stores__off__retention="days=90", stores__off__lock="30d"
    )
    assert said.status_code == 303, said.text
    assert place.text.endswith(
        '\n[stores.off]\nurl = "s3://bucket/shop"\nretention = "days=90"\nlock = "30d"\n'
    )


def test_what_the_environment_sets_is_named_and_not_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFNET_SCHEDULE_OBSIDIAN", "daily 06:00")
    shown = place.client.get("/settings/edit", params=OBSIDIAN).text
    assert "The environment sets: schedule.obsidian" in shown
    assert 'name="schedule.obsidian"' not in shown
    said = place.write(OBSIDIAN, schedule__obsidian="daily 05:00")
    assert said.status_code == 400
    assert "is set by the environment" in said.text


def test_without_a_usable_settings_file_the_page_says_what_to_do(place: Place) -> None:
    whole = place.text
    place.file.write_text("jobs = 0\n")
    said = place.client.get("/settings/set-up")
    assert "jobs = 0: must be an integer" in said.text
    place.file.unlink()
    assert "there is no settings file" in place.client.get("/settings/set-up").text
    assert "url_file" in place.client.get("/settings/set-up").text
    place.file.write_text(whole)


def test_an_inline_table_is_left_to_its_owner() -> None:
    for text in ('stores = {nas = {url = "s3://b", lock = "3d"}}\n', "prove = {every = 1}\n"):
        path = ("prove", "every") if text.startswith("prove") else ("stores", "nas", "lock")
        with pytest.raises(RefnetError, match="written in a way"):
            edited(text, {path: 5})


def test_the_page_is_japanese_for_a_japanese_browser(place: Place) -> None:
    headers = {"Accept-Language": "ja"}
    assert "設定の変更" in place.client.get("/settings/set-up", headers=headers).text
    assert "差分を表示" in place.client.get("/settings/edit?name=obsidian", headers=headers).text


def test_a_form_describes_each_setting_in_the_language_of_the_page(place: Place) -> None:
    said = place.client.get("/settings/edit", params=PHOTOS, headers={"Accept-Language": "ja"}).text
    described = [description_of(f"folders.photos.{key}") for key in IN_TABLE["folders"]]
    assert [one for one in described if html.escape(sayings()[one]) not in said] == []
