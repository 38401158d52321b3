"""A database with every kind of object, and what stock tools make of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from psycopg import sql
from tests import oracle
from tests.oracle import Portrait

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

SQL = Path(__file__).parent / "integration" / "everything"
#: 63 bytes, as long as a name can be, and odd in every way that psql, libpq and a URI could mistake.
ODD_NAME = 'o\'dd "db" = %20\\;é$$--{x}?&#@:/*'.ljust(62, "_")


@dataclass(frozen=True)
class Everything:
    """The database `target` on `cluster`, built from the SQL in everything/."""

    cluster: Cluster
    target: Target

    @property
    def bin_dir(self) -> Path:
        return self.cluster.binaries.folder

    def portrait(self, target: Target | None = None) -> Portrait:
        """The portrait of a database on this server: of this one, if none is named."""
        return oracle.portrait((target or self.target).conninfo, self.bin_dir)

    @cached_property
    def source(self) -> Portrait:
        """The portrait of the database itself."""
        return self.portrait()

    @cached_property
    def reference(self) -> Portrait:
        """The portrait of what stock `pg_dump | psql` makes of the database."""
        copy = self.fresh("stock")
        text = oracle.run(self.bin_dir / "pg_dump", conninfo=self.target.conninfo)
        oracle.run(self.bin_dir / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", conninfo=copy.conninfo, stdin=text)
        found = self.portrait(copy)
        drop(self.cluster, copy.name)
        return found

    def fresh(self, name: str) -> Target:
        """A new empty database on the same server, of the same encoding and locale."""
        drop(self.cluster, name)
        with self.cluster.target().connect() as admin:
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return self.cluster.target(name)


def drop(cluster: Cluster, name: str) -> None:
    """Drop a database, its subscriptions first: they would hold it."""
    with cluster.target().connect() as admin:
        if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            return
        with cluster.target(name).connect(
            {"statement_timeout": "0", "client_min_messages": "error"}
        ) as session:
            for (subscription,) in session.execute(
                "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = %s",
                (name,),
            ).fetchall():
                session.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(subscription)))
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def build(cluster: Cluster, name: str, *, portable: bool = False) -> Everything:
    """Build the database `name`; `portable`: without what another build of PostgreSQL may lack."""
    everything = Everything(cluster, cluster.target(name))
    psql = everything.bin_dir / "psql"
    oracle.run(psql, "-Xq", "-f", str(SQL / "cluster.sql"), conninfo=cluster.target().conninfo)
    target = everything.fresh(name)
    flag = ["-v", f"portable={int(portable)}"]
    oracle.run(psql, "-Xq", *flag, "-f", str(SQL / "everything.sql"), conninfo=target.conninfo)
    return everything
