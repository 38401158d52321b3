"""URLs: of the web, of messages, of the broker, of databases; and those of stores.

A store is `s3://bucket/prefix`, `sftp://user@host/path`, `rclone:REMOTE:path` and others. No error repeats a URL: it
may contain a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from refnet.settings.converters import OWN_SERVER, InvalidError, absolute_file, filled, utf8

#: Apprise's own: syslog:// is complete, and 46elks:// begins with a digit.
_URL = re.compile(r"[A-Za-z0-9][\w+.-]*://")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
#: A host of a database's URI, with its port.
_HOST = re.compile(r"(?:[^:\[\]]*|\[[^\[\]]*\])(?::(?P<port>[0-9]{0,5}))?")
_DATABASE = (
    "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE (or …@/DATABASE?host=/FOLDER); "
    "in a password, write %40 for @, %2F for /, %3A for : and %25 for %."
)


def apprise_urls(value: Any) -> tuple[str, ...]:
    """Parse Apprise URLs: a list, or text separated by spaces; `none` is an empty list."""
    usage = 'Write a list of Apprise\'s URLs, such as ["mailtos://user:password@example.org"].'
    if value == "none":  # a file that waits for its first address, as deploy/prepare makes it
        return ()
    items = filled(value, value.split() if isinstance(value, str) else value)
    if items is None or not all(_URL.match(item.strip()) for item in items):
        raise InvalidError("must be a list of URLs", usage)
    return tuple(utf8(item, usage) for item in items)


def web_url(value: Any, usage: str = "Write a URL such as https://example.org/path.") -> str:
    """Parse an http or https URL."""
    url = utf8(value, usage)
    if not _is_web(url):
        near = f"http://{url}" if "://" not in url and _is_web(f"http://{url}") else ""
        raise InvalidError("must be a URL that begins with https:// or http://", usage, near)
    return url


def ping_url(value: Any) -> str:
    """Parse the URL of a dead-man's switch; it may contain `{source}`."""
    usage = "Write a URL such as https://hc-ping.com/KEY/backup-{source}."
    url = web_url(value, usage)
    if set(url.replace("{source}", "")) & {"{", "}"}:
        raise InvalidError("must not contain other braces than {source}", usage)
    return url


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and " " not in url
        )
    except ValueError:
        return False


def broker_url(value: Any) -> str:
    """Parse a Redis or Valkey URL."""
    url = utf8(value, "Write redis://HOST:PORT/NUMBER, rediss://… or redis+socket:///PATH.")
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"redis", "rediss"} and parts.hostname and parts.port != 0
        known = known or (parts.scheme == "redis+socket" and parts.path.startswith("/"))
    except ValueError:
        known = False
    if not known:
        rule = "must be redis://HOST:PORT/NUMBER, rediss://… or redis+socket:///PATH"
        raise InvalidError(rule, "In a password, write %40 for @, %2F for /, %3A for : and %25 for %.")
    return url


def database_url(value: Any) -> str:
    """Parse a PostgreSQL URI, as far as possible without libpq."""
    url = utf8(value, _DATABASE)
    scheme, _, rest = url.partition("://")
    if scheme not in {"postgresql", "postgres"}:
        raise InvalidError("must be a URI that begins with postgresql://", _DATABASE)
    user, at, after = rest.partition("@")  # as libpq: a password may contain ?, and not /
    server = re.split("[/?]", after if at and "/" not in user else rest, maxsplit=1)[0]
    if _ESCAPE.search(rest) or not all(map(_is_host, server.split(","))):
        raise InvalidError("must be a valid PostgreSQL URI", _DATABASE)
    return url


def own_or_url(value: Any) -> str:
    """Parse a PostgreSQL URI; `own` gives "", RefNet's own server."""
    return "" if value == OWN_SERVER else database_url(value)


def _is_host(host: str) -> bool:
    found = _HOST.fullmatch(host)
    return bool(found) and 1 <= int((found and found["port"]) or 1) <= 65_535


class StoreKind(StrEnum):
    """Where a store keeps its objects."""

    S3 = "s3"
    GS = "gs"
    AZ = "az"
    SFTP = "sftp"
    RCLONE = "rclone"
    FILE = "file"


_USAGE = (
    "Write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, sftp://USER@HOST/FOLDER, "
    "rclone:REMOTE:PATH or file:///FOLDER."
)
_NO_SECRET = "A secret belongs in credentials_file, in ssh's or in rclone's settings, never in a URL."  # noqa: S105  # a sentence
_PREFIX = re.compile(r"[\w.-]+(?:/[\w.-]+)*", re.ASCII)
#: The first part of a URL by its kind: a bucket, a container, a host, a remote of rclone's settings.
_PLACES = {
    StoreKind.S3: re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}"),
    StoreKind.GS: re.compile(r"[a-z0-9][a-z0-9._-]{1,221}"),
    StoreKind.AZ: re.compile(r"[a-z0-9$][a-z0-9-]{1,62}"),
    StoreKind.SFTP: re.compile(
        r"(?:(?P<user>[A-Za-z0-9_][\w.-]{0,63})@)?(?P<host>[A-Za-z0-9_][\w.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
        r"(?::(?P<port>[1-9][0-9]{0,4}))?",
        re.ASCII,
    ),
    StoreKind.RCLONE: re.compile(r"[A-Za-z0-9_][\w.+@-]{0,99}", re.ASCII),
    StoreKind.FILE: re.compile(""),
}
#: What a folder on a server must not contain: it is quoted in commands of sftp.
_UNQUOTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f*?\[\]\"'\\]")
#: What others call a kind.
_ALIASES = {"gcs": "gs", "azure": "az", "abfs": "az", "ssh": "sftp", "scp": "sftp", "minio": "s3"}
_LAST_PORT = 65_535
_FORM = re.compile(
    r"(?:(?P<kind>[a-z0-9]+)://(?P<place>[^/]*)(?P<path>/.*)?|rclone:(?P<remote>[^:]*):(?P<below>.*))"
)


@dataclass(frozen=True)
class StoreUrl:
    """The URL of a store. It contains no secret."""

    kind: StoreKind
    #: The bucket, the container, the host without brackets, or the remote of rclone; "" for a folder.
    place: str
    #: The prefix in the bucket, without / at its ends; or the folder. `~/x` is below the home of an SFTP user.
    path: str
    #: The user of SFTP; "": as ssh's settings say.
    user: str = ""
    #: The port of SFTP; 0: as ssh's settings say.
    port: int = 0
    #: The options in its query, as texts, such as ("region", "eu-west-1").
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if self.kind is StoreKind.RCLONE:
            return f"rclone:{self.place}:{self.path}"
        host = f"[{self.place}]" if ":" in self.place else self.place
        server = f"{self.user}@{host}" if self.user else host
        server += f":{self.port}" if self.port else ""
        path = self.path if self.path.startswith("/") or not self.path else f"/{self.path}"
        return f"{self.kind}://{server}{path}"


def parse_store_url(value: Any) -> StoreUrl:
    """Parse a store URL; InvalidError never repeats it."""
    url = utf8(value, _USAGE)
    base, _, query = url.partition("?")
    if _has_password(base):
        raise InvalidError("must not contain a password", _NO_SECRET)
    found = _FORM.fullmatch(base)
    known = found and (found["kind"] is None or found["kind"] in {*StoreKind} - {"rclone"})
    if not found or not known or "#" in url:
        raise InvalidError("must be the URL of a store", _USAGE, _near(url))
    kind = StoreKind(found["kind"] or "rclone")
    place = found["remote"] if kind is StoreKind.RCLONE else found["place"]
    named = _PLACES[kind].fullmatch(place)
    if not named:
        raise InvalidError(f"must be like {_like(kind)}", _USAGE, _near(url))
    path = _path(kind, found["below"] if kind is StoreKind.RCLONE else found["path"] or "")
    parts = named.groupdict(default="")
    host, port = (parts.get("host") or place).strip("[]"), int(parts.get("port") or 0)
    if port > _LAST_PORT:
        raise InvalidError(f"must have a port from 1 to {_LAST_PORT}", _USAGE)
    return StoreUrl(kind, host, path, parts.get("user", ""), port, _options(query))


def _has_password(base: str) -> bool:
    scheme, _, rest = base.partition("://")
    user, at, _ = rest.rpartition("@")
    return bool(at) and (":" in user or scheme != "sftp")


def _like(kind: StoreKind) -> str:
    return next(one for one in re.split(r", | or |Write |\.$", _USAGE) if one.startswith(kind))


def _path(kind: StoreKind, path: str) -> str:
    """Parse the prefix or folder of a URL."""
    path = path if kind is StoreKind.RCLONE else unquote(path)
    if kind is StoreKind.FILE:
        return str(absolute_file(path, "Write file:// and an absolute path: file:///mnt/nas."))
    if {".", ".."} & {*path.split("/")}:
        raise InvalidError("must not have . or .. as a part of its path", _USAGE)
    if kind in {StoreKind.SFTP, StoreKind.RCLONE}:
        path = path.rstrip("/") or path[:1]
        if _UNQUOTABLE.search(path):
            raise InvalidError(
                "must not contain quotes, brackets, backslashes, *, ? or control characters", _USAGE
            )
        if kind is StoreKind.SFTP and not path:
            raise InvalidError(
                "must name a folder", "Write sftp://USER@HOST/FOLDER; /~/FOLDER is below the user's home."
            )
        return path[1:] if kind is StoreKind.SFTP and (path + "/").startswith("/~/") else path
    path = path.strip("/")
    if path and not _PREFIX.fullmatch(path):
        raise InvalidError("must have a prefix of letters, digits, ., _, - and single /", _USAGE)
    return path


def _options(query: str) -> tuple[tuple[str, str], ...]:
    try:
        found = (
            parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=20) if query else []
        )
    except ValueError:
        raise InvalidError("must have options such as ?region=eu-west-1&lock=30d", _USAGE) from None
    if len(found) != len({name for name, _ in found}):
        raise InvalidError("must name each option once", "Remove all but one.")
    return tuple(found)


def _near(url: str) -> str:
    """The URL that `url` probably means, or ""."""
    scheme, colon, rest = url.partition(":")
    scheme = _ALIASES.get(scheme.lower(), scheme.lower())
    tried = f"file://{url}" if url.startswith("/") else f"{scheme}:{rest}" if scheme == "rclone" else ""
    if not tried and colon and scheme in {*StoreKind}:
        tried = f"{scheme}://{'/' if scheme == 'file' else ''}{rest.strip('/')}"
    try:
        return "" if tried in {"", url} else str(parse_store_url(tried))
    except InvalidError:
        return ""
