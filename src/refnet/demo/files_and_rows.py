"""What the stories of the demo lose: made-up files, rows and settings; and how psql and sha256sum read them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self
from urllib.parse import quote

from refnet.postgres import embedded

#: A small made-up configuration of a lab. The demo's commands read its refnet.toml.
_COMPOSE = """\
# Made up by `refnet demo`; nothing of it runs.
services:
  postgres:
    image: postgres:18
    env_file: .env
    volumes: ["postgres_data:/var/lib/postgresql"]
  prometheus:
    image: prom/prometheus
    volumes: ["./monitoring/prometheus.yml:/etc/prometheus/prometheus.yml:ro"]
volumes:
  postgres_data:
"""
_ENV = (
    "# Made up by `refnet demo`: no secret.\nPOSTGRES_DB=refnet\nPOSTGRES_PASSWORD=made-up-by-refnet-demo\n"
)
_PROMETHEUS = """\
# Made up by `refnet demo`.
scrape_configs:
  - job_name: refnet
    static_configs: [{targets: ["localhost:9187"]}]
rule_files: [alerts.yml]
"""
_ALERTS = """\
# Made up by `refnet demo`.
groups:
  - name: refnet
    rules:
      - alert: PostgresIsDown
        expr: pg_up == 0
        for: 5m
"""
_SCRIPT = "#!/bin/sh\n# Made up by `refnet demo`: what a lab would run every night.\nset -eu\nrefnet backup\nrefnet prune\n"
_GUIDE = """\
# How this lab runs RefNet (made up by `refnet demo`)

- Papers and citations are in PostgreSQL, the notes in the vault, and how all of it is run is in this folder.
- Every night `scripts/nightly.sh` backs up all three. After a loss: `refnet recover`.
"""
_SETTINGS = """\
# Made up by `refnet demo`. Commands that run in this folder take these settings.
home = {home}
backup_dir = {backups}
vault_dir = {vault}
config_dir = {config}
"""
_MODES = {".env": 0o600, "scripts/nightly.sh": 0o755}
#: The databases and folders of `refnet demo --many`.
DATABASES, FOLDERS = ("shop", "wiki"), ("notes", "photos")
CLUSTER = "server"
_SHOP = """\
-- Made up by `refnet demo --many`.
CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE orders (
    id serial PRIMARY KEY, customer integer NOT NULL REFERENCES customers,
    total numeric NOT NULL CHECK (total > 0), changed timestamptz NOT NULL DEFAULT '2026-01-01'
);
CREATE INDEX orders_by_customer ON orders (customer);
CREATE TABLE items (id serial PRIMARY KEY, ordered integer NOT NULL REFERENCES orders, what text NOT NULL);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.changed := now(); RETURN NEW; END';
CREATE TRIGGER stamped BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION stamp();
COMMENT ON TABLE orders IS 'one row for each order';
INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 200) n;
INSERT INTO orders (customer, total) SELECT 1 + n % 200, 5 + n % 90 FROM generate_series(1, 2000) n;
INSERT INTO items (ordered, what) SELECT 1 + n % 2000, 'item ' || n FROM generate_series(1, 6000) n;
"""
_WIKI = """\
-- Made up by `refnet demo --many`.
CREATE TABLE pages (id integer PRIMARY KEY, title text NOT NULL UNIQUE);
CREATE TABLE revisions (page integer REFERENCES pages, number integer, text text NOT NULL, PRIMARY KEY (page, number));
INSERT INTO pages SELECT n, 'page ' || n FROM generate_series(1, 300) n;
INSERT INTO revisions SELECT 1 + n % 300, n, repeat(md5(n::text), 4) FROM generate_series(1, 3000) n;
"""
_DATABASE = """
[databases.{name}]
url = {url}
"""
_FOLDER = """
[folders.{name}]
path = {path}
"""
#: For every table: name, number of rows, MD5 over all rows in a fixed order.
SQL = r"""-- The content of the database: psql -XAt -f check.sql
SELECT format('SELECT %L, count(*), md5(string_agg(md5(t::text), %L ORDER BY md5(t::text))) FROM %I.%I t',
              tablename, '', schemaname, tablename)
FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename
\gexec
"""
COUNT_ROWS = ("psql", "-XAt", "-v", "ON_ERROR_STOP=1", "-f", "check.sql")
SUM_FILES = ("find", "config", "vault", "-type", "f", "-exec", "sha256sum", "{}", "+")


def write_configuration(folder: Path) -> Path:
    """Write the demo's configuration into `config` in `folder`; return its path."""
    config = folder / "config"
    quoted = {name: _toml(folder / name) for name in ("home", "backups", "vault", "config")}
    files = {
        "compose.yaml": _COMPOSE,
        ".env": _ENV,
        "refnet.toml": _SETTINGS.format(**quoted),
        "monitoring/prometheus.yml": _PROMETHEUS,
        "monitoring/alerts.yml": _ALERTS,
        "scripts/nightly.sh": _SCRIPT,
        "docs/README.md": _GUIDE,
    }
    for name, text in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(_MODES.get(name, 0o644))
    return config


def write_shop_and_notes(folder: Path) -> None:
    """Write the folders and the SQL of the databases into `folder`."""
    files: dict[str, bytes] = {"shop.sql": _SHOP.encode(), "wiki.sql": _WIKI.encode()}
    files |= {
        f"notes/{n:02}.md": f"# Note {n}\n\nMade up by `refnet demo --many`.\n".encode() for n in range(40)
    }
    files |= {"notes/todo.md": b"- [ ] call the printer\n- [ ] order paper\n"}
    files |= {f"photos/{n:02}.raw": sha256(bytes([n])).digest() * 600 for n in range(12)}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def write_many_settings(folder: Path, socket: Path) -> None:
    """Write config/refnet.toml, with the server that listens on `socket`."""
    host = quote(str(socket), safe="")
    text = "# Made up by `refnet demo --many`. Commands that run in this folder take these settings.\n"
    text += f"home = {_toml(folder / 'state')}\nbackup_dir = {_toml(folder / 'backups')}\n"
    text += f"left_out.databases = {json.dumps([embedded.DATABASE])}\n"
    for name in DATABASES:
        text += _DATABASE.format(
            name=name, url=_toml(f"postgresql://{embedded.SUPERUSER}@/{name}?host={host}")
        )
    for name in FOLDERS:
        text += _FOLDER.format(name=name, path=_toml(folder / name))
    (folder / "config").mkdir()
    (folder / "config" / "refnet.toml").write_text(text, encoding="utf-8")


def add_cluster(folder: Path, socket: Path) -> None:
    """Add the whole server to config/refnet.toml, with its WAL."""
    host = quote(str(socket), safe="")
    url = _toml(f"postgresql://{embedded.SUPERUSER}@/{embedded.DATABASE}?host={host}")
    with (folder / "config" / "refnet.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n[clusters.{CLUSTER}]\nurl = {url}\nwal = true\n")


def _toml(value: Path | str) -> str:
    return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a TOML string too


@dataclass(frozen=True)
class Inventory:
    """The content of the database, the vault and the configuration."""

    #: Name → number of rows, digest of the content.
    tables: Mapping[str, tuple[int, str]]
    #: Path → SHA-256.
    files: Mapping[str, str]

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.tables.values())

    def below(self, folder: str) -> dict[str, str]:
        """Return path → SHA-256 of the files below `folder`."""
        return {path: digest for path, digest in self.files.items() if path.startswith(f"{folder}/")}

    @property
    def notes(self) -> list[str]:
        """The paths of the vault's notes."""
        return [path for path in self.below("vault") if path.endswith(".md")]

    def differences(self, other: Self) -> list[str]:
        """Return the names of the tables and files that differ."""
        mine, its = {**self.tables, **self.files}, {**other.tables, **other.files}
        return sorted(name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name))


def read_tables(output: str) -> dict[str, tuple[int, str]]:
    """Parse the output of COUNT_ROWS."""
    rows = (line.rsplit("|", 2) for line in output.splitlines())
    return {name: (int(count), digest) for name, count, digest in rows}


def read_files(output: str) -> dict[str, str]:
    """Parse the output of SUM_FILES."""
    return {path: digest for digest, path in (line.split("  ", 1) for line in output.splitlines())}
