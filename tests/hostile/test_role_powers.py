"""A superuser that an artifact asks for is created only where that is wanted by a word of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql
from tests.integration.database.library import artifact_of, everything, held, library_on, restore

from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact


@pytest.fixture
def library(server: Cluster) -> Iterator[Target]:
    with library_on(server) as target:
        yield target


@pytest.fixture
def asking(server: Cluster, library: Target, wheel: Binaries) -> Iterator[DatabaseArtifact]:
    """An artifact whose role `boss` is a superuser, and which the server does not know any more."""
    with server.target().connect() as admin:
        admin.execute("CREATE ROLE boss SUPERUSER LOGIN")
        with library.connect() as session:
            session.execute("ALTER TABLE jobs OWNER TO boss")
            dump = held(artifact_of(library, wheel))
            session.execute("REASSIGN OWNED BY boss TO refnet")
        admin.execute("DROP ROLE boss")
        yield dump
        for name in everything(library):
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute("DROP ROLE IF EXISTS boss")


def test_a_superuser_out_of_an_artifact_needs_a_word_of_its_own(
    server: Cluster, library: Target, wheel: Binaries, asking: DatabaseArtifact
) -> None:
    with server.target().connect() as admin:
        with pytest.raises(
            RefnetError, match=r"boss would be created with powers that .* asks for: SUPERUSER"
        ):
            restore(library, asking, wheel, create_roles=True)
        assert admin.execute("SELECT FROM pg_roles WHERE rolname = 'boss'").fetchall() == []
        assert everything(library) == [library.name]
        restore(library, asking, wheel, create_roles=True, role_powers=True)
        assert admin.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'boss'").fetchall() == [(True,)]
