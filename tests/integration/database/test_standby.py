"""A backup from a standby: what a standby does not have is named, and the rest is proven."""

from __future__ import annotations

from pathlib import Path

from benchmarks.throwaway import throwaway
from tests.integration.database.library import artifact_of, held
from tests.judges import routes

from refnet.catalog.manifest import Level, Outcome
from refnet.postgres.binaries import Binaries
from refnet.proof_run import ProofOptions

SHOP = """
CREATE TABLE kept AS SELECT i AS id FROM generate_series(1, 100) i;
CREATE SEQUENCE numbers;
CREATE UNLOGGED TABLE cache (id serial); INSERT INTO cache DEFAULT VALUES;
ALTER DATABASE shop SET default_transaction_isolation = 'serializable';
"""


def test_a_standby_lacks_unlogged_rows_and_refuses_serializable_sessions(
    wheel: Binaries, folder: Path, short_home: Path
) -> None:
    with throwaway(wheel, base=folder / "primary", settings=routes.PRIMARY) as primary:
        with primary.target().connect() as admin:
            admin.execute("CREATE DATABASE shop")
        with primary.target("shop").connect() as session:
            session.execute(SHOP)
        with routes.standby(primary, folder / "standby") as route:
            content = artifact_of(route("shop"), wheel)

    assert held(content).index.unchecked == (
        "the content of unlogged tables and sequences is not in the backup, as a standby has none: public.cache, public.cache_id_seq",
    )
    proof = held(content).prove(Level.PROVEN, ProofOptions(short_home / "scratch", lambda *_, **__: wheel, 2))
    assert (proof.outcome, proof.reasons) == (Outcome.PASSED, ())
