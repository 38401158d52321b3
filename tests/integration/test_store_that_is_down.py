"""A remote store that does not answer: what is waited for is said, and its error once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.command import Command


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


@pytest.fixture
def refnet(tmp_path: Path, silent: int) -> Command:
    """The command, with three backups of a folder and a store on an SFTP server that never greets."""
    (tmp_path / "notes").mkdir()
    command = Command(
        tmp_path / "home", tmp_path / "backups", "", {"REFNET_CONFIG": str(tmp_path / "refnet.toml")}
    )
    settings = tmp_path / "refnet.toml"
    settings.write_text(f'[folders.notes]\npath = "{tmp_path}/notes"\n')
    settings.chmod(0o600)
    for number in range(3):
        (tmp_path / "notes" / f"{number}.md").write_text("text")
        command("backup", "notes").succeeds()
    key = command("key", "new", "--json")
    key.succeeds()
    with settings.open("a") as file:
        file.write(
            f'[encryption]\nrecipients = ["{key.json["recipient"]}"]\n'
            f'[stores.away]\nurl = "sftp://nobody@127.0.0.1:{silent}/x"\n'
        )
    return command


def test_waits_are_announced_unless_quiet_and_a_stores_error_only_once(refnet: Command) -> None:
    with ThreadPoolExecutor() as pool:  # both wait for the same half minute
        quiet = pool.submit(refnet, "copy", "--plan", "--quiet")
        done = refnet("copy", "--all")

    assert done.code == 1
    said = done.err.splitlines()
    assert said[0].startswith("refnet: waiting for sftp://nobody@127.0.0.1")
    assert sum("to away: sftp://" in line for line in said) == 1
    assert said[-1] == "refnet: note: away: the same error for 2 more artifacts"
    assert len(said) == 4
    assert quiet.result().code == 1
    assert "waiting" not in quiet.result().err
