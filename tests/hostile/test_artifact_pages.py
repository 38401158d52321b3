"""The pages of an artifact of files that somebody wants to be misread: names, contents, a list that lies, a bomb."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from isal import igzip
from starlette.testclient import TestClient
from tests import dashboard
from tests.unit.actions.test_look import Vault

from refnet.settings import load
from refnet.web.pages import artifact_part

#: Names of files as bytes: markup, control characters, another direction, 255 bytes, no UTF-8, options, patterns.
NAMES = [
    b"<script>alert(1)<", b"\"onmouseover='x'", b"a\nb\x1b[2J", "\u202egpj.exe".encode(), b"x" * 255, "論".encode() * 85,
    b"b\xff.md", b"-x", b"--only=etc", b"a*[b]?.md", b"{{ 7*7 }}", b"&amp;", b"%2e%2e", b"javascript:alert(1)",
]  # fmt: skip
_CONTENT = b"<b>text</b>"


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: dict[str, str]) -> Vault:
    made = Vault(tmp_path)
    for name, value in {"HOME": "home", "BACKUP_DIR": "backups", "VAULT_DIR": "vault"}.items():
        monkeypatch.setenv(f"REFNET_{name}", str(tmp_path / value))
    for name, value in {"REFNET_LOG_FOLDER": "none", **quick}.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def browser(vault: Vault) -> Iterator[TestClient]:
    given = load(os.environ, vault.root, root=os.geteuid() == 0, cores=2)
    with dashboard.browser(given) as found:
        yield found


def page(browser: TestClient, path: str, status: int = 200) -> str:
    said = browser.get(path)
    assert said.status_code == status, said.text
    assert not re.search(
        r"<script(?![^>]* src=)|<[a-z][^>]*\s(?:style|on\w+)=|<b>|[\x00-\x08\x0b-\x1f\u202e]", said.text
    )
    return said.text


def test_every_name_is_text_and_leads_to_its_file(vault: Vault, browser: TestClient) -> None:
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(vault.folder) + b"/" + name)).write_bytes(_CONTENT)
    at = f"/artifacts/obsidian/{vault.backup()}"
    links = re.findall(r'href="([^"]*/file\?path=[^"]*)"', page(browser, at))
    assert {f"{at}/file?path={quote(name, safe='')}" for name in NAMES} == {*links}
    for link in links[::2]:  # each starts a process
        shown = page(browser, link)
        assert "&lt;b&gt;text&lt;/b&gt;" in shown, shown.partition("<main")[2]
    for name in NAMES[1::2]:
        said = browser.get(f"{at}/file/download?path={quote(name, safe='')}")
        assert (said.content, said.status_code) == (_CONTENT, 200)
        assert said.headers["content-disposition"].startswith('attachment; filename="')
        assert said.headers["content-type"] == "application/octet-stream"


def test_only_a_name_that_a_command_can_show_is_restored_alone(vault: Vault, browser: TestClient) -> None:
    for name in (b"a\nb", b"b\xff.md", b"-x"):
        Path(os.fsdecode(os.fsencode(vault.folder) + b"/" + name)).write_bytes(_CONTENT)
    at = f"/artifacts/obsidian/{vault.backup()}/file?path="
    assert "only=-x" in page(browser, f"{at}-x")
    for name in ("a%0Ab", "b%FF.md"):
        shown = page(browser, at + name)
        assert "only=" not in shown
        assert "characters that no command shows" in shown


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"size":11', b'"size":12', "cannot be read"),
        (b'"size":11', b'"size":99999999999999', "too large to be shown"),
        (b'"at":1536', b'"at":512', "cannot be read"),
        (b'"at":1536', b'"at":999999999', "cannot be read"),
    ],
)
def test_a_list_that_lies_about_a_file_is_found_when_it_is_read(
    vault: Vault, browser: TestClient, old: bytes, new: bytes, words: str
) -> None:
    (vault.folder / "papers" / "a.md").write_bytes(_CONTENT)
    name = vault.backup()
    vault.rewrite_list(name, old, new)
    at = f"/artifacts/obsidian/{name}/file"
    assert words in page(browser, f"{at}?path=papers%2Fa.md")
    said = browser.get(f"{at}/download?path=papers%2Fa.md")
    assert said.status_code == 503
    assert _CONTENT not in said.content


@pytest.mark.parametrize("path", [b"../../etc/passwd", b"/etc/passwd", b"papers/../../x", b"papers//a.md"])
def test_a_list_whose_paths_lead_outside_shows_nothing(
    vault: Vault, browser: TestClient, path: bytes
) -> None:
    (vault.folder / "papers" / "a.md").write_bytes(_CONTENT)
    name = vault.backup()
    vault.rewrite_list(name, b'"path":"papers/a.md"', b'"path":"%b"' % path)
    shown = page(browser, f"/artifacts/obsidian/{name}?search=a") + page(
        browser, f"/artifacts/obsidian/{name}?path=papers"
    )
    assert "cannot be read" in shown
    assert "file?path=" not in shown
    page(
        browser,
        f"/artifacts/obsidian/{name}/file?path={quote(path)}",
        503 if b".." not in path and path[:1] != b"/" else 400,
    )


def test_a_member_behind_a_bomb_ends_with_a_sentence(
    vault: Vault, browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (vault.folder / "a.md").write_bytes(_CONTENT)
    name = vault.backup()
    vault.rewrite_list(name, b'"at":512', b'"at":900000000')
    bomb = igzip.compress(bytes(64 << 20)) * 16
    (vault.root / "backups" / "obsidian" / name).write_bytes(bomb)
    assert len(bomb) < 4 << 20
    assert "cannot be read" in page(browser, f"/artifacts/obsidian/{name}/file?path=a.md")
    monkeypatch.setattr(artifact_part, "SECONDS", 0.01)
    assert "cannot be read" in page(browser, f"/artifacts/obsidian/{name}/file?path=a.md")


def test_a_file_that_a_browser_could_run_is_text_or_bytes(vault: Vault, browser: TestClient) -> None:
    files = {
        "a.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "b.html": b"<script>alert(1)</script>",
    }
    for name, data in files.items():
        (vault.folder / name).write_bytes(data)
    (vault.folder / "c.md").write_bytes(
        b"<img src=x onerror=alert(1)>\n\n![x](http://evil/x.png)\n\n[a](javascript:alert(1))"
    )
    (vault.folder / "d.md").write_bytes(gzip.compress(b"x"))
    at = f"/artifacts/obsidian/{vault.backup()}/file?path="
    for name in (*files, "c.md", "d.md"):
        shown = page(browser, at + name).partition('id="content"')[2]
        assert "<img" not in shown
        assert "<svg" not in shown
        assert 'href="javascript' not in shown
