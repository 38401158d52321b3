"""The roles and tablespaces of a server of the settings."""

from __future__ import annotations

from functools import partial

from refnet import servers, wiring
from refnet.recovery.model.identity import Whose
from refnet.recovery.model.source import Maker
from refnet.recovery.sources.globals.globals_maker import GlobalsMaker
from refnet.recovery.stores.local import LocalStore
from refnet.sources.database import OnServer


class Roles(OnServer):
    """The global objects of a cluster."""

    def whose(self) -> Whose | None:
        return wiring.identities(self.settings).or_handed_over(self.name).whose

    def maker(
        self,
        *,
        jobs: int | None = None,  # noqa: ARG002  # a small text
        tables: tuple[str, ...] = (),  # noqa: ARG002  # it has none
        into: LocalStore | None = None,  # noqa: ARG002  # it shares nothing
    ) -> Maker:
        target = partial(servers.existing_server, self.settings, self.name)
        binaries = partial(servers.binaries_for, self.settings)
        return GlobalsMaker(self.name, target, binaries, bool(self.own.roles_with_passwords))
