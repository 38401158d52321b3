"""`refnet key` at a terminal and without one: the recovery key is shown once, and is on no disk."""

from __future__ import annotations

import os
import pty
import re
from pathlib import Path

import pytest
from tests import forked
from tests.command import Result
from tests.integration.at_terminal import Machine

from refnet.store.encryption import PrivateKey

_KEY = re.compile(r"AGE-SECRET-KEY-1 [0-9A-Z ]+")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "here").mkdir()
    (tmp_path / "nas").mkdir(mode=0o700)
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "note.md").write_text("# note\n")
    (tmp_path / "here" / "refnet.toml").write_text(
        f'vault_dir = "{tmp_path}/vault"\nbackup_dir = "{tmp_path}/backups"\n[stores.nas]\nurl = "file://{tmp_path}/nas"\n'
    )
    return Machine(tmp_path, "")


def at_terminal(machine: Machine, *arguments: str, typed: str = "") -> Result:
    """Run refnet at a terminal; type a line when it asks for a recovery key."""
    main, terminal = pty.openpty()
    program = forked.start(arguments, machine.environment, machine.here, [terminal] * 3)
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(main, 65536)
        except OSError:  # the terminal is gone with the program
            break
        if typed and shown.endswith("…): ".encode()):
            os.write(main, f"{typed}\n".encode())
            typed = ""
    os.close(main)
    return Result(program.wait(60), shown.decode(), "")


def test_a_key_is_shown_at_a_terminal_and_proven_by_typing_it_in(machine):
    made = at_terminal(machine, "key", "new")
    assert made.code == 0, made.out
    key = PrivateKey.parsed(_KEY.findall(made.out)[0])
    for path in machine.folder.rglob("*"):
        if path.is_file():
            assert key.revealed()[20:] not in path.read_bytes().decode(errors="replace"), path
    lines = made.out[made.out.index("[encryption]") :].split("\n")[:2]
    with machine.file.open("a") as settings:
        settings.write("\n".join(lines).replace("\r", "") + "\n")

    assert at_terminal(machine, "key", "check", typed=key.revealed()).code == 3  # no copy is there yet
    assert machine.run("backup", "obsidian").code == 0
    tried = at_terminal(machine, "key", "check", typed=key.revealed()[:20] + " " + key.revealed()[20:])
    assert tried.code == 0, tried.out
    assert "in use, made" in tried.out
    assert "its manifest and piece 2 of 2" in tried.out  # that of its list of files
    assert key.revealed()[20:] not in tried.out
    assert machine.run("key", "show", "--json").json["recipients"][0]["checked"]

    machine.run("key", "check").fails(2, "stdin is not a terminal", "--identity-file")
    mistyped = key.revealed()[:-1] + ("Y" if key.revealed().endswith("X") else "X")
    (machine.here / "wrong").touch(mode=0o600)
    (machine.here / "wrong").write_text(mistyped)
    machine.run("key", "check", REFNET_IDENTITY_FILE="wrong").fails(2, "line 1")
    for refused in (
        machine.run("key", "check", REFNET_IDENTITY_FILE=key.revealed()),
        machine.run("key", "check", "--identity-file", key.revealed()),
        machine.run("restore", "database", key.revealed().lower()),
    ):
        refused.fails(2, "recovery key", "refnet key rotate")
        assert key.revealed()[20:40] not in refused.err.upper()
    wrong = at_terminal(machine, "key", "check", typed=mistyped)
    assert wrong.code == 2
    assert key.revealed()[20:40] not in wrong.out


def test_a_key_is_not_printed_where_a_disk_may_get_it(machine):
    machine.run("key", "new").fails(2, "stdout is not a terminal", "--page")
    machine.run("key", "new", "--machine", "--page", "x").fails(2, "--machine")
    assert [path.name for path in machine.here.iterdir()] == ["refnet.toml"]
    assert not (machine.folder / "home").exists()


def test_a_page_and_a_report_are_made_without_a_terminal(machine):
    made = machine.run("key", "new", "--page", "page.html")
    assert made.code == 0, made.err
    assert "print it, then delete it" in made.err
    assert "SECRET" not in made.out
    assert (machine.here / "page.html").stat().st_mode & 0o777 == 0o600
    machine.run("key", "new", "--page", "page.html").fails(2, "exists")
    other = machine.run("key", "new", "--json").json
    assert PrivateKey.parsed(other["recovery_key"]).recipient.text == other["recipient"]
    assert machine.run("key", "new", "--plan", "--json").json["done"] is False
    (machine.here / "key").touch(mode=0o600)
    (machine.here / "key").write_text(other["recovery_key"])
    again = ("key", "page", "--identity-file", "key")
    assert "would write the recovery page" in machine.run(*again, "--page", "again.html", "--plan").out
    machine.run(*again).fails(2, "stdout is not a terminal")
    made = machine.run(*again, "--page", "again.txt")
    assert made.code == 0, made.err
    assert "the key is not in use" in made.err
    assert "[encryption]" not in made.out
    assert other["recipient"] in (machine.here / "again.txt").read_text()
    machine.file.write_text("")
    without = machine.run("key", "new", "--page", "other.txt")
    assert "no store is configured" in without.err
