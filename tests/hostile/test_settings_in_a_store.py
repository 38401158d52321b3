"""Settings files in a remote store: whoever can write there can add objects, and none of these is taken for a newer file."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.remote_store import NOW, Machine, artifact

from refnet.catalog.object_names import key_id
from refnet.store import encryption, settings_copies
from refnet.store.sending_pieces import Encrypter
from refnet.store.settings_copies import PREFIX, SettingsCopy

LATER = NOW + timedelta(days=9)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "home")
    for day, text in enumerate(("old = 1", "new = 2")):
        sent = NOW + timedelta(days=day)
        copy = SettingsCopy(text, "/etc/refnet/refnet.toml", sent)
        assert settings_copies.send(
            machine.store(), Encrypter((machine.recovery.recipient,), machine.keys), copy
        )
    return machine


def found(machine: Machine) -> str | None:
    signers = {machine.keys.signer().fingerprint}
    copy = settings_copies.newest_sent(machine.store(key=True), LATER, signers)
    return copy and copy.text


def names(machine: Machine) -> list[str]:
    return sorted(one.name for one in machine.bucket.listed("") if PREFIX in one.name)


def put(machine: Machine, number: int, data: bytes) -> None:
    """Add an object to the folder of the machine, to that of another, and to that of all of them before format 2."""
    own = key_id(machine.keys.catalog().recipient.text)
    for below in (f"{own}/", f"{'ab' * 16}/", ""):
        machine.bucket.put(f"{below}{PREFIX}20261201T0000{number:02}Z_{number:016x}.age", data)


def test_an_older_file_under_a_newer_name_is_not_used(machine: Machine) -> None:
    assert found(machine) == "new = 2"
    put(machine, 1, machine.bucket.get(names(machine)[0], 1 << 20))

    assert found(machine) == "new = 2"


@pytest.mark.parametrize(
    "kind", ["no age", "large", "another key", "another signer", "a tar", "no signature"]
)
def test_objects_that_are_not_this_machines_settings_file_are_skipped(
    machine: Machine, tmp_path: Path, kind: str
) -> None:
    recipients = (machine.recovery.recipient,)
    line = SettingsCopy("forged = 1", "/etc/refnet/refnet.toml", NOW + timedelta(days=6)).to_line()
    other = Machine(tmp_path / "other")
    signed = line + other.keys.sign(line, "refnet-settings").encode()
    data = {
        "no age": b"\xff" * 1000,
        "large": b"age-encryption.org/v1\n" + bytes(1 << 20),
        "another key": encryption.encrypt(signed, (other.recovery.recipient,)),
        "another signer": encryption.encrypt(signed, recipients),
        "a tar": encryption.encrypt(b"../../etc/passwd" + bytes(10240), recipients),
        "no signature": encryption.encrypt(line, recipients),
    }[kind]
    put(machine, 3, data)
    for name in ("..age", "20261201T000000Z_..age", "20261201T000000Z_0000000000000000.age.age"):
        machine.bucket.put(f"{PREFIX}x{name}", data)

    assert found(machine) == "new = 2"


_MARK = {"sha256": "ab" * 32, "name": "vault_20261126.tar.gz", "pinned": True, "tags": ["good"]}


@pytest.mark.parametrize(
    "values",
    [
        {"marks": [{**_MARK, "sha256": "../../x"}]},
        {"marks": [{**_MARK, "tags": ["\x1b[31m"]}]},
        {"marks": [{**_MARK, "tags": ["t"] * 51}]},
        {"marks": [{**_MARK, "until": "tomorrow"}]},
        {"marks": [{**_MARK, "pinned": 1}]},
        {"marks": [_MARK] * 5_001},
        {"marks": {"a": _MARK}},
        {"lineage": [{"database": "shop", "system": "2; DROP", "before": []}]},
        {"lineage": [{"database": "", "system": "2", "before": []}]},
        {"lineage": [{"database": "shop", "system": "2", "before": ["1"] * 1000}]},
        {"lineage": [{"database": "shop", "system": "2", "before": [[[]]]}]},
        {"marks": "x" * (4 << 20)},
    ],
)
def test_marks_and_a_lineage_that_are_none_spoil_only_their_own_object(
    machine: Machine, values: dict[str, Any]
) -> None:
    """Even the signer is not trusted to be well-formed: a thief may have its key."""
    sent = SettingsCopy("newest = 3", "/etc/refnet/refnet.toml", NOW + timedelta(days=6))
    line = json.dumps(sent.values() | values).encode() + b"\n"
    signed = line + machine.keys.sign(line, "refnet-settings").encode()
    own = key_id(machine.keys.catalog().recipient.text)
    name = f"{own}/{PREFIX}{sent.sent:%Y%m%dT%H%M%SZ}_{0:016x}.age"
    machine.bucket.put(name, encryption.encrypt(signed, (machine.recovery.recipient,)))

    assert found(machine) == "new = 2"


def test_a_record_of_kept_marks_that_is_none_marks_nothing(machine: Machine) -> None:
    copy = machine.send(artifact(1, b"x"))
    file = machine.home / "remote" / "marks.json"
    for text in (
        b"",
        b"[]",
        b"\xff",
        b'{"format": 9, "marks": []}',
        b'{"format": 1, "marks": [{"sha256": "x"}]}',
    ):
        file.write_bytes(text)
        assert machine.store().entries() == (copy,)
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert machine.store().entries() == (copy,)
