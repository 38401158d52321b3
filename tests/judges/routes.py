"""The ways to a database that a backup may take: directly, as a least-privilege role, through a pooler, from a standby."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from psycopg.conninfo import make_conninfo
from tests.pooler import pooler

from refnet.core.processes import until
from refnet.postgres.account import account
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

#: Settings of a server that has a standby.
PRIMARY = {"wal_level": "replica", "max_wal_senders": "4", "fsync": "off"}
#: A role that may read everything, and nothing more; RefNet's `check` prints these grants.
READER = "judge_reader"
_READER_RIGHTS = f"""\
CREATE ROLE {READER} LOGIN BYPASSRLS;
GRANT pg_read_all_data TO {READER};
"""
_LARGE_OBJECTS = f"""
DO $$ DECLARE o oid; BEGIN
    FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP
        EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO {READER}', o);
    END LOOP;
END $$
"""
#: Returns the database of a name by one way, when everything that was written before can be read there.
Route = Callable[[str], Target]


def create_reader(cluster: Cluster) -> None:
    """Create the least-privilege role on a server."""
    with cluster.target().connect() as admin:
        admin.execute(_READER_RIGHTS)


def grant_reader(target: Target) -> None:
    """Grant the least-privilege role what is granted in each database."""
    with target.connect({"default_transaction_read_only": "off"}) as session:
        session.execute(_LARGE_OBJECTS)
        session.execute(f"GRANT CONNECT ON DATABASE {target.name} TO {READER}")


@contextmanager
def pooled(cluster: Cluster, folder: Path) -> Iterator[Route]:
    """The way through pgbouncer in session mode."""
    with pooler(cluster, folder, "session") as through:
        yield lambda name: Target.from_url(through.url(name))


@contextmanager
def standby(primary: Cluster, folder: Path) -> Iterator[Route]:
    """The way through a standby of `primary`, which follows it from now on."""
    user = account()
    (folder / "socket").mkdir(parents=True)
    folder.chmod(0o711)
    data = folder / "data"
    data.mkdir(mode=0o700)
    for one in (data, folder / "socket"):
        user.own(one)
    parts = primary.target().parts  # libpq of another version may not know all of them
    conninfo = make_conninfo(**{key: parts[key] for key in ("host", "port", "user")})
    command = [
        primary.binaries.tool("pg_basebackup"),
        "-D",
        data,
        "-R",
        "-X",
        "stream",
        "-c",
        "fast",
        "-d",
        conninfo,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, **user.become)
    assert done.returncode == 0, done.stderr
    follower = replace(primary, data=data, socket=folder / "socket")
    with ExitStack() as stack:
        stack.callback(follower.stop, signal.SIGQUIT)
        follower.start({**PRIMARY, "hot_standby": "on"})
        yield lambda name: _replayed(primary, follower, name)


def _replayed(primary: Cluster, follower: Cluster, name: str) -> Target:
    """Return the database on the standby once the standby has replayed what the primary wrote."""
    with primary.target().connect() as admin, follower.target().connect() as behind:
        # The server does not wait for its log: one commit that waits writes everything before it.
        admin.execute("SET synchronous_commit = on")
        admin.execute("SELECT pg_logical_emit_message(true, '', '')")
        position = admin.execute("SELECT pg_current_wal_flush_lsn()::text").fetchall()[0][0]

        def there() -> bool:
            answer = behind.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,))
            return bool(answer.fetchall()[0][0])

        assert until(there, 60), "the standby does not follow"
    return follower.target(name)
