"""`refnet backup config|obsidian` and what follows, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import forked

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    folder = tmp_path / "vault"
    (folder / "papers").mkdir(parents=True)
    for number in range(20):
        (folder / "papers" / f"note {number}.md").write_text(f"# Note {number}\n" * 20)
    return folder


@pytest.fixture
def refnet(tmp_path: Path, vault: Path) -> Run:
    config = tmp_path / "config"
    config.mkdir()
    (config / "compose.yaml").write_text("services: {}\n")
    (config / ".env").write_text("SECRET=1\n")
    environment = {
        "PATH": os.environ["PATH"],
        "REFNET_HOME": str(tmp_path / "home"),
        "REFNET_BACKUP_DIR": str(tmp_path / "backups"),
        "REFNET_LOG_FOLDER": "none",
        "REFNET_VAULT_DIR": str(vault),
        "REFNET_CONFIG_DIR": str(config),
    }

    def run(*arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        done = forked.text(*arguments, environment=environment | variables, folder=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def settle(folder: Path) -> None:
    """Wait until nothing in `folder` is so young that an edit could leave no trace."""
    newest = max(path.lstat().st_ctime for path in [folder, *folder.rglob("*")])
    while time.time() - newest < 0.06:
        time.sleep(0.01)


def test_a_backup_is_proven_and_the_next_unchanged_one_shares_its_bytes(refnet, vault, tmp_path):
    settle(vault)
    first = refnet("backup", "obsidian")
    second = json.loads(refnet("backup", "obsidian", "--json").stdout)["results"][0]

    assert "proven" in first.stdout
    assert second["proof"]["level"] == "proven"
    shared = second["manifest"]["details"]["shares_bytes_with"]
    made, before = Path(second["path"]), tmp_path / "backups" / "obsidian" / shared
    assert made.samefile(before)
    assert made.stat().st_mode & 0o777 == 0o600

    (vault / "papers" / "note 3.md").write_text("other")
    third = json.loads(refnet("backup", "obsidian", "--json").stdout)["results"][0]
    assert "shares_bytes_with" not in third["manifest"]["details"]


def test_the_configuration_is_backed_up_by_its_entries(refnet, tmp_path):
    made = json.loads(refnet("backup", "config", "--json").stdout)["results"][0]

    listed = subprocess.run(["tar", "-tzf", made["path"]], check=True, capture_output=True, text=True)
    assert listed.stdout.split() == [".env", "compose.yaml"]
    assert "docs/ does not exist (optional)" in made["manifest"]["unchecked"]


def test_a_required_entry_that_is_missing_fails_the_run_by_name(refnet, tmp_path):
    (tmp_path / "config" / ".env").unlink()

    failed = refnet("backup", "config", code=1)

    assert "config is not backed up: .env is missing" in failed.stderr
    assert list((tmp_path / "backups" / "config").glob("config_*")) == []


def test_a_vault_that_nobody_set_and_that_is_not_there_is_not_configured(refnet, tmp_path):
    said = refnet("backup", "obsidian", code=2, REFNET_VAULT_DIR="")

    assert "the source obsidian is not configured" in said.stderr


def test_a_vault_that_vanished_is_an_error(refnet, vault, tmp_path):
    vault.rename(tmp_path / "elsewhere")

    failed = refnet("backup", "obsidian", code=1)

    assert "the folder of obsidian cannot be read" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_damaged_archive_is_found_and_never_taken_for_the_newest(refnet, vault):
    made = json.loads(refnet("backup", "obsidian", "--json").stdout)["results"][0]
    path = Path(made["path"])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    refnet("verify", path.name, code=4)

    assert json.loads(refnet("list", "--json").stdout)["artifacts"][0]["state"] == "damaged"


def test_a_note_and_then_a_vault_that_were_lost_come_back(refnet, vault):
    refnet("backup", "obsidian", "--no-prove")
    lost = vault / "papers" / "note 7.md"
    text = lost.read_text()
    lost.unlink()

    assert "1 added" in refnet("restore", "obsidian", "--only", "papers/note 7.md").stdout
    assert lost.read_text() == text

    (vault / "papers" / "note 1.md").write_text("spoilt")
    plan = json.loads(refnet("restore", "obsidian", "--plan", "--json").stdout)
    assert plan["changed"] == {"count": 1, "first": ["papers/note 1.md"]}
    refnet("restore", "obsidian", code=6)
    assert (vault / "papers" / "note 1.md").read_text() == "spoilt"

    said = refnet("restore", "obsidian", "--force").stdout
    assert "compared file by file" in said
    assert "Reopen the vault in Obsidian" in said
    assert (vault / "papers" / "note 1.md").read_text().startswith("# Note 1")

    refnet("undo", "obsidian", code=6)
    undone = refnet("undo", "obsidian", "--force").stdout
    assert "papers/note 1.md" in undone
    replaced = (
        rf"until \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d \S+, when the restore of {plan['artifact']} replaced it"
    )
    assert re.search(rf"it was live {replaced}\n", undone)
    assert re.search(rf"is its previous version again: it was live {replaced}\.\n", undone)
    assert "when an undo of the restore of" in refnet("undo", "obsidian", "--plan").stdout
    assert (vault / "papers" / "note 1.md").read_text() == "spoilt"


def test_a_configuration_that_was_lost_comes_back_without_asking(refnet, tmp_path):
    refnet("backup", "config", "--no-prove")
    (tmp_path / "config" / ".env").unlink()
    (tmp_path / "config" / "compose.yaml").unlink()

    said = refnet("restore", "config").stdout

    assert "docker compose down && docker compose up -d" in said
    assert (tmp_path / "config" / ".env").read_text() == "SECRET=1\n"


def test_an_artifact_of_another_source_is_not_restored(refnet, tmp_path):
    made = json.loads(refnet("backup", "config", "--json").stdout)["results"][0]

    said = refnet("restore", "obsidian", made["path"], "--force", code=2)

    assert "is an artifact of config, not of obsidian" in said.stderr


def test_a_time_before_the_first_artifact_names_the_oldest(refnet, vault):
    refnet("backup", "obsidian", "--no-prove")

    for command in (("restore", "obsidian"), ("recover",)):
        said = refnet(*command, "--at", "2020-01-01", code=1)

        assert "there is no complete artifact at or before 2020-01-01" in said.stderr
        assert "The oldest is vault_" in said.stderr


def test_restoring_config_where_it_is_not_configured_says_what_to_set(refnet):
    assert "REFNET_CONFIG_DIR" in refnet("restore", "config", code=2, REFNET_CONFIG_DIR="").stderr


def test_a_diff_names_what_differs_and_ends_with_4(refnet, vault):
    refnet("backup", "obsidian", "--no-prove")
    assert "are equal" in refnet("diff", "obsidian").stdout

    (vault / "papers" / "note 3.md").write_text("other")
    (vault / "new.md").write_text("new")

    said = refnet("diff", "obsidian", "live", code=4).stdout
    assert "+ new.md" in said
    assert "~ papers/note 3.md" in said
    refnet("backup", "obsidian", "--no-prove")
    names = [one["name"] for one in json.loads(refnet("list", "--json").stdout)["artifacts"]]
    values = json.loads(refnet("diff", *names, "--json", code=4).stdout)
    assert (values["added"], values["removed"]) == (["new.md"], [])


def test_odd_file_names_print_on_one_line_as_in_json_and_can_be_restored(refnet, vault):
    names = [
        b"two\nlines.md",
        "\U0001f4da.md".encode(),
        b"x" * 252 + b".md",
        b"no \xff\xfe.md",
        b"\x1b[31m\"'.md",
    ]
    notes = [vault / os.fsdecode(name) for name in names]
    for note, name in zip(notes, names, strict=True):
        note.write_bytes(name)
    refnet("backup", "obsidian", "--no-prove")
    for note in notes:
        note.unlink()

    told = [line[2:] for line in refnet("diff", "obsidian", code=4).stdout.splitlines()[:-1]]
    assert sorted(told) == sorted(
        ["two\\nlines.md", "\U0001f4da.md", "x" * 252 + ".md", "no \\xff\\xfe.md", "\\x1b[31m\"'.md"]
    )
    plan = refnet("restore", "obsidian", "--plan").stdout
    assert all(f"    {name}\n" in plan for name in told)
    spelled = ["two\nlines.md", "\U0001f4da.md", "x" * 252 + ".md", "no \\xff\\xfe.md", "\x1b[31m\"'.md"]
    assert sorted(json.loads(refnet("diff", "obsidian", "--json", code=4).stdout)["removed"]) == sorted(
        spelled
    )
    assert sorted(
        json.loads(refnet("restore", "obsidian", "--plan", "--json").stdout)["added"]["first"]
    ) == sorted(spelled)

    for name in told:
        assert f"vault/{name} is restored" in refnet("restore", "obsidian", "--only", name).stdout
    assert "are equal" in refnet("diff", "obsidian").stdout
    assert [note.read_bytes() for note in notes] == names


def test_an_archive_of_something_else_is_no_configuration(refnet, tmp_path):
    subprocess.run(["tar", "-czf", "other.tar.gz", "vault"], cwd=tmp_path, check=True)

    said = refnet("restore", "config", "other.tar.gz", "--force", code=2)

    assert "has no entry of config.entries" in said.stderr


def test_what_has_nothing_to_do_with_postgresql_does_not_load_its_driver():
    code = "import sys; from pathlib import Path; from refnet import settings, wiring; wiring.configured(settings.load({}, Path('/'), root=False, cores=1)); print('psycopg' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert said.stdout == "False\n"


def test_an_archive_without_its_list_is_restored_but_not_verified(refnet, vault, tmp_path):
    made = Path(json.loads(refnet("backup", "obsidian", "--no-prove", "--json").stdout)["results"][0]["path"])
    made.with_name(f"{made.name}.files.json.gz").unlink()
    (vault / "papers" / "note 1.md").unlink()

    assert "the list of files of" in refnet("restore", "obsidian", "--plan", code=4).stderr
    alone = tmp_path / made.name
    alone.write_bytes(made.read_bytes())
    assert "could not verify" in refnet("restore", "obsidian", str(alone), "--force").stdout
    assert (vault / "papers" / "note 1.md").exists()
    assert "the list of files of" in refnet("verify", made.name, code=4).stdout
