"""The content of `refnet demo --many`: two made-up databases, two folders, and the settings that name them."""

import json
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from refnet.postgres import embedded

DATABASES, FOLDERS = ("shop", "wiki"), ("notes", "photos")
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


def write(folder: Path) -> None:
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


def write_settings(folder: Path, socket: Path) -> None:
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


def _toml(value: Path | str) -> str:
    return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a TOML string too
