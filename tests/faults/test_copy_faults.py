"""`refnet copy` and `refnet backup` to a real S3 server behind a network that fails: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import json
import random
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.command import Command
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.faults.conftest import fill
from tests.seaweed import BUCKET, REGION, Seaweed

from refnet.catalog.remote import PIECE_BYTES
from refnet.store.buckets.bucket import Stored
from refnet.store.buckets.cloud import Patience
from refnet.store.encryption import PrivateKey

#: The list of files, one piece, the manifest.
OBJECTS = 3
#: The folders of what a copy consists of: not of the settings, which travel too, nor of what says that a run is under way.
PIECES, MANIFESTS = "/pieces/", "/manifests/"
KNOWN = b"a sentence that must not be seen"


@dataclass
class Lab:
    """A machine with a folder of notes, whose store is behind `proxy` in a prefix of its own for each test."""

    refnet: Command
    s3: Seaweed
    proxy: FaultProxy
    prefix: str = ""

    def renew(self) -> None:
        """Begin in an empty prefix, and without faults."""
        self.proxy.faults.clear()
        self.proxy.targets.clear()
        shutil.rmtree(self.refnet.home / "remote", ignore_errors=True)
        self.prefix = secrets.token_hex(8)
        self.configure(f"s3://{BUCKET}/{self.prefix}")

    def configure(self, url: str) -> None:
        folder = self.refnet.home.parent
        (folder / "refnet.toml").write_text(
            f'[folders.notes]\npath = "{folder}/notes"\n'
            f'[encryption]\nrecipients = ["{(folder / "recipient").read_text()}"]\n'
            f'[stores.cloud]\nurl = "{url}"\nendpoint = "http://127.0.0.1:{self.proxy.port}"\n'
            f'region = "{REGION}"\ncredentials_file = "{folder}/s3.toml"\n'
        )
        (folder / "refnet.toml").chmod(0o600)

    def objects(self) -> list[Stored]:
        """The objects of copies."""
        found = self.s3.bucket(self.prefix).listed("")
        return [one for one in found if PIECES in one.name or MANIFESTS in one.name]

    def asked(self, method: str, *folders: str) -> int:
        """How many requests of `method` there were for objects in `folders`."""
        targets = [target for one, target in self.proxy.targets if one == method]
        return sum(any(folder in target for folder in folders or (PIECES, MANIFESTS)) for target in targets)

    def copied(self) -> None:
        """The next run copies what is missing; the store has each object once."""
        done = self.refnet("copy", "notes", "--json")
        done.succeeds()
        assert [one["level"] for one in done.json["copies"]] == ["fetched"]
        assert len(self.objects()) == OBJECTS


@pytest.fixture(scope="module")
def shared(s3: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("copy-faults")
    for name in ("home", "notes"):
        (folder / name).mkdir(mode=0o700)
    (folder / "notes" / "noise.bin").write_bytes(random.Random(1).randbytes(100_000))
    (folder / "notes" / "known.md").write_bytes(KNOWN)
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in s3.machine.items()]
    (folder / "s3.toml").touch(mode=0o600)
    (folder / "s3.toml").write_text("".join(lines))
    own = {"REFNET_DATABASE_URL": "", "REFNET_CACHE_SIZE": "0"}  # each command meets the faults
    refnet = Command(folder / "home", folder / "backups", "", own)
    made = refnet("key", "new", "--json").json
    (folder / "recipient").write_text(made["recipient"])
    for name, key in (("key", made["recovery_key"]), ("wrong", PrivateKey.new().revealed())):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(f"{key}\n")
    with fault_proxy(s3.port) as proxy:
        lab = Lab(refnet, s3, proxy)
        lab.renew()
        backup = refnet("backup", "notes")
        assert backup.code == 0, backup.err
        yield lab


@pytest.fixture
def lab(shared: Lab) -> Lab:
    shared.renew()
    return shared


def test_a_copy_outlasts_what_networks_and_servers_do(lab: Lab) -> None:
    put = (Fault.UNAVAILABLE, Fault.RESET, Fault.LOST, Fault.ERROR_BODY, Fault.FLIP_UP)
    lab.proxy.plan("PUT", *put, of=(PIECES, MANIFESTS))
    lab.proxy.plan("GET", Fault.UNAVAILABLE, Fault.ERROR_BODY, Fault.RESET, Fault.CUT)

    lab.copied()

    assert not lab.proxy.faults["PUT"]
    assert not lab.proxy.faults["GET"]


def test_a_bit_that_is_flipped_on_the_way_back_is_no_damage(lab: Lab) -> None:
    read = (PIECES, MANIFESTS)
    lab.proxy.plan("GET", Fault.FLIP_DOWN, None, Fault.FLIP_DOWN, of=read)  # the manifest twice, a piece

    lab.copied()

    (lab.refnet.home / "remote" / "cloud").rename(lab.refnet.home / "remote" / lab.prefix)
    lab.proxy.plan("GET", Fault.FLIP_DOWN, of=read)
    lab.proxy.targets.clear()
    lab.copied()
    assert not lab.proxy.faults["GET"]
    assert lab.asked("PUT") == 0


def test_a_credential_revoked_midway_is_named_and_the_next_run_continues(lab: Lab) -> None:
    lab.proxy.plan("PUT", None, *[Fault.REFUSED] * 10, of=(PIECES, MANIFESTS))

    lab.refnet("copy", "notes").fails(1, "notes_", "cloud", "AccessDenied")

    lab.proxy.plan("PUT")
    assert len(lab.objects()) == 1
    lab.proxy.targets.clear()
    lab.copied()
    assert lab.asked("PUT") == OBJECTS - 1


def test_older_copies_that_cannot_be_read_back_do_not_fail_the_new_one(lab: Lab) -> None:
    lab.copied()
    lab.refnet("list", "notes", "--store", "cloud").succeeds()  # its manifest was fetched by now
    [older] = [one.name for one in lab.objects() if MANIFESTS in one.name]
    lab.proxy.plan("GET", *[Fault.REFUSED] * 10, of=(older,))

    made = lab.refnet("backup", "notes", "--no-prove", "--json")

    assert made.code == 0, made.err
    assert "older copies in cloud could not be read back" in made.err
    assert [one["level"] for one in made.json["results"][0]["copies"]] == ["fetched"]


def test_a_wrong_bucket_is_named_and_not_made(lab: Lab) -> None:
    lab.configure("s3://elsewhere/refnet")

    lab.refnet("copy", "notes").fails(1, "elsewhere", "NoSuchBucket")
    assert lab.asked("PUT", "/") == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_backup_stopped_while_copying_is_proven_and_the_next_continues(
    lab: Lab, number: signal.Signals, code: int
) -> None:
    lab.proxy.plan("PUT", None, Fault.STALL, of=(PIECES, MANIFESTS))
    run = lab.refnet.start("backup", "notes")
    run.until(lambda: lab.asked("PUT") == 2 and len(lab.objects()) == 1, "the piece")

    run.send(number)

    ended = run.end()
    assert ended.code == code
    assert "Traceback" not in ended.err
    newest = max(lab.refnet("list", "notes", "--json").json["artifacts"], key=lambda one: one["name"])
    assert newest["state"] == "proven"
    if number == signal.SIGINT:
        line = (lab.refnet.home / "runs" / "journal.jsonl").read_text().splitlines()[-1]
        assert json.loads(line)["reason"] == "interrupted"
    lab.proxy.targets.clear()
    lab.copied()
    assert lab.asked("PUT") == OBJECTS - 1


def test_two_runs_at_once_make_one_copy(lab: Lab) -> None:
    lab.proxy.plan("PUT", *[Fault.UNAVAILABLE] * 3)
    runs = [lab.refnet.start("copy", "notes", "--json") for _ in range(2)]

    ended = [run.end() for run in runs]

    assert [one.code for one in ended] == [0, 0], ended
    assert sorted(one.json["copies"][0]["new"] for one in ended) == [False, True]
    assert len(lab.objects()) == OBJECTS


def test_what_the_server_keeps_has_nothing_of_the_artifact(lab: Lab) -> None:
    lab.copied()
    newest = max((lab.refnet.backups / "notes").glob("*.tar.gz"))
    artifact = newest.read_bytes()
    parts = [artifact[at : at + 48] for at in range(0, len(artifact) - 48, 10_000)]
    raw = [path.read_bytes() for path in lab.s3.folder.rglob("*") if path.is_file()]

    assert any(b"age-encryption.org/v1" in one for one in raw)
    for known in (KNOWN, newest.name.encode(), b"noise.bin", *parts):
        assert not any(known in one for one in raw)


def test_a_full_disk_or_wrong_page_ends_a_restore_and_leaves_nothing(
    lab: Lab, mounted: Callable[..., Path], tmp_path: Path
) -> None:
    lab.copied()
    folder, disk = lab.refnet.home.parent, mounted(tmp_path / "disk", "size=4m,mode=700")
    line = ("restore", "notes", "--store", "cloud", "--to", disk / "restored", "--identity-file")
    lab.refnet(*line, folder / "wrong").fails(2, "recovery key")
    lab.proxy.targets.clear()
    lab.proxy.plan("GET", None, *[Fault.UNAVAILABLE] * 3, of=(PIECES,))  # the list of files, then the piece
    run = lab.refnet.start(*line, folder / "key")
    run.until(lambda: lab.asked("GET", PIECES) == 3, "the piece")
    fill(disk, free=20_000)

    run.end().fails(1, str(disk), "no space left")

    assert [path.name for path in disk.iterdir()] == ["filler"]
    (disk / "filler").unlink()
    done = lab.refnet(*line, folder / "key")
    assert done.code == 0, done.err
    assert (disk / "restored" / "known.md").read_bytes() == KNOWN


def test_the_time_outs_leave_room_for_an_uplink_of_400_kilobytes_a_second() -> None:
    seconds = 3 * PIECE_BYTES / 400_000  # three pieces at once share it
    assert seconds < Patience().upload / 3
    assert seconds < Patience().longest / 3
