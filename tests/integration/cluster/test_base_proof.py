"""The proof of a base backup: recovered, checked page by page, and equal to an artifact that came by another road."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.clusters import Live, live

from refnet.catalog.artifact import OpenArtifact, Progress, Proof
from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import Kind, SourceName
from refnet.postgres.account import Account
from refnet.postgres.binaries import Binaries
from refnet.proof_run import ProofOptions
from refnet.sources.cluster import combined
from refnet.sources.cluster.base_artifact import BaseArtifact
from refnet.sources.cluster.base_proof import BaseProofOptions, Shelf
from refnet.sources.cluster.data_folder import Piece, unpack
from refnet.sources.database.dump.parallel_dump import DatabaseMaker
from refnet.store.local import LocalStore, new_manifest
from refnet.store.open_artifacts import artifact_in

SHOP, BASES = SourceName("main-shop", Kind.DATABASE), SourceName("main-cluster", Kind.CLUSTER)

GIVEN: list[OpenArtifact] = []


@pytest.fixture(scope="module")
def shop(system_server: object, short_folder: Path) -> Iterator[Live]:
    """A server without checksums of pages, with a base backup."""
    binaries: Binaries = system_server.binaries  # type: ignore[attr-defined]
    with live(binaries, short_folder / "proof") as found:
        found.sql("CREATE DATABASE shop")
        found.sql(
            "CREATE TABLE orders (i int PRIMARY KEY, what text)",
            "INSERT INTO orders SELECT g, 'order ' || g FROM generate_series(1, 500) g",
            "CREATE UNLOGGED TABLE cache AS SELECT 1 AS i",
            "CREATE SEQUENCE numbers",
            "SELECT nextval('numbers')",
            database="shop",
        )
        yield found


def artifact(live: Live) -> OpenArtifact:
    """An artifact of the database shop, made beside writers that commit all the time."""
    stop = threading.Event()

    def write() -> None:
        with live.cluster.target("shop").connect() as session:
            for number in range(1000, 100_000):
                if stop.is_set():
                    return
                session.execute(f"INSERT INTO orders VALUES ({number}, 'later') ON CONFLICT DO NOTHING")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        name, target = f"main-shop_{len(live.bases)}.sql.gz", live.cluster.target("shop")
        maker = DatabaseMaker(SHOP, lambda: target, lambda *_major, **_server: live.cluster.binaries, 2)
        with (live.folder / name).open("xb") as out:
            made = maker.dump(out)
    finally:
        stop.set()
        writer.join()
    live.sql("SELECT nextval('numbers')", database="shop")
    live.arrived()
    data = (live.folder / name).read_bytes()
    manifest = new_manifest(SHOP, name, made, hashlib.sha256(data).hexdigest(), len(data))
    return artifact_in(SHOP, live.folder / name, manifest)


class _Artifacts(BaseProofOptions):
    """Options with given artifacts instead of those of the catalog."""

    def artifacts(self) -> Iterator[OpenArtifact]:
        yield from GIVEN


def proof(live: Live, home: Path, *artifacts: OpenArtifact) -> Proof:
    """The proof of the newest base backup, as a drill makes it."""
    GIVEN[:] = artifacts
    names = live.publish()
    store = LocalStore(live.backups)
    options = _Artifacts(
        home,
        lambda *_major, **_server: live.cluster.binaries,
        2,
        memory_bound=0,
        archive=lambda _system: live.archive,
        shelf=Shelf([store]),
        bases=BASES,
        drill=True,
    )
    newest = next(one for one in store.entries(BASES) if one.name == names[-1])
    return BaseArtifact(store.artifact(newest)).prove(Level.PROVEN, options)


def altered(base: bytes, old: bytes, new: bytes) -> bytes:
    """The tar of the deflated `base` with other bytes in a file of a relation, and manifests that vouch for them."""
    made, changed = io.BytesIO(), {}
    with (
        tarfile.open(fileobj=io.BytesIO(gzip.decompress(base))) as tar,
        tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as out,
    ):
        for member in tar:
            content = tar.extractfile(member).read() if member.isreg() else b""  # type: ignore[union-attr]
            if member.name.startswith("base/") and old in content:
                content = content.replace(old, new)
                changed[member.name] = hashlib.sha256(content).hexdigest()
            if member.name == "backup_manifest":
                content = _vouched(json.loads(content), changed)
                member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    assert changed
    return made.getvalue()


def _vouched(manifest: dict[str, object], changed: dict[str, str]) -> bytes:
    for one in manifest["Files"]:  # type: ignore[attr-defined]
        one["Checksum"] = changed.get(one["Path"], one["Checksum"])
    del manifest["Manifest-Checksum"]
    text = json.dumps(manifest)[:-1].encode() + b",\n"
    return text + b'"Manifest-Checksum": "' + hashlib.sha256(text).hexdigest().encode() + b'"}\n'


def test_a_base_is_proven_by_an_artifact_that_was_made_beside_writers(shop: Live, short_home: Path) -> None:
    shop.base()
    shop.sql("UPDATE orders SET what = 'paid' WHERE i = 7", database="shop")
    shop.base(increment=True)
    shop.sql("DELETE FROM orders WHERE i = 8", database="shop")
    found = proof(shop, short_home, artifact(shop))
    assert (found.outcome, found.level) == (Outcome.PASSED, Level.PROVEN), found.reasons
    checks = [one.what for one in found.findings]
    assert "increments (pg_combinebackup)" in checks
    assert any(re.fullmatch(r"cross-proof with main-shop_\d+\.sql\.gz, 1 table", one) for one in checks)


def test_a_base_without_a_younger_artifact_is_restored_and_says_so(shop: Live, short_home: Path) -> None:
    shop.base()
    found = proof(shop, short_home)
    assert (found.outcome, found.level) == (Outcome.PASSED, Level.RESTORED), found.reasons
    assert "none of its databases has a newer proven artifact" in found.reasons[0]


def test_a_row_that_changed_in_a_base_is_found_though_every_checksum_fits(
    shop: Live, short_home: Path
) -> None:
    base = shop.base()
    data = gzip.compress(altered((shop.folder / base.name).read_bytes(), b"order 77", b"order 78"), 1)
    (shop.folder / base.name).write_bytes(data)
    shop.bases[-1] = replace_sha(base, data)
    found = proof(shop, short_home, artifact(shop))
    assert (found.outcome, found.level) == (Outcome.FAILED, Level.RESTORED)
    assert "table public.orders: the content of its" in found.reasons[0]


def replace_sha(base: Piece, data: bytes) -> Piece:
    facts = replace(base.facts, raw_bytes=len(gzip.decompress(data)))
    return base._replace(sha256=hashlib.sha256(data).hexdigest(), facts=facts)


def test_a_drill_finds_what_applied_increments_have_otherwise_than_pg_combinebackup_makes(
    shop: Live, short_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.base()
    shop.sql("UPDATE orders SET what = 'paid'", database="shop")
    shop.base(increment=True)

    def wrong(pieces: Sequence[Piece], folder: Path, user: Account, progress: Progress) -> None:
        unpack(pieces, folder, user, progress)
        with (folder / "base" / "5" / "1259").open("r+b") as file:
            file.write(b"x")

    monkeypatch.setattr(combined, "unpack", wrong)
    options = ProofOptions(short_home, lambda *_major, **_server: shop.cluster.binaries, 2)
    found = combined.same_as_combined(shop.bases[-2:], options)
    assert (found.outcome, found.whose) == (Outcome.FAILED, Fault.ENVIRONMENT)
    assert found.reason == "not as pg_combinebackup makes it: 1 file, the first is base/5/1259"
