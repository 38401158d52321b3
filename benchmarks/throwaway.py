"""A throwaway server for tests and measurements."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refnet.core.files import explained
from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import SETTINGS, prepared


@contextmanager
def throwaway(
    binaries: Binaries, *, base: Path, superuser: str = "refnet", settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Start a server like a live one, without isolation; never for untrusted dumps."""
    with ExitStack() as stack:
        user = account()
        with explained(base):
            folders = prepared(binaries, base, user, stack)
            cluster = Cluster(folders.data, folders.socket, user, folders.programs, superuser)
            cluster.create(kept=False)
        stack.callback(cluster.stop, signal.SIGQUIT)
        cluster.start({**SETTINGS, **(settings or {})})
        stack.callback(cluster.stop, signal.SIGQUIT, cluster.pid())
        yield cluster
