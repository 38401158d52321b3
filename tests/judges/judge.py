"""One random database through backup and restore, judged by stock tools on direct connections."""

from __future__ import annotations

import ast
import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql
from tests import oracle
from tests.integration.database.library import artifact_of, held, restore
from tests.judges.databases import Scribe, run_accepted

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import Level, Manifest, Outcome
from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import RefnetError
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.proof_run import ProofOptions
from refnet.sources.permitted import Permitted
from refnet.sources.roles.globals_artifact import GlobalsArtifact, GlobalsMaker
from refnet.sources.roles.source import GlobalsRestore

#: A refusal that names the settings, and the SQL that helps.
_LOST = "drops settings of pg_dump"
#: The part of a dump's text that creates a subscription.
_SUBSCRIPTION = re.compile(
    r"--\n-- Name: [^\n]*; Type: SUBSCRIPTION; [^\n]*\n--\n.*?(?=--\n-- (?:Name: |PostgreSQL database dump complete))",
    re.DOTALL,
)


@dataclass(frozen=True)
class Court:
    """A server with random databases, and another one that receives what is restored."""

    source: Cluster
    other: Cluster

    @contextmanager
    def case(self, seed: int) -> Iterator[Case]:
        """The database of `seed` on the source; what was made of it is dropped afterwards."""
        name, scribe = f"judge_{seed}", Scribe(seed)
        case = Case(self, name, scribe)
        try:
            with self.source.target().connect() as admin:
                admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
                run_accepted(admin, scribe.global_statements())
                run_accepted(admin, scribe.database_statements(name))
            with case.live.connect(
                {"default_transaction_read_only": "off", "search_path": "public"}
            ) as session:
                run_accepted(session, scribe.statements())
            yield case
        finally:
            for cluster in (self.source, self.other):
                _clean(cluster, name, scribe.prefix)


@dataclass(frozen=True)
class Case:
    """A random database, and the roles of its server that it may name."""

    court: Court
    name: str
    scribe: Scribe

    @property
    def live(self) -> Target:
        return self.court.source.target(self.name)

    @property
    def restored(self) -> Target:
        return self.court.other.target(self.name)

    def differences(self, through: Target, proofs: Path | None = None) -> list[str]:
        """Back up `through` a route, restore on the other server, and return what stock tools see differ.

        proofs: a folder for scratch servers; None: without a proof.
        """
        binaries, source = self.court.source.binaries, self.court.source
        before = self._portrait(self.live)
        with through.connect({"default_transaction_isolation": "read committed"}) as session:
            if session.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
                before |= oracle.sequences(session)  # ahead there: nextval() logs 32 values at once
        roles, roles_before = self._globals(), self._roles(source)
        try:
            content = artifact_of(through, binaries)
        except RefnetError as refused:
            if _LOST in refused.message:
                return []
            raise
        if proofs:
            options = ProofOptions(proofs, lambda *_, **__: binaries, 2)
            proof = held(content).prove(Level.PROVEN, options)
            assert proof.outcome is Outcome.PASSED or proof.fault is Fault.SOURCE, proof.reasons
        other = self.court.other
        globals_done = GlobalsRestore(roles, other.target(), other.binaries, Permitted(everything=True)).run()
        done = restore(self.restored, held(content), other.binaries, create_roles=True, role_powers=True)
        said = [*done.notes, *held(content).index.unchecked, globals_done.finding.reason]
        if any(one.startswith("subscriptions are not in the backup") for one in said):
            before["schema"] = _SUBSCRIPTION.sub("", before["schema"])
        after = self._portrait(self.restored)
        if any("unlogged tables" in one for one in said):  # views may be computed from them
            for key in [one.removeprefix("populated ") for one in before if one.startswith("populated ")]:
                before.pop(f"rows of {key}", None)
                after.pop(f"rows of {key}", None)
        found = oracle.differences(before, after)
        found += oracle.differences({"roles": roles_before}, {"roles": self._roles(other)})
        return [one for one in found if not _is_named(one, "\n".join(said))]

    def _portrait(self, target: Target) -> dict[str, str]:
        found = oracle.portrait(target.conninfo, self.court.source.binaries.folder)
        return {**found.inside, **{f"around: {key}": value for key, value in found.around.items()}}

    def _roles(self, cluster: Cluster) -> str:
        """What pg_dumpall writes of the roles of this case, passwords included."""
        text = oracle.run(
            cluster.binaries.tool("pg_dumpall"), "--roles-only", conninfo=cluster.target().conninfo
        )
        return "\n".join(sorted(one for one in text.decode().splitlines() if self.scribe.prefix in one))

    def _globals(self) -> GlobalsArtifact:
        """The artifact of the roles of the source."""
        name, out, cluster = SourceName("main-globals", Kind.GLOBALS), io.BytesIO(), self.court.source
        made = GlobalsMaker(name, cluster.target, lambda *_, **__: cluster.binaries, passwords=True).dump(out)
        file, digest = "main-globals_1.sql.gz", hashlib.sha256(out.getvalue()).hexdigest()
        manifest = Manifest(name, file, made.created, len(out.getvalue()), digest, 1.0, details=made.details)
        return GlobalsArtifact(OpenArtifact(name, file, lambda: io.BytesIO(out.getvalue()), manifest))


def _is_named(difference: str, said: str) -> bool:
    """Return whether the run said of the materialized view that differs that it is empty, or could not be verified."""
    key = re.match(r"(?:rows of|populated|sequence) (.+): expected ", difference)
    names = re.findall(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", key[1]) if key else []
    name = ast.literal_eval(names[1]) if len(names) == 2 else None
    return name is not None and (name in said or name.replace('"', '""') in said)


def _clean(cluster: Cluster, name: str, prefix: str) -> None:
    """Drop the database and the roles of a case, where they exist."""
    with cluster.target().connect() as admin:
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            with cluster.target(name).connect({"default_transaction_read_only": "off"}) as session:
                for (one,) in session.execute(
                    "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
                ).fetchall():
                    session.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(one)))
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        rows = admin.execute(
            "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", (prefix,)
        ).fetchall()
        for (role,) in rows:
            admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        for (role,) in rows:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
