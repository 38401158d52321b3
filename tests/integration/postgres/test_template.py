"""A scratch server begins with a copy of a data folder that initdb has made once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from refnet.postgres import scratch as scratch_servers
from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import fill, scratch

_ROLES = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolsuper"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The superusers of the data folders that initdb made; the templates are in tmp_path."""
    found: list[str] = []
    create = Cluster.create

    def counted(cluster: Cluster, *arguments: object, **options: object) -> None:
        found.append(cluster.superuser)
        create(cluster, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Cluster, "create", counted)
    monkeypatch.setattr(scratch_servers, "_templates", lambda _: tmp_path)
    return found


def _superuser(binaries: Binaries, base: Path) -> str:
    """The superuser of a new scratch server, which it logs in as."""
    with scratch(binaries, base=base) as cluster, cluster.target().connect() as session:
        [(name,)] = session.execute(_ROLES).fetchall()
    assert name == cluster.superuser
    return str(name)


def _flip(data: Path) -> None:
    file = data / "global" / "pg_control"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)


def _link(data: Path) -> None:
    (data / "PG_VERSION").unlink()
    (data / "PG_VERSION").symlink_to("/etc/hostname")


def _pipe(data: Path) -> None:
    (data / "PG_VERSION").unlink()
    os.mkfifo(data / "PG_VERSION")


def _more(data: Path) -> None:
    (data / "base" / "more").write_text("x")


def _less(data: Path) -> None:
    (data / "pg_hba.conf").unlink()


def _other_programs(data: Path) -> None:
    record = data.parent / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "made_by": "0" * 64}))


def _no_record(data: Path) -> None:
    (data.parent / "record.json").write_bytes(b"\xff{")


def _other_name(data: Path) -> None:
    record = data.parent / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "superuser": 'x"; DROP'}))


def _no_digest(data: Path) -> None:
    """A copy that fails has no digest either."""
    record = data.parent / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "digest": ""}))
    _pipe(data)


def _cut(data: Path) -> None:
    """As a run leaves it that is killed while it makes one."""
    data.parent.rename(data.parent.with_name(".new-x"))


CHANGES = (_flip, _link, _pipe, _more, _less, _other_programs, _no_record, _other_name, _no_digest, _cut)


def test_initdb_runs_once_until_its_template_is_changed(
    made: list[str], wheel: Binaries, short_home: Path, tmp_path: Path
) -> None:
    names = {_superuser(wheel, short_home) for _ in range(2)}

    assert len(made) == 1
    assert len(names | {*made}) == 3
    [record] = tmp_path.glob("template-*/record.json")
    assert record.stat().st_mode & 0o777 == 0o600
    assert json.loads(record.read_text())["superuser"] == made[0]

    _flip(record.with_name("data"))
    names |= {_superuser(wheel, short_home) for _ in range(2)}

    assert len(made) == 2
    assert len(names | {*made}) == 6
    assert [one.name for one in tmp_path.iterdir() if one.name != ".lock"] == [record.parent.name]


#: What stands for the files of a fresh data folder.
_FRESH = {"PG_VERSION": 3, "pg_hba.conf": 40, "base/1": 9, "global/pg_control": 8192}


@pytest.mark.parametrize("change", CHANGES)
def test_a_template_that_is_not_what_was_recorded_is_made_again(
    wheel: Binaries, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    made: list[str] = []
    templates = tmp_path / "templates"
    templates.mkdir()

    def initdb(cluster: Cluster) -> None:
        assert list(cluster.data.iterdir()) == []  # nothing of a template
        made.append(cluster.superuser)
        for name, size in _FRESH.items():
            (cluster.data / name).parent.mkdir(0o700, parents=True, exist_ok=True)
            (cluster.data / name).write_bytes(bytes(size))
            (cluster.data / name).chmod(0o600)

    def superuser(wished: str) -> str:
        place = tmp_path / wished
        (place / "data").mkdir(parents=True)
        cluster = Cluster(place / "data", place, account(), wheel, wished, "password")
        filled = fill(cluster, templates, initdb)
        found = {str(one.relative_to(cluster.data)): one for one in cluster.data.rglob("*") if one.is_file()}
        assert {name: one.read_bytes() for name, one in found.items()} == {
            name: bytes(size) for name, size in _FRESH.items()
        }
        return filled.superuser

    first, second, third, fourth = (f"refnet_{number:012}" for number in range(4))
    assert (superuser(first), superuser(second)) == (first, first)
    [data] = templates.glob("template-*/data")
    change(data)

    assert (superuser(third), superuser(fourth)) == (third, third)

    assert made == [first, third]
    assert [one.name for one in templates.iterdir() if one.name != ".lock"] == [data.parent.name]
