"""A scratch server with a copy of an artifact: a part for one query, or all of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg

from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import some
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.session import Target
from refnet.postgres.tempdirs import private_folder
from refnet.proof_run import ProofOptions
from refnet.sources.contents import AnswerLimits
from refnet.sources.database import server_errors
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.proof.foreign_proof import ForeignProver, untrusted
from refnet.sources.database.proof.guarded_schema import Logins, create_logins, create_reader
from refnet.sources.database.proof.own_proof import create_empty, missing_extensions, renew
from refnet.sources.database.query.answer import Asker
from refnet.sources.database.query.needs import Key, Needs, needs, touched
from refnet.sources.database.query.part import Part
from refnet.sources.database.restore.load import How, load
from refnet.sources.database.workers import Workers

#: The name of the copy.
DATABASE = "copy"
_GROUPING = "42803"  # a query may group by a primary key, which is not there yet


@dataclass(frozen=True)
class Copy:
    """A copy on a scratch server."""

    cluster: Cluster
    #: The login that reads everything and writes nothing.
    reader: Target
    #: What is different from a restore, a sentence each.
    notes: tuple[str, ...] = ()


@contextmanager
def scratch_failures(name: str) -> Iterator[None]:
    """Turn errors of the scratch server about the artifact `name` into RefnetErrors."""
    try:
        yield
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"loading {name}") from error
    except UnicodeEncodeError:
        raise RefnetError(
            f"{name} cannot be loaded: the name of a role, a setting or a sequence is not valid UTF-8",
            "Restore it on a server with the encoding of its database.",
            Exit.UNVERIFIED,
        ) from None


@contextmanager
def complete_copy(artifact: DatabaseArtifact, options: ProofOptions) -> Iterator[Copy]:
    """Load all of `artifact` into a scratch server, as a proof does."""
    with _empty(artifact, options) as (copy, logins, workers):
        again = partial(renew, logins, DATABASE, artifact.index)
        load(artifact.reader, logins.as_superuser(DATABASE), workers, How(logins), again)
        yield copy


@contextmanager
def partial_copy(artifact: DatabaseArtifact, options: ProofOptions) -> Iterator[tuple[Copy, Part]]:
    """Load the schema of `artifact` into a scratch server; rows are loaded on demand."""
    with ExitStack() as stack:
        copy, logins, workers = stack.enter_context(_empty(artifact, options))
        folder = stack.enter_context(private_folder())
        target = logins.as_superuser(DATABASE)
        part = Part(artifact.reader, target, workers, folder, logins)
        stack.enter_context(part)
        part.create()
        yield copy, part


@contextmanager
def foreign_copy(dump: ForeignDump, options: ProofOptions) -> Iterator[Copy]:
    """Load a foreign dump into a scratch server, as a proof does; RefnetError (UNVERIFIED) if not trusted."""
    binaries = options.binaries(dump.proof_major, server=True)
    options.progress("start a scratch server", 0, None)
    with scratch(binaries, base=options.base) as cluster:
        if cluster.walls.missing and not options.trust:
            message, _, advice = untrusted(cluster.walls.missing).partition(". ")
            raise RefnetError(message, advice.replace("verify", "load"), Exit.UNVERIFIED)
        dump.check()
        target = ForeignProver(dump, binaries, options).load(cluster)
        reader = f"refnet_reader_{secrets.token_hex(6)}"
        with cluster.target().connect() as admin:
            create_reader(admin, cluster, reader)
        yield Copy(cluster, cluster.target(target.name, reader))


@contextmanager
def _empty(artifact: DatabaseArtifact, options: ProofOptions) -> Iterator[tuple[Copy, Logins, Workers]]:
    index = artifact.index
    binaries = programs(artifact, options)
    options.progress("start a scratch server", 0, None)
    with scratch(binaries, base=options.base) as cluster:
        with cluster.target().connect() as admin:
            if missing := missing_extensions(admin, index):
                raise RefnetError(
                    f"extensions that are not available on this server: {some(missing)}",
                    "Install them for PostgreSQL's programs of this machine, or restore the artifact on its server.",
                    Exit.UNVERIFIED,
                )
            logins = create_logins(admin, cluster, index)
            note = create_empty(admin, DATABASE, index)
        copy = Copy(cluster, logins.as_reader(DATABASE), tuple(filter(None, (note,))))
        yield copy, logins, Workers(binaries, options.jobs, options.progress)


def programs(artifact: DatabaseArtifact, options: ProofOptions) -> Binaries:
    """Return programs with a server that can load `artifact`."""
    major = artifact.index.programs_major(int(artifact.index.server["version_num"]) // 10_000)
    return options.binaries(major, server=True)


def search_path(index: Index) -> str | None:
    """Return the search path that the database itself sets; None: PostgreSQL's default."""
    for one in index.database["settings"]:
        name, _, value = one["setting"].partition("=")
        if one["role"] is None and name == "search_path":
            return str(value)
    return None


def load_needed(part: Part, asker: Asker, query: bytes, limits: AnswerLimits, *, everything: bool) -> Needs:
    """Load the tables that `query` reads, and return them; RefnetError if the server rejects the query."""
    with asker.in_time():
        try:
            found = needs(asker.session, query)
        except psycopg.Error as error:
            if error.sqlstate != _GROUPING or not part.create_keys():
                raise
            found = needs(asker.session, query)
    if foreign := sorted(found.of("f")):
        raise RefnetError(
            f"the query reads the foreign table {'.'.join(foreign[0])}, and a scratch server reaches no other server",
            "Query other tables, or restore the artifact beside its server.",
            Exit.UNVERIFIED,
        )
    part.fill(part.tables if everything or found.opaque else found.of("r", "p"))
    part.fill_views(found.of("m"), {"statement_timeout": f"{limits.seconds * 1000:.0f}"})
    if found.of("S"):
        part.set_sequences()
    return found


def unloaded(part: Part, asker: Asker) -> frozenset[Key]:
    """Tables that the last query read although their rows were not loaded."""
    with asker.in_time():
        return touched(asker.session) & part.tables - part.loaded
