"""What `cat --store` read, the next command reads again without the store; what checks a copy does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command import Command


@pytest.fixture
def refnet(tmp_path: Path) -> Command:
    """The command with a folder of notes and a copy in a store; its key is in the environment."""
    for name in ("home", "notes", "nas"):
        (tmp_path / name).mkdir(mode=0o700)
    for number in range(50):
        (tmp_path / "notes" / f"{number}.md").write_text(f"# note {number}\n")
    own = {"REFNET_DATABASE_URL": "", "REFNET_IDENTITY_FILE": str(tmp_path / "key")}
    command = Command(tmp_path / "home", tmp_path / "backups", "", own)
    made = command("key", "new", "--json").json
    (tmp_path / "key").write_text(made["recovery_key"])
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "refnet.toml").write_text(
        f'[folders.notes]\npath = "{tmp_path}/notes"\n[encryption]\nrecipients = {json.dumps([made["recipient"]])}\n'
        f'[stores.nas]\nurl = "file://{tmp_path}/nas"\n'
    )
    (tmp_path / "refnet.toml").chmod(0o600)
    command("backup", "notes", "--no-prove").succeeds()
    return command


def test_a_note_is_printed_again_without_the_store_and_a_check_reads_the_store(
    refnet: Command, tmp_path: Path
) -> None:
    cat = ("cat", "notes", "7.md", "--store", "nas")
    assert refnet(*cat).out == "# note 7\n"
    assert [*(tmp_path / "home" / "cache").iterdir()]
    pieces = [*(tmp_path / "nas").glob("*/pieces/*.age")]
    for one in pieces:
        one.unlink()
    assert refnet(*cat).out == "# note 7\n"
    assert refnet(*cat, REFNET_CACHE_SIZE="0").code == 4

    verified = refnet("verify", "notes", "--store", "nas")
    assert (verified.code, pieces[0].name in verified.out) == (4, True)


def test_a_command_that_checks_keeps_nothing(refnet: Command, tmp_path: Path) -> None:
    refnet("verify", "notes", "--store", "nas").succeeds()
    refnet("drill", "--store", "nas").succeeds()
    assert not (tmp_path / "home" / "cache").exists()


@pytest.mark.parametrize(
    "command", [("find", "notes", "7.md"), ("diff", "notes"), ("restore", "notes", "--yes")]
)
def test_commands_that_read_copies_use_the_cache(
    refnet: Command, tmp_path: Path, command: tuple[str, ...]
) -> None:
    refnet(*command, "--store", "nas").succeeds()
    assert [*(tmp_path / "home" / "cache").iterdir()]
