"""The journal of a copy that is on the way: what is malformed or cut is not trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.remote_store import Machine, artifact

from refnet.store.remote_records import SendingJournal

DATA = bytes(range(256)) * 256


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]\n", b'{"format":1,"id":"../../x","of":"' + b"a" * 64 + b'"}\n', b"\xff" * 100]
)
def test_a_malformed_journal_is_begun_again(machine: Machine, text: bytes) -> None:
    folder = machine.store().home / "sending"
    folder.mkdir(parents=True)
    made = artifact(1, DATA)
    (folder / f"{made.name}.jsonl").write_bytes(text)
    (folder / f"{made.name}.sealed").write_bytes(text)
    assert machine.store(key=True).artifact(machine.send(made)).open().read() == DATA


def test_a_line_of_a_journal_that_was_cut_is_skipped(tmp_path: Path) -> None:
    made = artifact(1, DATA)
    assert made.manifest
    journal = SendingJournal.open(tmp_path, made.manifest, "")
    with (tmp_path / f"{made.name}.jsonl").open("ab") as file:
        file.write(b'{"name": "data/')
    again = SendingJournal.open(tmp_path, made.manifest, "")
    assert (again.id, again.pieces) == (journal.id, {})
