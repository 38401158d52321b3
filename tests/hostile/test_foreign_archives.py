"""An archive of pg_dump from somebody else makes pg_restore read no file but its own, whoever runs it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.command import Command, url_of

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries, installed
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.artifact import dump_files
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.store.open_artifacts import folder_at

_SECRET = "the secret of somebody else"


@pytest.fixture
def dump(small_database: Target, wheel: Binaries, tmp_path: Path) -> Callable[..., Path]:
    """Makes a dump of the small database, not compressed, in a format of pg_dump."""

    def make(form: str = "d", binaries: Binaries = wheel) -> Path:
        path = tmp_path / f"other.{form}"
        command = [binaries.tool("pg_dump"), f"-F{form}", "-f", path, *([] if form == "t" else ["-Z0"])]
        subprocess.run(command, env=small_database.environment(), check=True)
        return path

    return make


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that belongs to no dump."""
    path = tmp_path / "secret"
    path.write_text(f"1\t{_SECRET}\n\\.\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def refnet(tmp_path: Path, short_home: Path) -> Command:
    return Command(short_home, tmp_path / "backups", "postgresql://nobody@/nothing?host=/nowhere")


@pytest.fixture
def restored(server: Cluster, tmp_path: Path, short_home: Path) -> Iterator[Command]:
    """The command on a database that is not there yet."""
    target = server.target("from_others")
    yield Command(short_home, tmp_path / "backups", url_of(target))
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS from_others WITH (FORCE)")


def _data(folder: Path) -> Path:
    """The file with the rows of the larger table."""
    return max(folder.glob("*.dat"), key=lambda path: path.stat().st_size)


def _linked(folder: Path, secret: Path) -> None:
    data = _data(folder)
    data.unlink()
    data.symlink_to(secret)


def _linked_within(folder: Path, secret: Path) -> None:
    data = _data(folder)
    data.rename(folder / "data")
    data.symlink_to(folder / "data")


def _contents_linked(folder: Path, secret: Path) -> None:
    contents = folder / "toc.dat"
    contents.rename(folder.parent / "toc.dat")
    contents.symlink_to(folder.parent / "toc.dat")


def _fifo(folder: Path, secret: Path) -> None:
    data = _data(folder)
    data.unlink()
    os.mkfifo(data)


def _folder_within(folder: Path, secret: Path) -> None:
    (folder / "more").mkdir()


def _named(folder: Path, old: str, new: str) -> None:
    """Give an entry of the table of contents a file of another name, of the same length."""
    contents = (folder / "toc.dat").read_bytes()
    assert contents.count(old.encode()) == 1
    (folder / "toc.dat").write_bytes(contents.replace(old.encode(), new.encode()))


def _outside(folder: Path, secret: Path) -> None:
    name = _data(folder).name
    other = "../secret".ljust(len(name), "x")[: len(name)]
    shutil.copy(secret, folder / other)
    _named(folder, name, other)


def _absolute(folder: Path, secret: Path) -> None:
    name = _data(folder).name
    _named(folder, name, "/etc/hostname"[: len(name)])


def _large_objects_outside(folder: Path, secret: Path) -> None:
    list_of_them = next(folder.glob("blobs*.toc"))
    list_of_them.write_text("16400 ../secret\n")


def _large_objects_elsewhere(folder: Path, secret: Path) -> None:
    list_of_them = next(folder.glob("blobs*.toc"))
    _named(folder, list_of_them.name, list_of_them.name.replace("blobs", "b1obs"))


def _large_objects_compressed(folder: Path, secret: Path) -> None:
    list_of_them = next(folder.glob("blobs*.toc"))
    (folder / f"{list_of_them.name}.gz").write_bytes(b"")


def _cut(folder: Path, secret: Path) -> None:
    contents = folder / "toc.dat"
    contents.write_bytes(contents.read_bytes()[:-7])


ATTACKS = [
    _linked, _linked_within, _contents_linked, _fifo, _folder_within, _outside, _absolute, _large_objects_outside,
    _large_objects_elsewhere, _large_objects_compressed, _cut,
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_folder_leading_out_of_itself_is_refused_before_pg_restore(
    dump: Callable[..., Path], secret: Path, attack: Callable[[Path, Path], None]
) -> None:
    folder = dump()
    attack(folder, secret)
    with pytest.raises(RefnetError, match="cannot be restored: ") as caught:
        ForeignDump(folder_at(folder)).wanted()
    assert caught.value.code is Exit.DAMAGED


def test_a_linked_file_comes_into_no_database(
    dump: Callable[..., Path], secret: Path, refnet: Command, restored: Command, server: Cluster
) -> None:
    folder = dump()
    _linked(folder, secret)
    verified = refnet("verify", folder)
    assert verified.code == 4
    assert "is a link or not a regular file" in verified.out
    restored("restore", "database", folder, "--force").fails(4, "is a link or not a regular file")
    with server.target().connect() as admin:
        rows = admin.execute("SELECT datname FROM pg_database WHERE datname LIKE 'from_others%'").fetchall()
    assert rows == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can link another user's file in everywhere")
def test_another_users_file_that_is_linked_in_hard_is_refused(
    dump: Callable[..., Path], secret: Path
) -> None:
    folder = dump()
    data = _data(folder)
    data.unlink()
    os.link(secret, data)
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)
    os.chown(secret, 0, 0)
    with pytest.raises(RefnetError, match="another user's file"):
        ForeignDump(folder_at(folder)).wanted()


def test_a_file_that_is_exchanged_after_it_was_looked_at_is_not_read(
    dump: Callable[..., Path], secret: Path
) -> None:
    folder = dump()
    folder.chmod(0o777)
    dump_files.folder_contents(folder)
    data = _data(folder)
    content = data.read_bytes()
    with dump_files.folder_path(folder, None) as found:
        data.unlink()
        data.symlink_to(secret)
        assert (found.path / data.name).read_bytes() == content
    with pytest.raises(RefnetError, match="is a link"), dump_files.folder_path(folder, None):
        pass


def test_a_folder_that_is_exchanged_itself_is_not_read(dump: Callable[..., Path], tmp_path: Path) -> None:
    folder = dump()
    name = _data(folder).name
    content = (folder / name).read_bytes()
    with dump_files.folder_path(folder, None) as found:
        folder.rename(tmp_path / "away")
        folder.mkdir()
        (folder / name).write_text(_SECRET)
        assert (found.path / name).read_bytes() == content


@pytest.mark.parametrize("form", ["d", "c", "t"])
def test_a_dump_that_root_alone_can_read_is_verified_as_nobody(
    dump: Callable[..., Path], refnet: Command, form: str
) -> None:
    path = dump(form)
    for one in (path, *(path.iterdir() if path.is_dir() else ())):
        one.chmod(0o700 if one.is_dir() else 0o600)
    ended = refnet("verify", path, "--json")
    assert "restored" in ended.out, ended.out + ended.err
    assert ended.code == 0


@pytest.mark.parametrize("form", ["d", "c", "t"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_dump_that_leads_nowhere_else_is_restored(
    dump: Callable[..., Path], restored: Command, server: Cluster, tmp_path: Path, form: str, linked: bool
) -> None:
    path = dump(form)
    if linked:  # a path that the user names may be a link
        (tmp_path / "link").symlink_to(path)
    restored("restore", "database", tmp_path / "link" if linked else path, "--force").succeeds()
    with server.target("from_others").connect() as session:
        found = session.execute("SELECT (SELECT count(*) FROM papers), (SELECT count(*) FROM pg_largeobject)")
        assert found.fetchall() == [(5000, 1)]


@pytest.mark.parametrize("form", ["d", "c", "t"])
def test_the_contents_are_those_that_pg_restore_lists(
    dump: Callable[..., Path], small_database: Target, form: str
) -> None:
    for binaries in installed(None):
        if binaries.major < 18:
            continue  # an older pg_dump does not read this server
        path = dump(form, binaries)
        if path.is_dir():
            contents = dump_files.folder_contents(path)
        else:
            with path.open("rb") as file:
                contents = dump_files.file_contents(path.name, file, tar=form == "t")
        _same_as_listed(contents, binaries, path)


@pytest.mark.parametrize("form", ["d", "c", "t"])
def test_the_contents_of_an_older_pg_dump_are_read_too(
    system_database: Target, system_server: Cluster, tmp_path: Path, form: str
) -> None:
    with system_database.connect() as session:
        session.execute("CREATE TABLE papers (id int PRIMARY KEY); SELECT lo_from_bytea(0, 'large')")
    path = tmp_path / "older"
    command = [system_server.binaries.tool("pg_dump"), f"-F{form}", "-f", path]
    subprocess.run(command, env=system_database.environment(), check=True)
    if path.is_dir():
        contents = dump_files.folder_contents(path)
    else:
        with path.open("rb") as file:
            contents = dump_files.file_contents(path.name, file, tar=form == "t")
    _same_as_listed(contents, system_server.binaries, path)


def _same_as_listed(contents: dump_files.DumpContents, binaries: Binaries, path: Path) -> None:
    listed = subprocess.run(
        [binaries.tool("pg_restore"), "-l", path], capture_output=True, text=True, check=True
    )
    lines = [line for line in listed.stdout.splitlines() if line and not line.startswith(";")]
    numbers = [int(line.split(";")[0]) for line in lines]
    assert numbers
    there = {entry.number: entry.kind for entry in contents.entries}
    assert set(numbers) <= there.keys()  # pg_restore lists no ENCODING, STDSTRINGS, SEARCHPATH
    for number, line in zip(numbers, lines, strict=True):
        assert f" {there[number]} " in line
    assert contents.server.startswith(str(binaries.major))
    assert contents.program.startswith(binaries.version)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PGDMP", b"PGDMP\x01\x63\x00\x04\x08\x01", b"PGDMP\x01\x10\x00\x00\x08\x01", b"PGDMP\x01\x10\x00\xff\xff\x01",
        b"PGDMP\x01\x10\x00\x04\x08\x01" + b"\xff" * 100, b"PGDMP\x01\x10\x00\x04\x08\x03" + b"\0" * 100,  # says that it is a tar

        b"PGDMP\x01\x10\x00\x04\x08\x01" + b"\0" * 36 + b"\0\xff\xff\xff\x7f" * 3,
        b"PGDMP\x01\x10\x00\x08\x08\x01" + b"\0" * 64 + b"\0" * 9 * 3 + b"\0" + b"\xff" * 8,
        b"PGDMP\x01\x10\x00\x01\x08\x01" + b"\0" * 21 + b"\0\x7f" + b"\0" * 40,
    ],
    ids=range(10),
)  # fmt: skip
def test_contents_of_any_bytes_are_an_error_at_once(content: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(RefnetError):
        dump_files.file_contents("other.dump", io.BytesIO(content), tar=False)
    assert time.monotonic() - began < 2
