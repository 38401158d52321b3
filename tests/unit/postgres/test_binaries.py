from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import CLIENT, SERVER, Binaries, choose, copied, find, installed


def _installation(folder: Path, version: str, *, server: bool = True, without: str = "") -> Path:
    folder.mkdir(parents=True)
    for name in (*CLIENT, *(SERVER if server else ())):
        if name != without:
            (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
            (folder / name).chmod(0o755)
    return folder


def _each(tmp_path: Path, *majors: int, origin: str = "system", server: bool = True) -> list[Binaries]:
    return [
        Binaries(_installation(tmp_path / f"{origin}{m}", f"{m}.1", server=server), m, f"{m}.1", origin)
        for m in majors
    ]


@pytest.mark.parametrize(("asked", "got"), [(15, 15), (16, 17), (17, 17), (14, 15), (18, 18)])
def test_the_same_major_is_taken_else_the_next_newer_one(tmp_path: Path, asked: int, got: int) -> None:
    found = _each(tmp_path, 18, 15, 17)
    assert choose(found, asked, server=False).major == got


def test_an_older_major_is_never_taken_and_the_error_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RefnetError) as raised:
        choose(_each(tmp_path, 15, 17), 18, server=False)
    assert "PostgreSQL 18 or newer" in raised.value.message
    assert "found: 15, 17" in raised.value.message
    assert "postgresql-client-18" in raised.value.hint


def test_of_the_same_major_the_first_in_order_is_taken(tmp_path: Path) -> None:
    found = [*_each(tmp_path, 18, origin="system"), *_each(tmp_path, 18, origin="wheel")]
    assert choose(found, 18, server=True).origin == "system"


def test_what_follows_the_first_of_the_same_major_is_not_asked(tmp_path: Path) -> None:
    found = iter(_each(tmp_path, 17, 18, 19))
    assert choose(found, 18, server=False).major == 18
    assert next(found).major == 19


def test_a_new_cluster_prefers_configured_then_installed_then_the_wheels(
    tmp_path: Path,
) -> None:
    system, wheel = _each(tmp_path, 19, 17), _each(tmp_path, 18, origin="wheel")
    configured = _each(tmp_path, 16, origin="configured")
    assert choose(configured + system + wheel, None, server=True).origin == "configured"
    assert choose(wheel + system, None, server=True).major == 19
    assert choose(wheel, None, server=True).origin == "wheel"


def test_client_tools_alone_are_no_server(tmp_path: Path) -> None:
    clients = _each(tmp_path, 18, server=False)
    assert choose(clients, 18, server=False).major == 18
    with pytest.raises(
        RefnetError, match="no server of PostgreSQL 18 or newer on this machine \\(found: none\\)"
    ):
        choose(clients, 18, server=True)


def test_the_systems_folders_are_found_whatever_the_distribution(tmp_path: Path) -> None:
    for place, version in {
        "usr/lib/postgresql/15/bin": "15.14 (Debian 15.14-1)",
        "usr/pgsql-16/bin": "16.2",
        "usr/lib/postgresql17/bin": "17.6",
        "opt/homebrew/opt/postgresql@19/bin": "19beta1",
    }.items():
        _installation(tmp_path / place, version)
    found = {each.major: each for each in installed(None, tmp_path) if each.origin == "system"}
    assert sorted(found) == [15, 16, 17, 19]
    assert found[15].version == "15.14"


def test_a_folder_with_missing_or_broken_programs_is_skipped(tmp_path: Path) -> None:
    _installation(tmp_path / "usr/lib/postgresql/16/bin", "16.1", without="pg_restore")
    broken = _installation(tmp_path / "usr/lib/postgresql/17/bin", "17.1")
    (broken / "pg_dump").write_bytes(b"\x7fELF of another machine")
    assert [each for each in installed(None, tmp_path) if each.origin == "system"] == []


def test_debians_wrapper_is_not_taken_for_a_pg_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = tmp_path / "pg_wrapper"
    wrapper.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.1'\n")
    wrapper.chmod(0o755)
    (tmp_path / "bin").mkdir()
    for name in CLIENT:
        (tmp_path / "bin" / name).symlink_to(wrapper)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "PATH" not in {each.origin for each in installed(None, tmp_path)}


def test_a_program_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{_installation(tmp_path / 'mine', '21.3')}:/bin")
    assert [each.major for each in installed(None, tmp_path) if each.origin == "PATH"] == [21]


def test_a_configured_folder_comes_first_and_a_wrong_one_is_an_error(tmp_path: Path) -> None:
    folder = _installation(tmp_path / "here", "18.0")
    assert next(installed(folder, tmp_path)) == Binaries(folder, 18, "18.0", "configured")
    with pytest.raises(RefnetError, match=r"postgres\.bin_dir") as raised:
        next(installed(tmp_path / "empty", tmp_path))
    assert raised.value.code == Exit.USAGE


def test_the_wheel_is_found_and_has_a_server(wheel: Binaries) -> None:
    assert wheel.has_server
    assert find(wheel.major, None, server=True).major == wheel.major


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    clients = _each(tmp_path, 18, server=False)[0]
    with pytest.raises(RefnetError, match="has no initdb"):
        clients.tool("initdb")


def test_the_wheels_copy_runs_by_itself_and_is_made_once(wheel: Binaries, tmp_path: Path) -> None:
    first = copied(wheel, tmp_path)
    made = first.tool("psql").stat().st_ino
    assert copied(wheel, tmp_path).tool("psql").stat().st_ino == made
    assert [each.name for each in tmp_path.iterdir()] == [f"programs-{wheel.version}"]
    assert next(installed(first.folder)).version == wheel.version
    assert all(path.stat().st_mode & 0o004 for path in tmp_path.rglob("*"))


def test_only_the_wheels_programs_are_copied(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="cannot enter"):
        copied(_each(tmp_path, 17)[0], tmp_path)


def test_threads_that_begin_at_once_ask_a_program_once_what_it_knows(tmp_path: Path) -> None:
    (found,) = _each(tmp_path, 17)
    asked, both = tmp_path / "asked", threading.Barrier(2, timeout=20)
    (found.folder / "pg_dump").write_text(f"#!/bin/sh\necho asked >> {asked}\necho --restrict-key\n")

    def tool() -> Path:
        both.wait()
        return found.tool("pg_dump")

    with ThreadPoolExecutor(2) as threads:
        given = [one.result() for one in [threads.submit(tool) for _ in range(2)]]
    assert given == [found.folder / "pg_dump"] * 2
    assert asked.read_text() == "asked\n"
