"""Checks for values in the index of a database artifact: they accept exactly what a backup writes."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from enum import StrEnum
from operator import itemgetter
from typing import Any

from refnet.core.checked import (
    Check,
    each,
    flag,
    integer,
    moment,
    one_of,
    or_none,
    record,
    row,
    text,
)

_MOST_COLUMNS = 1600  # PostgreSQL's limit
_MOST = 100_000  # entries of a list within a value
_SIZE = (1 << 63) - 1
#: deflate makes at most 1032 bytes of one (zlib's documentation).
_EXPANSION = 1032


class MemberKind(StrEnum):
    """The content of a member."""

    PRE = "pre-data"
    BLOCK = "block"  # one complete COPY … FROM stdin of a table that RefNet copied itself
    DATA = "data"  # pg_dump's own data section, cut at the tables' boundaries
    POST = "post-data"


#: PostgreSQL's server encodings. A client-only encoding (SJIS, GBK …) has quotes and backslashes within its
#: characters, so that a name in it could end a quoted text.
SERVER_ENCODINGS = frozenset(
    {
        *("SQL_ASCII", "UTF8", "MULE_INTERNAL", "KOI8R", "KOI8U"),
        *("EUC_JP", "EUC_CN", "EUC_KR", "EUC_TW", "EUC_JIS_2004"),
        *(f"LATIN{number}" for number in range(1, 11)),
        *(f"WIN{number}" for number in (866, 874, *range(1250, 1259))),
        *(f"ISO_8859_{number}" for number in range(5, 9)),
    }
)
#: The privileges on a database.
PRIVILEGES = frozenset({"CONNECT", "CREATE", "TEMPORARY"})
#: A name as pg_dump quotes it, and a sequence's qualified one.
_IDENT = r'(?:[a-z_][a-z0-9_]*|"(?:[^"]|"")+")'
_QUALIFIED = re.compile(rf"({_IDENT})\.({_IDENT})")

_name = text(1024, shortest=1)  # a server may be built for names longer than 63 bytes
_words = text(1 << 20)
_oid = integer(0, (1 << 32) - 1)
_size = integer(0, _SIZE)
_int32 = integer(-1, (1 << 31) - 1)
_maybe_digest = text(32, like="|[0-9a-f]{32}")
_source_digest = text(60, like="|(?:record|text|md5):-?[0-9]{1,40}")
_encoding = one_of(SERVER_ENCODINGS)
_setting = text(1 << 20, like=r"[^\s=\"]{1,1024}=.*")


def schema_and_name(qualified: str) -> tuple[str, str]:
    """Return schema and name of a sequence in an index."""
    found = _QUALIFIED.fullmatch(qualified)
    parts = found.groups() if found else ("", qualified)
    schema, name = (part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts)
    return schema, name


def _foreign_keys(value: Any) -> dict[str, int]:
    if type(value) is not dict or len(value) > _MOST:
        raise ValueError("not an object")
    number = text(10, like="[0-9]+")
    return {number(key): _oid(oid) for key, oid in value.items()}


_SNAPSHOT = re.compile(r"([0-9]{1,19}):([0-9]{1,19}):([0-9]{1,19}(?:,[0-9]{1,19})*)?")


def _snapshot(value: Any) -> str:
    """Check PostgreSQL's text of a snapshot, xmin:xmax:xip,…, as PostgreSQL's own input function does."""
    found = _SNAPSHOT.fullmatch(_words(value))
    if not found:
        raise ValueError("not a snapshot")
    low, high = int(found[1]), int(found[2])
    running = [int(one) for one in (found[3] or "").split(",") if one]
    if not 0 < low <= high <= _SIZE or running != sorted(running):
        raise ValueError("not a snapshot")
    if running and not low <= running[0] <= running[-1] < high:
        raise ValueError("not a snapshot")
    return str(value)


def _moment(value: Any) -> str:
    """Check a moment with a time zone; return its text."""
    moment(value)
    return str(value)


def _archive(value: Any) -> bytes:
    if type(value) is not str:
        raise ValueError("not text")
    archive = base64.b64decode(value, validate=True)
    if not archive.startswith(b"PGDMP"):
        raise ValueError("not pg_dump's custom format")
    return archive


_MEMBER = record(
    {
        "offset": _size,
        "length": integer(1, _SIZE),
        "raw": _size,
        "kind": one_of(frozenset(kind.value for kind in MemberKind)),
    },
    # Older versions wrote the digest of its rows.
    {"table": or_none(_oid), "rows": _size, "text": _maybe_digest, "digest": _maybe_digest},
)
_TABLE = record(
    {
        "schema": _name,
        "name": _name,
        "columns": each(_name, _MOST_COLUMNS),
    },
    {
        "blocks": flag,
        "root": flag,
        "rows": _size,
        "raw": _size,
        "digest": _maybe_digest,
        "oid": _oid,
        "source": _source_digest,
        "generated": _source_digest,
        "keys": each(_oid, _MOST),
        "foreign_keys": _foreign_keys,
    },
)
#: The attributes of a role, as the index names them.
POWERS = ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls")
_ROLE = record(
    {
        "name": _name,
        **dict.fromkeys(POWERS, flag),
        "connection_limit": _int32,
        "settings": each(_setting, _MOST),
        # Servers before 16 have no further options.
        "member_of": each(record({"role": _name, "admin": flag}, {"inherit": flag, "set": flag}), _MOST),
    },
    # Older versions did not record these.
    {
        "valid_until": or_none(text(64, like=r"-?infinity|[0-9]{4,6}[-0-9:. ]+\+00(?: BC)?")),
        "comment": or_none(_words),
        "parameters": each(
            record({"name": _name, "privilege": one_of({"SET", "ALTER SYSTEM"}), "grantable": flag}), _MOST
        ),
    },
)
_DATABASE = record(
    {
        "name": _name,
        "owner": _name,
        "encoding": _encoding,
        "provider": one_of({"b", "c", "i"}),
        "collate": or_none(_words),
        "ctype": or_none(_words),
        "locale": or_none(_words),
        "connection_limit": _int32,
        "comment": or_none(_words),
        "acl": or_none(
            each(
                record(
                    {
                        "grantor": _name,
                        "grantee": text(1024),
                        "privilege": one_of(PRIVILEGES),
                        "grantable": flag,
                    }
                ),
                _MOST,
            )
        ),
        "settings": each(record({"role": or_none(_name), "setting": _setting}), _MOST),
    },
    {"icu_rules": or_none(_words), "tablespace": _name, "template": flag, "without_public": flag},
)
_SERVER = record(
    {
        "version_num": integer(90_000, 10_000_000),
        "version": text(200, like="[ -~]*"),
        "system_identifier": or_none(text(20, shortest=1, like="[0-9]*")),
        "pg_dump": text(20, like=r"[0-9]{1,3}(\.[0-9]{1,5})*"),
    },
    {"snapshot": or_none(_snapshot), "timezone": text(200, like="[A-Za-z0-9_+/:<>,.-]+")},
)


def member(value: Any) -> dict[str, Any]:
    """Return the fields of a Member."""
    found: dict[str, Any] = _MEMBER(value)
    if found["raw"] > _EXPANSION * found["length"]:
        raise ValueError("more bytes than gzip can pack into its length")
    if found.get("rows", 0) > found["raw"]:
        raise ValueError("more rows than bytes")
    found.pop("digest", None)
    return {**found, "kind": MemberKind(found["kind"])}


def table(value: Any) -> dict[str, Any]:
    """Return the fields of a Table."""
    found: dict[str, Any] = _TABLE(value)
    if len(set(found["columns"])) < len(found["columns"]):
        raise ValueError("a column repeats")
    return {**found, "columns": tuple(found["columns"]), "keys": tuple(found.get("keys", ()))}


#: The other parts of an index that are lists of any length: the check of an entry, and the key that identifies it.
ENTRIES: dict[str, tuple[Check, Callable[[Any], Any]]] = {
    "sequences": (
        row(text(4096, like=_QUALIFIED.pattern), integer(-_SIZE - 1, _SIZE), flag),
        itemgetter(0),
    ),
    "large_objects": (row(_oid, _size, text(32, shortest=32, like="[0-9a-f]*")), itemgetter(0)),
    "roles": (_ROLE, itemgetter("name")),
    "tablespaces": (_name, str),
    "extensions": (record({"name": _name, "version": _name, "schema": _name}), itemgetter("name")),
    "foreign_views": (row(_oid, text(2049, shortest=1)), itemgetter(0)),
    "views": (row(_name, _name, _size, _source_digest), itemgetter(0, 1)),
    "unchecked": (_words, str),
}
#: The parts that are one value each.
ONES: dict[str, Check] = {
    "database": _DATABASE,
    "server": _SERVER,
    "snapshot": _moment,
    "encoding": _encoding,
    "restrict_key": text(200, like="[A-Za-z0-9]+"),
    "archive": _archive,
    "partial": flag,
}
