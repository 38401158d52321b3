"""Somebody who can write in a store, or delete there, against each command that reads it: two lines, an exit code, no traceback."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.command import Command, Result

#: An hour that no test reaches, and the id of a copy that there is not.
LATER, ID = "20301201T000000Z", "ab" * 16
#: The longest time of a command, in seconds: an object may be read twice.
LONGEST = 30.0


@dataclass
class Machine:
    """A machine with two copies of a folder in a store that is a folder too."""

    refnet: Command
    signer: str

    @property
    def folder(self) -> Path:
        return self.refnet.home.parent

    @property
    def key(self) -> Path:
        """The folder of the objects of this machine."""
        return next(one for one in (self.folder / "near").iterdir() if (one / "pieces").exists())

    def put(self, name: str, data: bytes = b"") -> None:
        """Write an object, as somebody does who is no RefNet; KEY in its name is the folder of this machine."""
        path = self.folder / "near" / name.replace("KEY", self.key.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(data)

    def renew(self) -> None:
        """Begin as after the two copies."""
        for name in ("home", "near", "backups"):
            shutil.rmtree(self.folder / name)
            shutil.copytree(self.folder.parent / "saved" / name, self.folder / name)

    def run(self, *arguments: str) -> Result:
        began = time.monotonic()
        done = self.refnet(*arguments)
        assert time.monotonic() - began < LONGEST
        said = done.out + done.err
        assert "Traceback" not in said
        assert said.replace("\n", "").isprintable()
        return done

    def codes(self) -> dict[str, int]:
        """How each command ends that reads the store, or writes there."""
        url = f"file://{self.folder}/near"
        return {
            " ".join(one[:2]): self.run(*one).code
            for one in (
                ("list", "--store", "near"),
                ("store", "stats"),
                ("store", "check", "near"),
                ("verify", "notes", "--store", "near"),
                ("fetch", "notes", "--store", "near"),
                ("recover", "--store", url, "--plan", "--signer", self.signer),
                ("backup", "notes", "--no-prove"),
                ("prune", "--store", "near", "--force"),
            )
        }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("objects") / "machine"
    for name in ("home", "notes", "near"):
        (folder / name).mkdir(mode=0o700, parents=True)
    for number in range(8):
        (folder / "notes" / f"{number}.jpg").write_bytes(random.Random(number).randbytes(200_000))
    environment = {"REFNET_DATABASE_URL": "", "REFNET_IDENTITY_FILE": str(folder / "key")}
    refnet = Command(folder / "home", folder / "backups", "", environment)
    made = refnet("key", "new", "--json").json
    (folder / "key").touch(mode=0o600)
    (folder / "key").write_text(made["recovery_key"])
    (folder / "refnet.toml").write_text(
        f'[folders.notes]\npath = "{folder}/notes"\n[encryption]\nrecipients = ["{made["recipient"]}"]\n'
        f'[stores.near]\nurl = "file://{folder}/near"\nretention = "keep-last=2"\n'
    )
    (folder / "refnet.toml").chmod(0o600)
    for number in range(2):
        (folder / "notes" / "new.md").write_text(f"# {number}\n")
        refnet("backup", "notes", "--no-prove").succeeds()
    (folder / "notes" / "new.md").write_text("# last\n")
    shutil.copytree(folder, folder.parent / "saved")
    return Machine(refnet, made["signer"])


@pytest.fixture
def machine(prepared: Machine) -> Machine:
    prepared.renew()
    return prepared


def _strange(machine: Machine) -> None:
    """Everything that has no meaning, at once."""
    manifests = f"KEY/manifests/{LATER}_notes_{ID}"
    for name in (
        f"{'ee' * 16}/manifests/{LATER}_notes_{ID}.age",
        f"{'ee' * 16}/leases/{ID}",
        f"{'ee' * 16}/intents/{ID}",
        f"manifests/{LATER}_notes_{ID}.age",
        f"data/{ID}/00000-{'0' * 16}.age",
        f"KEY/pieces/{ID}-{'0' * 16}.age",
        "KEY/pieces/x",
        f"KEY/leases/{ID}.end",
        f"KEY/intents/{ID}.end",
        f"KEY/leases/{'x' * 200}",
        f"KEY/settings/{LATER}_{'0' * 16}.age",
        f"settings/{LATER}_{'0' * 16}.age",
        "settings/x",
        f"check/{'0' * 32}",
        f"{manifests}.age\x1b[31m\n",
        "/".join("d" * 60),
        "ff" * 16,
    ):
        machine.put(name, b"bogus")
    (machine.key / "manifests" / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")
    for name in ("folder", "link", "fifo"):
        path = machine.key / "manifests" / f"{LATER}_notes_{name.encode().hex():0>32}.age"
        {"folder": Path.mkdir, "link": lambda one: one.symlink_to("/etc/passwd"), "fifo": os.mkfifo}[name](
            path
        )


def test_what_has_no_meaning_stops_nothing(machine: Machine) -> None:
    _strange(machine)
    assert {*machine.codes().values()} == {0}
    accepted = machine.run("store", "accept", "near", "--plan", "--json").json
    assert [one["name"][:9] for one in accepted["unreadable"]] == ["manifests"], "that of format 1"
    assert (accepted["leases"], accepted["intents"]) == ([], [])
    assert len(list((machine.key / "manifests").glob("2026*"))) == 2


_MANIFEST = f"KEY/manifests/{LATER}_notes_{ID}.age"


@pytest.mark.parametrize(
    ("name", "data", "stopped"),
    [
        (_MANIFEST, b"bogus", {"prune --store": 3}),
        (_MANIFEST, b"age-encryption.org/v1\n" + bytes(40 << 20), {"prune --store": 3}),
        (_MANIFEST, b"age-encryption.org/v1\n" + bytes(50 << 20), {"prune --store": 3}),
        ("KEY/manifests/odd", b"", {"prune --store": 3}),
        (f"KEY/leases/{ID}", b"", {"prune --store": 5}),
        (f"KEY/intents/{ID}", b"x" * 1000, {"backup notes": 1}),
    ],
    ids=["bogus", "large", "too large", "odd", "lease", "intent"],
)
def test_an_object_of_a_meaning_stops_one_thing_until_it_is_accepted(
    machine: Machine, name: str, data: bytes, stopped: dict[str, int]
) -> None:
    machine.put(name, data)
    if "intents" in name:
        path = machine.key / "intents" / ID
        os.utime(path, (1 << 33, 1 << 33))  # years ahead
    assert {what: code for what, code in machine.codes().items() if code} == stopped
    accepted = machine.run("store", "accept", "near", "--force")
    accepted.succeeds()
    assert machine.run("copy", "notes").code == 0
    assert machine.run("prune", "--store", "near", "--force").code == 0
    assert {what: code for what, code in machine.codes().items() if code} == {}


def _newest(folder: Path) -> Path:
    return max(folder.iterdir())


def _swap(machine: Machine) -> None:
    one, other = sorted((machine.key / "manifests").iterdir())
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


_ALARM = {"recover --store": 4}


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda m: _newest(m.key / "manifests").unlink(), _ALARM),
        (lambda m: _newest(m.key / "manifests").write_bytes(b"x" * 5000), _ALARM),
        (_swap, _ALARM | {"verify notes": 3, "fetch notes": 4}),
        (lambda m: shutil.rmtree(m.key / "pieces"), {"verify notes": 4}),
        (lambda m: shutil.rmtree(m.key / "leases"), {}),
        (lambda m: shutil.rmtree(m.key), _ALARM | {"verify notes": 1, "fetch notes": 1, "recover --store": 1, "backup notes": 1}),
    ],
    ids=["manifest deleted", "manifest replaced", "manifests swapped", "pieces", "leases", "everything"],
)  # fmt: skip
def test_what_was_deleted_or_replaced_is_said(
    machine: Machine, change: Callable[[Machine], None], codes: dict[str, int]
) -> None:
    change(machine)
    assert {what: code for what, code in machine.codes().items() if code} == codes
    assert machine.run("monitor").code == (2 if codes.get("recover --store") else 1)
