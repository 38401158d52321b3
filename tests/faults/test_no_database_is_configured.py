"""A backup creates no server; it says what to set, with the URL that the Compose file beside suggests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.command import Command, Result, url_of

from refnet.compose import guess
from refnet.postgres.session import Target

COMPOSE = """
x-common: &common
  restart: always
services:
  api:
    <<: *common
    image: example.org/postgres-client:1
  db:
    <<: *common
    image: postgres:17-alpine
    environment:
      POSTGRES_DB: ${POSTGRES_DB:-papers}
      POSTGRES_USER: refnet
      POSTGRES_PASSWORD: hunter2
    ports: ["127.0.0.1:5433:5432"]
"""


@pytest.fixture
def refnet(short_home: Path) -> Iterator[Command]:
    """The command on a machine without a database, started in a folder of its own."""
    (short_home / "here").mkdir()
    return Command(short_home / "here" / "home", short_home / "backups", "")


def no_server(refnet: Command, *words: str) -> None:
    for arguments in (("backup", "database"), ("backup", "database", "--no-prove"), ("database", "sizes")):
        refnet(*arguments).fails(2, "no database is configured", "REFNET_DATABASE_URL=postgresql://", *words)
    assert not (refnet.home / "postgres" / "data").exists()
    assert not list(refnet.backups.rglob("refnet_*"))


def test_a_backup_without_a_database_creates_none_and_says_what_to_set(refnet: Command) -> None:
    no_server(refnet, "refnet network sample")
    told = refnet("backup", "--json")
    assert told.code == 2
    assert next(one["outcome"] for one in told.json["results"]) == "failed"


@pytest.mark.parametrize("name", ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"])
def test_beside_a_compose_file_the_url_of_its_postgresql_is_guessed(refnet: Command, name: str) -> None:
    (refnet.home.parent / name).write_text(COMPOSE)
    no_server(refnet, f"{name} runs one as db", "postgresql://refnet@127.0.0.1:5433/papers")
    told = refnet("backup", "--json")
    assert "hunter2" not in told.out + told.err
    assert "postgresql://refnet@127.0.0.1:5433/papers" in told.json["results"][0]["hint"]


@pytest.mark.parametrize(
    ("service", "dotenv", "url", "published"),
    [
        ("image: postgres", "", "postgresql://postgres@localhost:5432/postgres", False),
        (
            "image: postgis/postgis:17\n    ports: ['5555:5432/tcp']",
            "",
            "postgresql://postgres@localhost:5555/postgres",
            True,
        ),
        (
            (
                "image: postgres\n    environment: [POSTGRES_USER=u, 'POSTGRES_DB=a b']\n"
                "    ports: [{target: 5432, published: 6000, host_ip: 0.0.0.0}]"
            ),
            "",
            "postgresql://u@localhost:6000/a%20b",
            True,
        ),
        (
            "image: postgres\n    env_file: .env\n    ports: ['${PORT:-5434}:5432']",
            "POSTGRES_USER=me\nPOSTGRES_DB='mine'\nPOSTGRES_PASSWORD=hunter2\nPORT=5999\n",
            "postgresql://me@localhost:5999/mine",
            True,
        ),
        (
            "image: postgres\n    ports: ['8080:80', '5432', 7]",
            "",
            "postgresql://postgres@localhost:5432/postgres",
            False,
        ),
    ],
)
def test_the_guess_follows_what_the_compose_file_says(
    short_home: Path, service: str, dotenv: str, url: str, published: bool
) -> None:
    (short_home / "compose.yaml").write_text(f"services:\n  db:\n    {service}\n")
    (short_home / ".env").write_text(dotenv)
    found = guess(short_home / "compose.yaml")
    assert found
    assert (found.service, found.url, found.published) == ("db", url, published)


def test_a_socket_that_is_mounted_needs_no_port(short_home: Path) -> None:
    volumes = "volumes: [data:/var/lib/postgresql, '${RUN:-./run}/postgresql:/var/run/postgresql', 7]"
    (short_home / "compose.yaml").write_text(f"services:\n  db:\n    image: postgres\n    {volumes}\n")
    found = guess(short_home / "compose.yaml")
    assert found
    assert found.url == f"postgresql://postgres@/postgres?host={short_home}/run/postgresql"
    assert found.published


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "services: " + "[" * 20_000,
        "services: " + "{a: " * 20_000,
        "services:\n" + "".join(f"  s{n}: {{image: x}}\n" for n in range(60_000)),
        "services: [postgres]",
        "services: {postgres: 3}",
        "services: {postgres: *nowhere}",
        "services: {'\\e[31mpostgres': {image: postgres}}",
        "services: !!python/object/apply:os.system ['true']",
        "- 1",
        "",
        "\x00",
    ],
    ids=range(12),
)
def test_a_hostile_compose_file_gives_no_guess_and_takes_no_time(short_home: Path, text: str) -> None:
    (short_home / "compose.yaml").write_text(text)
    began = time.monotonic()
    assert guess(short_home / "compose.yaml") is None
    assert time.monotonic() - began < 20


def test_what_acts_on_a_server_names_server_database_and_settings_file(
    database: Target, short_home: Path
) -> None:
    refnet = Command(short_home / "home", short_home / "backups", "")
    (short_home / "refnet.toml").write_text(f"database_url = {json.dumps(url_of(database))}\n")
    place, file = f"{database.name} on {database.parts['host']}", str(short_home / "refnet.toml")
    acted: list[Callable[..., Result]] = [
        lambda *more: refnet("network", "migrate", *more),
        lambda *more: refnet("backup", "database", "--no-prove", *more),
        lambda *more: refnet("restore", "database", "--plan", *more),
        lambda *more: refnet("restore", "database", "--force", *more),
        lambda *more: refnet("undo", "database", "--plan", *more),
        lambda *more: refnet("diff", "database", *more),
        lambda *more: refnet("database", "sizes", *more),
    ]
    for act in acted:
        told = act()
        assert place in told.out, told.out + told.err
        assert sum(file in line and place in line for line in told.out.splitlines()) == 1
        values = act("--json").json
        named = values["results"][0] if "results" in values else values
        assert named["acts_on"]["database"] == database.name
        assert named["acts_on"]["settings"] == file
        assert str(database.parts["host"]) in named["acts_on"]["server"]
    plan = replace(refnet, url="")("recover", "--plan")
    assert place in plan.out
    assert file in plan.out
