"""Artifacts, evidence and settings of an earlier version: listed, verified and restored by the command."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.command import Command, url_of

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

GOLDEN = Path(__file__).parents[1] / "golden"
#: The artifacts in each folder, by source.
NAMES = {
    "backups": {
        "database": "refnet_20261126_005355.sql.gz",
        "config": "config_20261126.tar.gz",
        "obsidian": "vault_20261126.tar.gz",
    },
    "format-3": {
        "database": "refnet_20261129_161634.sql.gz",
        "config": "config_20261129.tar.gz",
        "obsidian": "vault_20261129.tar.gz",
    },
}
#: What tests/golden/library.sql wrote, asked of the restored database.
ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "SELECT id, title, genre, place, tags, title_length FROM books ORDER BY id": [
        (1, "tab\tline\nback\\slash", "poetry", "(A,1)", ["a b", None, "ü"], 19),
        (2, "論文 📚", 'it\'s "odd"', "(B,)", [], 4),
        (7, "", None, None, None, 0),
    ],
    "SELECT price::text, facts::text, cover, written::text, lent::text FROM books WHERE id < 3 ORDER BY id": [
        (
            "12.3456",
            '{"a": [1, null]}',
            b"\0\xff\x10",
            "[2000-01-01,2001-01-01)",
            "1 mon 2 days 03:04:05.678",
        ),
        ("NaN", "null", b"", "empty", None),
    ],
    "SELECT extract(epoch FROM added)::text FROM books ORDER BY id": [
        ("1795482000.000000",),
        ("-0.000001",),
        ("Infinity",),
    ],
    'SELECT "first column"::text, "SELECT"::text, addr::text FROM "Odd ""name"" 📚" ORDER BY id NULLS LAST': [
        ("-0", "10101", "2001:db8::/32"),
        ("Infinity", None, "10.0.0.1/32"),
    ],
    "SELECT tableoid::regclass::text, book, reader FROM loans ORDER BY book, day": [
        ("loans_2025", 1, "Ada"),
        ("loans_rest", 2, "Bob\\."),
        ("loans_2025", 7, None),
    ],
    "SELECT count(*), sum(length(content)), min(content) = repeat('a', 1000) FROM pages": [
        (1500, 1_500_000, True)
    ],
    "SELECT title, loans FROM lent WHERE loans > 0 AND title LIKE '論%'": [("論文 📚", 1)],
    "SELECT count(*), sum(pages)::int FROM letters": [(26, 1500)],
    "SELECT nextval('tickets'), nextval(pg_get_serial_sequence('books', 'id'))": [(114, 8)],
    "SELECT lo_get(4242), obj_description('books'::regclass)": [(b"\0\1\2\3\xff\xfe", "all 'books'")],
}


@pytest.fixture(scope="module", params=NAMES)
def kept(request: pytest.FixtureRequest) -> str:
    """The folder of artifacts of one version."""
    return str(request.param)


@pytest.fixture(scope="module")
def target(server: Cluster, kept: str) -> Iterator[Target]:
    """The database `library`, which does not exist yet."""
    yield server.target("library")
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS library WITH (FORCE)")


@pytest.fixture(scope="module")
def refnet(target: Target, short_folder: Path, kept: str) -> Command:
    """`refnet` on a copy of the golden backup folder, with an empty home."""
    folder = short_folder / kept
    (folder / "home").mkdir(parents=True)
    shutil.copytree(GOLDEN / kept, folder / "backups")
    folders = {"REFNET_VAULT_DIR": str(folder / "vault"), "REFNET_CONFIG_DIR": str(folder / "config")}
    return Command(folder / "home", folder / "backups", url_of(target), folders)


def test_the_evidence_of_the_earlier_version_counts(refnet: Command, kept: str) -> None:
    listed = refnet("list", "--json")
    listed.succeeds()
    assert {one["source"]: (one["name"], one["state"]) for one in listed.json["artifacts"]} == {
        source: (name, "proven") for source, name in NAMES[kept].items()
    }


@pytest.mark.parametrize("source", NAMES["backups"])
def test_a_check_of_today_proves_the_artifact(source: str, refnet: Command, kept: str) -> None:
    name = NAMES[kept][source]
    verified = refnet("verify", name, "--json")
    verified.succeeds()
    (result,) = verified.json["results"]
    assert (result["name"], result["level"], result["outcome"]) == (name, "proven", "passed")


def test_the_database_is_restored(refnet: Command, target: Target, kept: str) -> None:
    refnet("restore", "database", NAMES[kept]["database"], "--force").succeeds()
    with psycopg.connect(target.conninfo) as session:
        for question, answer in ANSWERS.items():
            assert session.execute(question.encode()).fetchall() == answer


@pytest.mark.parametrize(("source", "folder"), [("obsidian", "vault"), ("config", "config")])
def test_the_files_are_restored(source: str, folder: str, refnet: Command, kept: str) -> None:
    refnet("restore", source, NAMES[kept][source], "--force").succeeds()
    assert contents(refnet.home.parent / folder) == contents(GOLDEN / folder)


def test_the_settings_of_the_earlier_version_are_read(refnet: Command) -> None:
    file = refnet.home.parent / "refnet.toml"
    shutil.copy(GOLDEN / "config" / "refnet.toml", file)
    file.chmod(0o600)
    shown = refnet("--config", file, "settings")
    shown.succeeds()
    rows = {line.split()[0]: line for line in shown.out.splitlines()}
    for key in keys(tomllib.loads(file.read_text())):
        assert str(file) in rows[key] or "the environment" in rows[key], rows[key]
    assert "days=7 daily=14 weekly=4 monthly=12 yearly=3" in rows["retention.database"]


def contents(folder: Path) -> dict[str, tuple[object, bool]]:
    """Path → bytes, a link's target or None for a folder; and whether it can be executed."""
    found: dict[str, tuple[object, bool]] = {}
    for path in folder.rglob("*"):
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        executable = content is not None and bool(path.lstat().st_mode & 0o100)
        found[str(path.relative_to(folder))] = (content, executable)
    return {name: each for name, each in found.items() if not name.startswith(".refnet-")}


def keys(table: dict[str, Any], prefix: str = "") -> set[str]:
    """The keys of a TOML table, dotted."""
    found: set[str] = set()
    for key, value in table.items():
        found |= keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return found
