"""Which extensions the files of a server offer, and how Debian calls their packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refnet.core.errors import RefnetError
from refnet.local_postgres import binaries_for, proof_binaries
from refnet.postgres.binaries import Binaries, available, package
from refnet.settings import Settings


def test_extensions_of_installed_programs_are_listed_with_versions(wheel: Binaries) -> None:
    found = available(wheel)

    assert found
    assert found["plpgsql"] == "1.0"


def test_empty_control_files_are_extensions_of_an_unknown_version(wheel: Binaries, tmp_path: Path) -> None:
    folder = tmp_path / "share" / "extension"
    folder.mkdir(parents=True)
    (folder / "odd.control").write_bytes(b"\xff\x00default_version = 1\n" * 10)
    (folder / "large.control").write_bytes(b"#" * (1 << 20))
    (folder / "linked.control").symlink_to("/etc/passwd")
    (folder / "odd--1.0.sql").write_text("")
    programs = replace(wheel, folder=tmp_path / "bin")

    assert available(programs) == {"odd": "", "large": "", "linked": ""}
    assert available(replace(wheel, folder=tmp_path / "nowhere" / "bin")) is None


def test_proofs_use_the_programs_of_their_own_setting(wheel: Binaries, tmp_path: Path) -> None:
    settings = Settings(prove_bin_dir=wheel.folder, postgres_bin_dir=tmp_path)

    found = proof_binaries(settings, wheel.major, server=True)
    assert (found.folder, found.origin) == (wheel.folder, "configured")
    with pytest.raises(RefnetError, match=r"postgres\.bin_dir"):
        binaries_for(settings, wheel.major)
    with pytest.raises(RefnetError, match=r"^prove\.bin_dir: "):
        proof_binaries(Settings(prove_bin_dir=tmp_path), wheel.major)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("postgis", "postgresql-17-postgis-3"),
        ("postgis_raster", "postgresql-17-postgis-3"),
        ("vector", "postgresql-17-pgvector"),
        ("pg_cron", "postgresql-17-cron"),
        ("timescaledb", "postgresql-17-timescaledb"),
        ("plpython3u", "postgresql-plpython3-17"),
    ],
)
def test_the_package_of_an_extension_is_guessed(name: str, expected: str) -> None:
    assert package(name, 17) == expected
