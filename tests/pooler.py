"""A real pgbouncer in front of a server of the tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refnet.core.processes import until
from refnet.postgres.account import account
from refnet.postgres.cluster import Cluster
from refnet.postgres.postmaster import PORT

#: What applications set at the start of a session, and such poolers drop.
IGNORED = "extra_float_digits,options"


@dataclass(frozen=True)
class Pooler:
    """A pooler on a socket in `folder`."""

    folder: Path

    def url(self, database: str, user: str = "refnet") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}&port=6432"


@contextmanager
def pooler(
    cluster: Cluster, folder: Path, mode: str, *, users: Sequence[str] = ("refnet",), **settings: str
) -> Iterator[Pooler]:
    """Run pgbouncer with `pool_mode = mode` in the new `folder`, for logins of `users` without a password."""
    folder.mkdir()
    (folder / "users").write_text("".join(f'"{user}" ""\n' for user in users))
    told = {
        "unix_socket_dir": folder,
        "listen_port": 6432,
        "auth_type": "trust",
        "auth_file": folder / "users",
        "pool_mode": mode,
        "ignore_startup_parameters": IGNORED,
        "logfile": folder / "log",
        **settings,
    }
    lines = ["[databases]", f"* = host={cluster.socket_in_use()} port={PORT}", "[pgbouncer]"]
    (folder / "ini").write_text("\n".join([*lines, *(f"{key} = {value}" for key, value in told.items())]))
    user = account()
    for path in (folder, folder / "users", folder / "ini"):
        user.own(path)
    folder.chmod(0o711)
    child = subprocess.Popen(
        ["/usr/sbin/pgbouncer", "-q", folder / "ini"], stderr=subprocess.DEVNULL, **user.become
    )
    try:
        assert until((folder / ".s.PGSQL.6432").exists, 20), (folder / "log").read_text()
        yield Pooler(folder)
    finally:
        child.terminate()
        child.wait()
