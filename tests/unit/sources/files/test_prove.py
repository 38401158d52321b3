"""How far an archive of files is proven, and what each kind of damage does to that."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from tests.unit.sources.files.corpus import HARMLESS, HOSTILE

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.sources.folder import unpack
from refnet.sources.folder.listing import FileKind, FileList, GzipMember, Listed
from refnet.sources.folder.tar_archive import END, header

LEVELS = [Level.INTACT, Level.RESTORED, Level.PROVEN]


def held(data: bytes, files: bytes | None) -> OpenArtifact:
    return OpenArtifact(
        SourceName.OBSIDIAN, "vault_20261125.tar.gz", lambda: io.BytesIO(data), None, lambda: files
    )


def edited(files: bytes, wanted: str, values: dict[str, object]) -> bytes:
    """The list of files with other values for one path, written as RefNet writes it: a line a file."""
    lines = files.decode().splitlines()
    for number, line in enumerate(lines):
        if line.startswith(f'{{"path":"{wanted}",'):
            item = json.loads(line.removesuffix(",")) | values
            if item["kind"] == "link":
                del item["sha256"]
                item["size"] = 0
            lines[number] = json.dumps(item, separators=(",", ":")) + "," * line.endswith(",")
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.mark.parametrize("level", LEVELS)
def test_a_whole_archive_reaches_the_level_that_is_asked_for(vault, dumped, prove, level, tmp_path):
    proof = prove(dumped(vault).held, level)

    assert (proof.outcome, proof.level) == (Outcome.PASSED, level)
    assert sum(row["count"] for row in proof.rows if row["kind"] == "file") == 15
    assert not (tmp_path / "scratch").exists() or not list((tmp_path / "scratch").iterdir())


def test_a_proof_touches_nothing_of_the_live_folder(vault, dumped, prove):
    artifact = dumped(vault)
    before = {path: path.lstat() for path in vault.rglob("*")}

    prove(artifact.held, Level.PROVEN)

    after = {path: path.lstat() for path in vault.rglob("*")}
    assert {path: (s.st_mtime_ns, s.st_ctime_ns) for path, s in after.items()} == {
        path: (s.st_mtime_ns, s.st_ctime_ns) for path, s in before.items()
    }


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A folder in the place of /dev/shm, which counts as memory."""
    place = tmp_path / "shm"
    place.mkdir()
    monkeypatch.setattr(unpack, "_SHARED", place)
    monkeypatch.setattr(unpack, "_is_memory", lambda folder: folder == place)
    return place


def test_files_that_fit_are_unpacked_in_memory_and_removed(vault, dumped, prove, shared, tmp_path):
    proof = prove(dumped(vault).held, Level.PROVEN, memory=1 << 30)

    assert (proof.outcome, proof.level) == (Outcome.PASSED, Level.PROVEN)
    assert "list of files" in proof.seconds
    assert not (tmp_path / "scratch").exists()
    (place,) = shared.iterdir()
    assert place.stat().st_mode & 0o777 == 0o700
    assert not list(place.iterdir())


def test_files_that_do_not_fit_are_unpacked_on_the_disk(vault, dumped, prove, shared, tmp_path):
    assert prove(dumped(vault).held, Level.PROVEN, memory=100_000).level is Level.PROVEN
    assert (tmp_path / "scratch").is_dir()
    assert not list(shared.iterdir())


@pytest.mark.parametrize("planted", ["link", "file", "others"])
def test_a_planted_folder_in_memory_is_not_used(vault, dumped, prove, shared, tmp_path, planted):
    place = shared / f"refnet-{os.geteuid()}"
    victim = tmp_path / "victim"
    victim.mkdir()
    if planted == "link":
        place.symlink_to(victim)
    elif planted == "file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)

    assert prove(dumped(vault).held, Level.PROVEN, memory=1 << 30).level is Level.PROVEN
    assert not list(victim.iterdir())
    assert (tmp_path / "scratch").is_dir()


def test_what_does_not_pass_in_memory_is_tried_on_the_disk(vault, dumped, prove, shared, monkeypatch):
    write = unpack.write_all

    def full(handle, data):
        if Path(f"/proc/self/fd/{handle}").readlink().is_relative_to(shared):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(handle, data)

    monkeypatch.setattr(unpack, "write_all", full)
    proof = prove(dumped(vault).held, Level.PROVEN, memory=1 << 30)

    assert (proof.outcome, proof.level) == (Outcome.PASSED, Level.PROVEN)
    assert [list(place.iterdir()) for place in shared.iterdir()] == [[]]


def test_memory_that_cannot_be_used_leaves_the_proof_to_the_disk(vault, dumped, prove, shared, tmp_path):
    shared.rmdir()

    assert prove(dumped(vault).held, Level.PROVEN, memory=1 << 30).level is Level.PROVEN
    assert (tmp_path / "scratch").is_dir()


def test_copies_that_a_later_one_replaces_count_in_memory_too(prove, shared, tmp_path):
    """A list names the last copy of a changing file; an archive can have earlier ones of any size."""
    folder = Listed(".", FileKind.FOLDER, 0, 0o755, 0, 0, 0, 0)
    early = Listed("a.md", FileKind.FILE, 3 << 20, 0o644, 0, 0, 0, 512)
    late = early._replace(size=4, at=1024 + early.size, sha256=sha256(b"note").hexdigest())
    tar = header(folder) + header(early) + bytes(early.size) + header(late) + b"note".ljust(512, b"\0") + END
    files = FileList((folder, late), (GzipMember(0, 0),)).to_json()

    proof = prove(held(gzip.compress(tar, 1), files), Level.PROVEN, memory=1 << 20)

    assert proof.level is Level.PROVEN
    assert (tmp_path / "scratch").is_dir()


def test_damage_that_is_found_in_memory_is_said_of_the_disk(vault, dumped, prove, shared, tmp_path):
    artifact = dumped(vault)
    files = edited(artifact.made.files, "script.sh", {"sha256": "0" * 64})

    proof = prove(held(artifact.data, files), Level.PROVEN, memory=1 << 30)

    assert (proof.outcome, proof.level) == (Outcome.FAILED, None)
    assert [finding.outcome for finding in proof.findings] == [Outcome.FAILED]
    assert "script.sh" in proof.findings[0].reason


@pytest.mark.skipif(not unpack._is_memory(unpack._SHARED), reason="/dev/shm is not a tmpfs here")
def test_memory_of_this_machine_holds_what_the_disk_holds(vault, dumped, prove, tmp_path):
    os.setxattr(vault / "script.sh", "user.note", b"x")
    proof = prove(dumped(vault).held, Level.PROVEN, memory=1 << 30)
    assert (proof.outcome, proof.level) == (Outcome.PASSED, Level.PROVEN)


@pytest.mark.parametrize("level", LEVELS)
def test_every_flipped_bit_is_found(vault, dumped, prove, level):
    artifact = dumped(vault)
    for at in range(20, len(artifact.data), len(artifact.data) // 40):
        data = bytearray(artifact.data)
        data[at] ^= 0x10
        proof = prove(held(bytes(data), artifact.made.files), level)
        if proof.outcome is not Outcome.FAILED:  # a bit that pads the end of a gzip member means nothing
            assert gzip.decompress(data) == gzip.decompress(artifact.data), at
            continue
        assert proof.level is None


def test_an_archive_that_is_cut_between_two_gzip_members_is_not_intact(vault, dumped, prove):
    artifact = dumped(vault)
    last = json.loads(artifact.made.files)["members"][-1][1]
    assert gzip.decompress(artifact.data[:last])

    proof = prove(held(artifact.data[:last], artifact.made.files), Level.INTACT)

    assert (proof.outcome, proof.level) == (Outcome.FAILED, None)
    assert "cut short" in proof.reasons[0]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sha256": "0" * 64}, "the content of script.sh differs from the list of files"),
        ({"size": 3}, "script.sh differs from the list of files"),
        ({"mode": "0777"}, "script.sh differs from the list of files"),
        ({"at": 512}, "script.sh is not at the offset that the list of files gives"),
        ({"path": "other.sh"}, "script.sh is in the archive and not in the list of files"),
        ({"kind": "device"}, "the list of files is not valid"),
        ({"path": "/etc/passwd"}, "/etc/passwd has an absolute name"),
        ({"path": "../x"}, "../x leads out of its folder"),
        ({"path": "a/../../x"}, "a/../../x leads out of its folder"),
        ({"path": "./x"}, "the path ./x in the list of files is not normalized"),
        ({"path": "nowhere/x"}, "nowhere/x has no parent folder in the list"),
        ({"path": "empty.md"}, "empty.md is listed twice"),
        ({"path": 3}, "the list of files is not valid"),
        ({"uid": -1}, "the list of files is not valid"),
        ({"mtime_ns": 1 << 94}, "the list of files is not valid"),
        ({"kind": "link", "target": "/etc"}, "script.sh is a link that leads outside (/etc)"),
    ],
)
def test_a_list_that_does_not_fit_or_leads_outside_is_refused_by_name(vault, dumped, prove, values, told):
    artifact = dumped(vault)
    files = edited(artifact.made.files, "script.sh", values)

    proof = prove(held(artifact.data, files), Level.PROVEN)

    assert proof.outcome is Outcome.FAILED
    assert told in proof.reasons[0]


@pytest.mark.parametrize(
    "files", [b"", b"[]", b"{}", b'{"format": 2}', b"\xff", b'{"format":1,"members":[],"files":[3]}']
)
def test_a_list_that_is_none_is_refused(vault, dumped, prove, files):
    proof = prove(held(dumped(vault).data, files), Level.INTACT)

    assert proof.outcome is Outcome.FAILED
    assert "list of files" in proof.reasons[0]


def test_a_list_of_more_files_than_the_archive_holds_is_refused(vault, dumped, prove):
    artifact = dumped(vault)
    (vault / "zz.md").write_text("more")
    files = dumped(vault).made.files

    proof = prove(held(artifact.data, files), Level.INTACT)

    assert "not in the archive: zz.md" in proof.reasons[0]


def test_a_plain_tar_is_restored_as_a_proof_but_remains_unverified(vault, prove, tmp_path):
    subprocess.run(["tar", "-czf", tmp_path / "plain.tar.gz", "-C", vault, "."], check=True)

    proof = prove(held((tmp_path / "plain.tar.gz").read_bytes(), None), Level.PROVEN)

    assert (proof.outcome, proof.level) == (Outcome.UNVERIFIED, Level.RESTORED)
    assert "list of files: there is no list" in proof.reasons[0]


@pytest.mark.parametrize("make", [make for make, _ in HARMLESS.values()], ids=HARMLESS)
def test_harmless_archives_prove_as_restored(prove, make, tmp_path):
    proof = prove(held(make(), None), Level.RESTORED)

    assert (proof.outcome, proof.level) == (Outcome.PASSED, Level.RESTORED)


@pytest.mark.parametrize("name", ["symlink outside", "FIFO", "parent folder"])
def test_hostile_archives_fail_their_proof(prove, name, tmp_path):
    make, _told = HOSTILE[name]
    proof = prove(held(make(), None), Level.PROVEN)

    assert (proof.outcome, proof.level) == (Outcome.FAILED, None)


def test_a_proof_without_room_could_not_be_had_and_is_no_failure(vault, dumped, prove, small_disk):
    artifact = dumped(vault)
    proof = prove(artifact.held, Level.PROVEN, small_disk)

    assert proof.outcome is Outcome.UNVERIFIED
    assert "large.bin does not fit" in proof.reasons[0]
    assert list(small_disk.iterdir()) == []


def test_a_scratch_place_that_takes_two_names_for_one_is_no_failure(prove, tmp_path, merging_disk, dumped):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "Note.md").write_text("1")
    (tmp_path / "v" / "note.md").write_text("2")

    proof = prove(dumped(tmp_path / "v").held, Level.PROVEN, merging_disk)

    assert proof.outcome is Outcome.UNVERIFIED
    assert "note.md has the same name as another member" in proof.reasons[0]
    assert list(merging_disk.iterdir()) == []
