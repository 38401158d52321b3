"""Which way of a recovery comes first."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from refnet.actions.physical_way import physical_ways
from refnet.catalog.manifest import Entry, Manifest
from refnet.catalog.source_name import Kind, SourceName
from refnet.postgres.binaries import installed
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings
from refnet.wiring import with_clusters

_BASE = SourceName("main-cluster", Kind.CLUSTER)
_HERE = {
    "architecture": platform.machine(),
    "collations": f"libc {(os.confstr('CS_GNU_LIBC_VERSION') or '').removeprefix('glibc ')}",
}


def _first(details: dict[str, Any], *, proven: bool = True) -> tuple[str, ...]:
    """Why the physical way is not first."""
    major = max(one.major for one in installed(None) if one.has_server)
    facts = {
        "base": "full", "parent": None, "system_identifier": "7", "server_version": f"{major}.1", "start_lsn": "0/1",
        "end_lsn": "0/2", "timeline": 1, "raw_bytes": 1, "tablespaces": 0,
    }  # fmt: skip
    name = "main-cluster_20261207_120000.base.tar.gz"
    made = datetime(2026, 12, 7, 12, tzinfo=UTC)
    entry = Entry(Manifest(_BASE, name, made, 1, "ab" * 32, 1.0, details=facts | details))
    settings = with_clusters(
        replace(Settings(), clusters={"main": SourceSettings("main", "clusters", wal=True)})
    )
    [way] = physical_ways(settings, {_BASE: entry}, [name] if proven else [])
    assert (way.command, way.rest) == (
        "refnet restore main-cluster --latest --into DIR",
        "--skip main-cluster",
    )
    return way.reasons


def test_it_is_first_where_this_machine_fits_and_a_cross_proof_passed() -> None:
    assert _first(_HERE) == ()
    assert _first(_HERE | {"collations": ""}) == ()  # all databases sort by bytes


@pytest.mark.parametrize(
    ("details", "why"),
    [
        ({"server_version": "9.6.1"}, "no server of PostgreSQL 9 is installed here"),
        ({"architecture": "riscv64"}, "the architecture riscv64"),
        ({"architecture": 7}, "does not say which architecture"),
        ({"collations": None}, "does not say which architecture"),
        ({"collations": "libc 2.3"}, "sort by libc 2.3"),
        ({"collations": "icu 60.1"}, "sort by icu 60.1"),
    ],
)
def test_it_is_second_where_something_differs_or_is_not_known(details: dict[str, Any], why: str) -> None:
    [said] = _first(_HERE | details)
    assert why in said


def test_it_is_second_without_a_cross_proof() -> None:
    assert _first(_HERE, proven=False) == (
        "it was never compared with a database (cross-proof), as far as is known here",
    )
