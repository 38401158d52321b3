"""The forger's own tools: a forgery without a lie in it passes, so a test that refuses one refuses the lie."""

from __future__ import annotations

import gzip
import io

from tests.hostile import forge

from refnet.catalog.manifest import Outcome
from refnet.proof_run import NOTHING
from refnet.sources.database.artifact import sqlgz
from refnet.sources.database.artifact.sqlgz import Reader


def _passes(artifact: bytes) -> bool:
    reader = Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(artifact))
    return all(finding.outcome is Outcome.PASSED for finding in sqlgz.check_intact(reader, 1, NOTHING))


def test_an_artifact_forged_without_a_change_is_intact(genuine: bytes) -> None:
    assert _passes(forge.forged(genuine, lambda _: None))


def test_an_artifact_with_another_member_is_intact(genuine: bytes) -> None:
    other = forge.with_member(genuine, 0, b"SELECT 1;\n")
    assert _passes(other)
    assert gzip.decompress(other).startswith(b"SELECT 1;\n")
