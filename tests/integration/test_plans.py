"""--plan of every command that changes something: files, database and units are the same before and after."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import oracle
from tests.command import Command, url_of
from tests.installers import builder
from tests.unit.cli.commands import files
from tests.unit.cli.test_plan_and_json import CHANGES

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

#: What follows the command; {…} are names of the fixture below.
ARGUMENTS = {
    "init": ["--database-url", "{url}", "--backup-dir", "{new}"],
    "adopt": ["{stray}"],
    "accept": ["{shrunk}"],
    "fetch": ["--store", "near", "--identity-file", "{key}"],
    "forget": ["{kept}", "--force-last"],
    "pin": ["{kept}"],
    "unpin": ["{kept}"],
    "tag": ["{kept}", "audited"],
    "import cora": ["{cites}"],
    "import semantic-scholar": ["{paper}"],
    "crawl": ["10.1/x"],
    "jobs": ["--retry"],
    "export": ["bibtex"],
    "store installer": ["{installer}", "--sha256", "{sum}"],
}
#: The commands that need a store or a recipient.
STORES = {"copy", "fetch", "key rotate", "store installer"}
SOURCES = ("database", "config", "obsidian")
LINES = sorted(
    {*CHANGES} - {"restore", "undo"} | {f"{words} {one}" for words in ("restore", "undo") for one in SOURCES}
)


@pytest.fixture(scope="module")
def database(server: Cluster) -> Iterator[Target]:
    """A database for all of this file."""
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE plans TEMPLATE template0")
    yield server.target("plans")
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE plans WITH (FORCE)")


@pytest.fixture(scope="module")
def refnet(short_folder: Path, database: Target) -> Command:
    """The command on a full store of three sources, each restored once, with stray files beside."""
    folder = short_folder / "plans"
    folder.mkdir(mode=0o711)
    for name in ("home", "vault", "config", "units"):
        (folder / name).mkdir(mode=0o755)
        (folder / name / "note.md").write_text("# note\n")
    (folder / "cites").write_text("1\t2\n")
    (folder / "paper").write_text('{"paperId": null, "title": "A title"}')
    with database.connect() as session:
        session.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    (folder / "url").write_text(url_of(database))
    (folder / "url").chmod(0o600)
    command = Command(
        folder / "home",
        folder / "backups",
        url_of(database),
        {
            "REFNET_VAULT_DIR": str(folder / "vault"),
            "REFNET_CONFIG_DIR": str(folder / "config"),
            "XDG_CONFIG_HOME": str(folder / "units"),
            "REFNET_CONFIG_ENTRIES": "note.md,more.md?",
        },
    )
    command("network", "migrate").succeeds()
    command("backup", "--no-prove").succeeds()
    for source in ("vault", "config"):
        (folder / source / "note.md").write_text("# changed\n")
    for source in ("database", "config", "obsidian"):
        command("restore", source, "--force").succeeds()
        (folder / "vault" / "more.md").write_text("# more\n")
        (folder / "config" / "more.md").write_text("# more\n")
    with database.connect() as session:
        session.execute("DELETE FROM t WHERE n > 10")
    command("backup", "--no-prove")
    for one in (folder / "backups" / "config").glob("*"):
        if one.is_file() and one.name.endswith(".tar.gz"):
            shutil.copy(one, folder / "config_20200101.tar.gz")
    builder().write(folder / "refnet.pyz", {"__main__.py": b"", "wheels/refnet-1.0-py3-none-any.whl": b""})
    (folder / "near").mkdir(mode=0o700)
    key = command("key", "new", "--json").json
    (folder / "recovery").write_text(key["recovery_key"])
    (folder / "recovery").chmod(0o600)
    store = (
        f'[encryption]\nrecipients = ["{key["recipient"]}"]\n[stores.near]\nurl = "file://{folder}/near"\n'
    )
    (folder / "stores.toml").write_text(store)
    (folder / "stores.toml").chmod(0o600)
    for words in (
        ("copy",),
        ("list", "--store", "near"),
        ("list", "--store", "near", "--deleted"),
    ):  # the list keeps what it has fetched
        command(*words, REFNET_CONFIG=str(folder / "stores.toml")).succeeds()
    return command


@pytest.fixture(scope="module")
def names(refnet: Command) -> dict[str, str]:
    folder = refnet.home.parent
    return {
        "url": refnet.url,
        "new": str(folder / "new"),
        "stray": str(folder / "config_20200101.tar.gz"),
        "shrunk": refnet.artifact().name,
        "kept": next((folder / "backups" / "config").glob("*.tar.gz")).name,
        "cites": str(folder / "cites"),
        "paper": str(folder / "paper"),
        "key": str(folder / "recovery"),
        "installer": str(folder / "refnet.pyz"),
        "sum": hashlib.sha256((folder / "refnet.pyz").read_bytes()).hexdigest(),
    }


def test_a_plan_changes_nothing(
    refnet: Command, names: dict[str, str], database: Target, server: Cluster
) -> None:
    folder = refnet.home.parent
    programs = server.binaries.folder
    portrait = oracle.portrait(database.conninfo, programs)
    for words in LINES:
        before = files(folder)
        user = ["--user"] if words.startswith("schedule") else []
        more = {"REFNET_DATABASE_URL_FILE": str(folder / "url"), "REFNET_DATABASE_URL": ""} if user else {}
        more |= {"REFNET_CONFIG": str(folder / "stores.toml")} if words in STORES else {}
        arguments = [one.format(**names) for one in ARGUMENTS.get(words, [])]
        ran = refnet(
            *words.split(),
            *arguments,
            *user,
            "--plan",
            REFNET_NOTIFY_URLS="json://127.0.0.1:1" if words == "notify" else "",
            **more,
        )
        assert ran.code == 0, (words, ran.out, ran.err)
        assert ran.out, words
        assert files(folder) == before, words
    assert oracle.portrait(database.conninfo, programs) == portrait


def test_plans_are_json_too(refnet: Command, names: dict[str, str]) -> None:
    planned = refnet("backup", "--plan", "--json")
    planned.succeeds()
    assert [one["source"] for one in planned.json["sources"]] == ["database", "config", "obsidian"]
    assert json.loads(refnet("network", "migrate", "--plan", "--json").out)["plan"] is True


def test_a_plan_with_problems_ends_with_1(refnet: Command, names: dict[str, str]) -> None:
    dead = {"REFNET_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    for words in ("backup", "network migrate", "network sample", "restore database", "undo database"):
        ran = refnet(*words.split(), "--plan", **dead)
        assert ran.code == 1, (words, ran.out, ran.err)
        assert ran.err.startswith("refnet: ")
    shutil.rmtree(refnet.home.parent / "vault")
    assert refnet("backup", "obsidian", "--plan").code == 1
