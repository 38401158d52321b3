"""The pages of artifacts and stores, on a real backup folder with a store: what they show, and what they refuse."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient
from tests import dashboard
from tests.command import Command

from refnet import settings
from refnet.web import contents
from refnet.web.pages import artifact_part
from refnet.web.shared_facts import Overviews

_SETTINGS = """
[folders.notes]
path = "{folder}/notes"
schedule = "daily 02:00"
[encryption]
recipients = ["{recipient}"]
[stores.near]
url = "file://{folder}/near"
[stores.away]
url = "file://{folder}/away"
sources = ["database"]
"""


_NOTE = """---
title: A note
---
# Heading

old line, [second](../second.md), ![pixel](dot.png)
<script>alert(1)</script>
"""
_DOT = b"\x89PNG\r\n\x1a\n" + b"0" * 40


@pytest.fixture(scope="module")
def refnet(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A machine with two artifacts of a folder, of which the first is in `near`; `away` is not mounted."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("home", "notes", "near"):
        (folder / name).mkdir(mode=0o700)
    (folder / "notes" / "0<b>a&b.md").write_text("# a note\n")
    for number in range(501):
        (folder / "notes" / f"{number}.md").touch()
    (folder / "notes" / "sub").mkdir()
    (folder / "notes" / "sub" / "note.md").write_text(_NOTE)
    (folder / "notes" / "sub" / "dot.png").write_bytes(_DOT)
    (folder / "notes" / "sub" / "code.bin").write_bytes(bytes(range(256)))
    command = Command(folder / "home", folder / "backups", "", {"REFNET_DATABASE_URL": ""})
    recipient = command("key", "new", "--json").json["recipient"]
    (folder / "refnet.toml").write_text(_SETTINGS.format(folder=folder, recipient=recipient))
    (folder / "refnet.toml").chmod(0o600)
    command("backup", "notes").succeeds()
    (folder / "notes" / "second.md").write_text("# more\n")
    (folder / "notes" / "sub" / "note.md").write_text(_NOTE.replace("old line", "new line"))
    (folder / "near").rename(folder / "disk")
    assert command("backup", "notes").code == 1  # its copy is missing
    (folder / "disk").rename(folder / "near")
    return command


@contextmanager
def browsing(refnet: Command, quick: dict[str, str]) -> Iterator[TestClient]:
    folder = refnet.home.parent
    environment = {**refnet.variables, **quick, "REFNET_CONFIG": str(folder / "refnet.toml")}
    given = settings.load(environment, folder, root=os.geteuid() == 0, cores=2)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with dashboard.browser(given) as made:
            yield made


@pytest.fixture(scope="module")
def browser(refnet: Command, quick: dict[str, str]) -> Iterator[TestClient]:
    with browsing(refnet, quick) as found:
        yield found


@pytest.fixture(scope="module")
def names(refnet: Command) -> list[str]:
    return refnet.names()


def text(browser: TestClient, path: str, status: int = 200) -> str:
    said = browser.get(path)
    assert said.status_code == status, said.text
    found = said.text
    assert not re.search(r"<script(?![^>]* src=)|style=|\son\w+=", found)
    return found


def test_the_timeline_links_the_artifacts_of_a_day(browser: TestClient, names: list[str]) -> None:
    page = text(browser, "/timeline?source=notes")
    assert all(f'href="/artifacts/notes/{name}"' in page for name in names)
    [day] = re.findall(r'<a href="([^"]*)" aria-current="date">', page)
    assert names[1] in text(browser, day.replace("&amp;", "&"))
    assert page.count('<table class="calendar') == 3
    chart = re.search(r'data-chart="([^"]*)"', page)
    assert chart
    drawn = json.loads(chart[1].replace("&#34;", '"'))
    assert [len(one["values"]) for one in drawn["series"]] == [2, 2]
    assert ">未実行<" not in page
    assert "最も良い状態" in browser.get("/timeline", headers={"Accept-Language": "ja"}).text


def test_the_calendar_of_a_store_has_its_copies_alone(browser: TestClient, names: list[str]) -> None:
    page = text(browser, "/timeline?source=notes&store=near&months=1")
    assert names[0] in page
    assert f'href="/artifacts/notes/{names[1]}"' not in page
    assert "fetched" in page


def test_a_store_that_cannot_be_listed_says_why(browser: TestClient) -> None:
    assert "away does not exist" in text(browser, "/timeline?source=notes&store=away")


def test_an_artifact_says_in_words_what_it_is_and_offers_its_restore_first(
    browser: TestClient, names: list[str], refnet: Command
) -> None:
    page = text(browser, f"/artifacts/notes/{names[0]}")
    for words in ("505 files", f"of {refnet.home.parent}/notes", "proven", "SHA-256", "fetched"):
        assert words in page
    assert f'class="button primary" href="/restore/plan?source=notes&amp;artifact={names[0]}"' in page
    assert 'name="action" value="verify"' in page
    assert "raw bytes" not in page.partition("Technical details")[0]
    second = text(browser, f"/artifacts/notes/{names[1]}")
    assert "missing" in second
    assert "unknown" in second  # `away` cannot be listed


def test_the_files_are_a_tree_in_pages_that_reads_the_list_once(
    browser: TestClient, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = f"/artifacts/notes/{names[0]}"
    page = text(browser, first)
    assert "0&lt;b&gt;a&amp;b.md" in page
    assert "Page 1 of 3" in page
    monkeypatch.setattr(contents, "names_of", lambda _: pytest.fail("the list is read again"))
    last = text(browser, f"{first}?page=3").partition('id="contents"')[2].partition("</section>")[0]
    assert last.count('<tr><th scope="row"') == 503 - 2 * contents.ROWS
    sub = text(browser, f"{first}?path=sub")
    assert re.findall(r'file\?path=([^"]*)"', sub) == ["sub%2Fcode.bin", "sub%2Fdot.png", "sub%2Fnote.md"]
    assert "only=sub" in sub
    assert text(browser, f"{first}/contents?path=sub").strip() in sub


@pytest.mark.parametrize(
    ("search", "found"), [("NOTE", ["sub%2Fnote.md"]), ("<b>", ["0%3Cb%3Ea%26b.md"]), ("nowhere", [])]
)
def test_a_search_finds_files_by_a_part_of_their_path(
    browser: TestClient, names: list[str], search: str, found: list[str]
) -> None:
    page = text(browser, f"/artifacts/notes/{names[0]}?{urlencode({'search': search})}")
    assert re.findall(r'file\?path=([^"]*)"', page) == found
    assert f"”: {len(found)} · " in page


def test_a_note_is_rendered_and_leads_to_its_neighbours_restore_and_download(
    browser: TestClient, names: list[str]
) -> None:
    page = text(browser, f"/artifacts/notes/{names[0]}/file?path=sub%2Fnote.md")
    for words in (
        "<h3>Heading</h3>", "title: A note", "&lt;script&gt;alert(1)&lt;/script&gt;", "[pixel]",
        f'href="/artifacts/notes/{names[0]}/file?path=second.md"',
        f'href="/restore/plan?source=notes&amp;artifact={names[0]}&amp;only=sub/note.md"',
        f'hx-get="/artifacts/notes/{names[0]}/versions?path=sub%2Fnote.md"',
    ):  # fmt: skip
        assert words in page, words
    assert "# Heading" in text(browser, f"/artifacts/notes/{names[0]}/file?path=sub%2Fnote.md&as=text")
    said = browser.get(f"/artifacts/notes/{names[0]}/file/download?path=sub%2Fnote.md")
    assert said.content == _NOTE.encode()
    assert said.headers["content-disposition"] == 'attachment; filename="note.md"'


def test_an_image_is_shown_and_other_bytes_are_not(browser: TestClient, names: list[str]) -> None:
    first = f"/artifacts/notes/{names[0]}/file?path="
    shown = base64.b64encode(_DOT).decode()
    page = text(browser, f"{first}sub%2Fdot.png").replace("&#43;", "+")
    assert f'<img src="data:image/png;base64,{shown}"' in page
    assert "neither text in UTF-8 nor an image" in text(browser, f"{first}sub%2Fcode.bin")
    assert "It is empty." in text(browser, f"{first}7.md")


def test_the_versions_of_a_file_are_listed_with_their_difference(
    browser: TestClient, names: list[str]
) -> None:
    one = f"/artifacts/notes/{names[1]}"
    part = text(browser, f"{one}/versions?path=sub%2Fnote.md")
    assert part.index(names[1]) < part.index(names[0]), "the newest first"
    hostile = text(browser, f"{one}/versions?path=$(reboot)")
    assert "refnet find notes &#39;*$(reboot)*&#39;" in hostile
    assert re.findall(r"<td>(first seen|changed)</td>", part) == ["changed", "first seen"]
    [link] = re.findall(r'href="([^"]*/changes\?[^"]*)"', part)
    page = text(browser, link.replace("&amp;", "&"))
    assert "<del>-old line" in page
    assert "<ins>+new line" in page
    assert part.strip() in text(browser, f"{one}/file?path=sub%2Fnote.md&versions=yes")


def test_more_downloads_of_files_than_the_limit_start_no_process(
    browser: TestClient, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/artifacts/notes/{names[0]}/file/download?path=sub%2Fnote.md"
    assert [browser.get(path).status_code for _ in range(artifact_part.MOST + 1)][-1] == 200
    monkeypatch.setattr(artifact_part, "MOST", 0)
    assert "downloads run already" in text(browser, path, 409)


@pytest.mark.parametrize(
    "end",
    [
        "/file?path=nowhere.md", "/file?path=..%2Fx", "/file", "/file?path=%00", "/file/download?path=sub", "?page=0",
        "/table?schema=a&table=b", "/changes?path=7.md&before=nowhere", "/file/download?path=%ff",
    ],
)  # fmt: skip
def test_an_error_of_a_part_is_a_page_with_a_way_on(browser: TestClient, names: list[str], end: str) -> None:
    page = text(browser, f"/artifacts/notes/{names[0]}{end}", 400)
    assert page.count("<h1>") == 1
    assert 'role="alert"' in page
    for way in ("/timeline", "/restore", "/"):
        assert f'<li><a href="{way}">' in page
    came = {"Referer": f"http://127.0.0.1:8000/artifacts/notes/{names[0]}"}
    again = browser.get(f"/artifacts/notes/{names[0]}{end}", headers=came).text
    assert ("The page before" in again) is not end.startswith("?")


def test_the_pages_of_a_part_speak_japanese(browser: TestClient, names: list[str]) -> None:
    first = f"/artifacts/notes/{names[0]}"
    for end, words in {
        "": "505 ファイル", "?search=note": "「note」を含む名前", "/file?path=sub%2Fnote.md": "これだけを復元",
        "/file?path=nowhere": "このページを表示できません",
    }.items():  # fmt: skip
        assert words in browser.get(first + end, headers={"Accept-Language": "ja"}).text


def test_a_download_has_the_bytes_of_the_artifact(
    browser: TestClient, refnet: Command, names: list[str]
) -> None:
    said = browser.get(f"/artifacts/notes/{names[0]}/download")
    assert said.content == (refnet.backups / "notes" / names[0]).read_bytes()
    assert said.headers["content-disposition"] == f'attachment; filename="{names[0]}"'
    assert gzip.decompress(said.content)


def test_the_stores_show_where_each_artifact_is_and_what_is_known_of_them(
    browser: TestClient, names: list[str]
) -> None:
    page = text(browser, "/stores?source=notes")
    rows = {name: page.partition(f">{name}</a>")[2].partition("</tr>")[0] for name in names}
    assert re.findall(r"</span> ([\w ]+)</span>", rows[names[0]]) == ["proven", "fetched", "unknown"]
    assert re.findall(r"</span> ([\w ]+)</span>", rows[names[1]]) == ["proven", "missing", "unknown"]
    for words in ("away does not exist", "refnet store check near", "As of", "never checked"):
        assert words in page
    assert "nothing leaves this machine" not in page
    taken = page.partition("What the copies take</summary>")[2].partition("</table>")[0]
    cells = re.findall(r'class="number">([^<]*)</td>', taken)
    assert (cells[0], cells[3]) == ("1", "0 B")  # one copy, which shares nothing
    assert cells[2] == cells[4] != "0 B"
    assert f"1 ({cells[2]})" in page
    japanese = browser.get("/stores", headers={"Accept-Language": "ja"}).text
    assert "共有による節約" in japanese


def test_an_artifact_that_is_only_in_a_store_is_shown_and_not_downloaded(
    browser: TestClient, refnet: Command, names: list[str], tmp_path: Path
) -> None:
    folder = refnet.backups / "notes"
    moved = [one.rename(tmp_path / one.name) for one in folder.glob(f"{names[0]}*")]
    try:
        _read_again(browser)
        page = text(browser, f"/artifacts/notes/{names[0]}")
        assert "Only in the store near" in page
        assert f"refnet fetch {names[0]} --store near --identity-file FILE" in page
        assert "/download" not in page
        assert "is encrypted" in text(browser, f"/artifacts/notes/{names[0]}/download", 400)
    finally:
        for one in moved:
            one.rename(folder / one.name)
        _read_again(browser)


def test_a_link_in_the_place_of_an_artifact_is_not_followed(
    browser: TestClient, refnet: Command, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced after the catalog was read."""
    path, secret = refnet.backups / "notes" / names[1], tmp_path / "secret"
    secret.write_bytes(b"s" * path.stat().st_size)
    text(browser, "/stores")
    for limit in ("_due", "_until"):
        monkeypatch.setattr(_overviews(browser), limit, float("inf"))
    path.rename(tmp_path / "kept")
    path.symlink_to(secret)
    try:
        said = browser.get(f"/artifacts/notes/{names[1]}/download")
        assert said.status_code == 503
        assert b"sss" not in said.content
        path.unlink()
        path.write_bytes(b"short")
        assert "its manifest says" in text(browser, f"/artifacts/notes/{names[1]}/download", 503)
    finally:
        path.unlink()
        (tmp_path / "kept").rename(path)


@pytest.mark.parametrize("name", [
    "%2e%2e", "%2e%2e%2frefnet.toml", "..%2f..%2fhome%2fkeys%2fsigning", "notes_20261125.tar.gz", "%00", "%0d%0aX: y",
    "<script>alert(1)</script>", "論文", "-x", "%ff", "a" * 3000,
])  # fmt: skip
@pytest.mark.parametrize("end", ["", "/contents", "/download", "/file?path=7.md", "/versions?path=7.md"])
def test_a_name_that_is_not_in_the_catalog_reads_no_file(browser: TestClient, name: str, end: str) -> None:
    for source in ("notes", "%2e%2e", "%3Ci%3E"):
        said = browser.get(f"/artifacts/{source}/{name}{end}")
        assert said.status_code in {400, 404}
        assert "<script>alert" not in said.text
        assert "X" not in said.headers


@pytest.mark.parametrize("query", [
    "source=nope", "store=nope", "source=%00", "month=2026-13", "month=x", "month=0000-01", "months=2", "months=1e9",
    "day=2026-02-30", "day=%0a", "store=<b>",
])  # fmt: skip
def test_a_wrong_parameter_is_an_error_of_two_lines(browser: TestClient, query: str) -> None:
    page = text(browser, f"/timeline?{query}", 400)
    assert 'role="alert"' in page
    assert "<b>" not in page


@pytest.mark.parametrize("number", ["0", "-1", "1e3", "٣", "9999999", "x" * 5000])
def test_a_wrong_page_of_the_stores_is_an_error(browser: TestClient, number: str) -> None:
    text(browser, f"/stores?page={number}", 400)


def test_a_page_after_the_last_one_is_empty(browser: TestClient) -> None:
    assert "No artifact." in text(browser, "/stores?page=1000")
    assert "No artifact." in text(browser, "/stores?source=%3Cscript%3E")


def test_an_encrypted_artifact_shows_the_commands_that_read_it(tmp_path: Path) -> None:
    for name in ("home", "notes"):
        (tmp_path / name).mkdir(mode=0o700)
    refnet = Command(tmp_path / "home", tmp_path / "backups", "", {"REFNET_DATABASE_URL": ""})
    recipient = refnet("key", "new", "--json").json["recipient"]
    (tmp_path / "refnet.toml").write_text(
        f'[folders.notes]\npath = "{tmp_path}/notes"\n[encryption]\nlocal = true\nrecipients = ["{recipient}"]\n'
    )
    (tmp_path / "refnet.toml").chmod(0o600)
    refnet("backup", "notes", "--no-prove")
    [name] = refnet.names()
    with browsing(refnet, {}) as found:
        page = text(found, f"/artifacts/notes/{name}")
        for words in (f"refnet fetch {name} --identity-file FILE", f"refnet restore notes {name} --identity"):
            assert words in page
        assert "/download" not in page
        assert "Files" not in page
        for end in ("download", "contents"):
            text(found, f"/artifacts/notes/{name}/{end}", 400)
        assert name in text(found, "/timeline?source=notes")
        assert "encrypted" in text(found, "/stores")
        assert "What the copies take" in text(found, "/stores")


def test_a_machine_without_a_store_is_told_that_nothing_leaves_it(tmp_path: Path) -> None:
    given = settings.load(
        {"REFNET_HOME": str(tmp_path), "REFNET_BACKUP_DIR": str(tmp_path / "backups")},
        tmp_path,
        root=True,
        cores=2,
    )
    with dashboard.browser(given) as empty:
        assert "nothing leaves this machine" in text(empty, "/stores")
        assert "No source is configured, and there is no artifact." in text(empty, "/timeline")


def _overviews(browser: TestClient) -> Overviews:
    found: Overviews = browser.app.state.overviews  # type: ignore[attr-defined]
    return found


def _read_again(browser: TestClient) -> None:
    """Have the next request read the catalog."""
    _overviews(browser)._due = _overviews(browser)._until = 0.0


def test_the_time_of_the_pages_is_said(browser: TestClient) -> None:
    _read_again(browser)
    page = text(browser, "/stores")
    [read, *_] = re.findall(r'<time datetime="([^"]+)"', page)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(read)).total_seconds()) < 60
