"""Manifests and evidence: what a store believes of an artifact."""

from __future__ import annotations

import contextlib
import io
import json
import math
from datetime import UTC, datetime

from hypothesis import given
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents

from refnet.actions.look import Shown
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.source_name import SourceName
from refnet.cli.render import print_artifact

NOW = datetime(2026, 11, 25, 17, 0, 1, 250_000, tzinfo=UTC)
MANIFEST = Manifest(
    SourceName.DATABASE,
    "refnet_20261125_170001.sql.gz",
    NOW,
    7,
    "ab" * 32,
    1.5,
    files_sha256="cd" * 32,
    unchecked=("論文",),
    details={
        "database": "wiki",
        "system_identifier": "74",
        "tables": 8,
        "rows": 7,
        "disagrees": {"a": [1]},
        "excluded": {"rules": ["*.tmp"], "files": 2, "folders": 1, "bytes": 7},
        "one_file_system": True,
        "unprotected": {"kind": "databases", "count": 4, "first": ["wiki", "二"]},
    },
    made_by="refnet 1",
).to_json()
LINE = Evidence(
    NOW, Level.PROVEN, Outcome.UNVERIFIED, 1.5, "18.6", ("no ICU",), drill=True, artifact="ab" * 32
).to_json()


@fuzzed
@given(documents(json.loads(MANIFEST), MANIFEST.encode()))
def test_a_manifest_is_read_or_refused(text: bytes) -> None:
    manifest = outcome(lambda: Manifest.from_json(text), ValueError)
    if manifest:
        assert 1900 <= manifest.created.year <= 9000
        assert manifest.created.tzinfo
        assert math.isfinite(manifest.seconds)
        assert "/" not in manifest.name
        assert manifest.identity is None or manifest.identity.database
        again = manifest.to_json().encode()
        assert Manifest.from_json(again) == manifest
        shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with contextlib.redirect_stdout(shown):
            outcome(lambda: print_artifact(_shown(manifest)))


def _shown(manifest: Manifest) -> Shown:
    artifact = OpenArtifact(manifest.source, manifest.name, io.BytesIO, manifest, entry=Entry(manifest))
    return Shown(artifact, manifest)


@fuzzed
@given(documents(json.loads(LINE), LINE.encode()))
def test_a_line_of_evidence_is_read_or_refused(text: bytes) -> None:
    line = outcome(lambda: Evidence.from_json(text), ValueError)
    if line:
        assert 1900 <= line.at.year <= 9000
        assert math.isfinite(line.seconds)
        assert Evidence.from_json(line.to_json().encode()) == line
