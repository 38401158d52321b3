"""The stores of a settings file, `[stores.NAME]`: the places of encrypted copies, their conflicts and credentials.

A credential is in a file of its own, `credentials_file`: TOML with mode 0600.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from refnet.catalog.schedule import Retention
from refnet.core import trust
from refnet.core.errors import Exit, RefnetError, did_you_mean
from refnet.settings import converters, urls
from refnet.settings.converters import InvalidError, key
from refnet.settings.times import parse_retention
from refnet.settings.urls import StoreKind, StoreUrl, parse_store_url

#: The table of stores in refnet.toml, and the name of the backup folder on the command line.
STORES = "stores"
#: The folder in the backup folder with its encrypted artifacts.
ENCRYPTED = "encrypted"
_CLOUD = frozenset({StoreKind.S3, StoreKind.GS, StoreKind.AZ})
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_SPAN = re.compile(r"([0-9]{1,6})\s*([a-z]*)")
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}
_MOST_DAYS, _MOST_SHARED_DAYS = 36_500, 3_650
_SPEED = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([A-Za-z]*)\s*(/s|ps)?")
_BYTES = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SLOWEST, _FASTEST = 2**10, 10**12
#: The largest file of a credential, in bytes, and the most characters of one of its values.
_LARGEST, _LONGEST = 16 * 1024, 8192
#: The keys by the kind of store; True: needed.
_CREDENTIAL_KEYS = {
    StoreKind.S3: {"access_key_id": True, "secret_access_key": True, "session_token": False},
    StoreKind.AZ: {"account": True, "key": True},
    StoreKind.GS: {"service_account": True},
}


@dataclass(frozen=True)
class StoreRetention:
    """The retention of the copies in a store."""

    #: Of the sources that are not named; None: as in the backup folder.
    others: Retention | None = None
    by_source: Mapping[str, Retention] = field(default_factory=dict)

    def of(self, source: str) -> Retention | None:
        """Retention of the copies of `source`; None: as in the backup folder."""
        return self.by_source.get(source, self.others)

    def __str__(self) -> str:
        named = [f"{source}: {one}" for source, one in self.by_source.items()]
        return "; ".join([*([str(self.others)] if self.others else []), *named])


def parse_store_retention(value: Any) -> StoreRetention:
    """Parse one retention for all sources, or a table of retentions by source."""
    if not isinstance(value, dict) or (value and all(isinstance(each, int) for each in value.values())):
        return StoreRetention(parse_retention(value))
    found = {}
    for source, each in value.items():
        try:
            found[source] = parse_retention(each)
        except InvalidError as error:
            raise InvalidError(error.rule, error.usage, error.near, source) from None
    if not found:
        parse_retention(value)
    return StoreRetention(None, found)


def endpoint(value: Any) -> str:
    """Parse the URL of an object storage server."""
    usage = "Write the URL of the server, such as https://s3.example.org."
    url = urls.web_url(value)
    if set(url) & {"@", "?", "#"}:
        raise InvalidError("must not contain a user, a password or a query", usage)
    return url.rstrip("/")


def region(value: Any) -> str:
    """Parse the name of a region."""
    usage = "Write the name of the region, such as eu-west-1, or auto."
    name = converters.text(value, usage)
    if not _REGION.fullmatch(name):
        raise InvalidError(
            "must be the name of a region", usage, name.lower() if _REGION.fullmatch(name.lower()) else ""
        )
    return name


def days(value: Any, most: int = _MOST_DAYS) -> int:
    """Parse a number of days such as `30d`, up to `most`."""
    usage = "Write a number of days such as 30d."
    text = value if isinstance(value, str) else f"{value}d" if type(value) is int else ""
    found = _SPAN.fullmatch(text.strip().lower())
    unit = found[2][:1] if found else ""
    if found and found[2] in {"d", "w", "y"} and 1 <= int(found[1]) * _DAYS[unit] <= most:
        return int(found[1]) * _DAYS[unit]
    known = bool(found) and (not unit or unit in _DAYS)
    near = min(max(int(found[1]) * _DAYS[unit or "d"], 1), most) if found and known else 0
    raise InvalidError(f"must be a time from 1d to {most}d", usage, f"{near}d" if near else "")


def share_days(value: Any) -> int:
    """Parse the age up to which copies share their pieces, in days."""
    return days(value, _MOST_SHARED_DAYS)


def bandwidth(value: Any) -> int:
    """Parse a rate such as `20 MiB/s` into bytes per second."""
    usage = "Write a speed such as 20 MiB/s or 500 KiB/s."
    found = _SPEED.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = found[2].lower() if found else ""
    if found and found[3] and "bit" not in unit and unit in _BYTES:
        speed = int(float(found[1]) * _BYTES[unit])
        if _SLOWEST <= speed <= _FASTEST:
            return speed
    raise InvalidError("must be a speed from 1 KiB/s to 1000 GB/s", usage, _near_speed(found, unit))


def _near_speed(found: re.Match[str] | None, unit: str) -> str:
    """The valid rate that `20M`, `20 MiB` or `100 Mbit/s` mean, or ""."""
    factor = _BYTES.get(f"{unit[:1]}ib")
    if not found or not factor:
        return ""
    number = float(found[1]) / (8 if "bit" in unit or unit == "bps" else 1)
    return f"{min(max(int(number * factor), _SLOWEST), _FASTEST) // 2**10} KiB/s"


#: The keys that are options of a URL too: the kinds of stores that have them, and their converters.
OPTIONS: dict[str, tuple[frozenset[StoreKind], Callable[[Any], Any]]] = {
    "endpoint": (_CLOUD, endpoint),
    "region": (frozenset({StoreKind.S3}), region),
    "credentials_file": (_CLOUD, converters.absolute_file),
    "prune_credentials_file": (_CLOUD, converters.absolute_file),
    "ca_file": (_CLOUD, converters.absolute_file),
    "lock": (frozenset({StoreKind.S3}), days),
    "bandwidth": (frozenset(StoreKind), bandwidth),
}


def store_url(value: Any) -> StoreUrl:
    """Parse a store URL, including options valid for its kind."""
    url = parse_store_url(value)
    _options_of(url)
    return url


def _options_of(url: StoreUrl) -> dict[str, Any]:
    """Converted options of the query of `url`, by field."""
    known = {name: convert for name, (kinds, convert) in OPTIONS.items() if url.kind in kinds}
    found = {}
    for name, text in url.options:
        if name not in known:
            rule = f"must not have other options than {', '.join(known)}"
            raise InvalidError(rule, "A secret never belongs in a URL; put it into credentials_file.")
        try:
            found[name] = known[name](text)
        except InvalidError as error:
            raise InvalidError(f"has a wrong {name}, which {error.rule}", error.usage) from None
    return found


@dataclass(frozen=True)
class StoreSettings:
    """The settings of one store."""

    #: Of its table; for a URL of the command line, one that depends on the URL alone.
    name: str
    #: The place of its objects; its options are in the other fields. None only while the settings have a problem.
    url: StoreUrl | None = key(store_url)
    #: The server of object storage; None: that of the vendor.
    endpoint: str | None = key(endpoint)
    #: The region of the bucket; None: the environment's, or the vendor's default.
    region: str | None = key(region)
    #: A file with the credential that creates and reads; None: the environment's, or the machine's role.
    credentials_file: Path | None = key(converters.absolute_file)
    #: A file with the credential that may delete; only prune uses it. None: there is none apart from the other.
    prune_credentials_file: Path | None = key(converters.absolute_file)
    #: Certificates that the server's is checked with; None: the system's.
    ca_file: Path | None = key(converters.absolute_file)
    #: Days for which each object is locked; None: no lock is asked for.
    lock: int | None = key(days)
    #: True: extend the locks of pieces that new copies share, instead of sending them again; needs lock.
    extend_locks: bool = key(converters.flag, default=False)
    #: Days for which new copies share the pieces of a copy; older ones are sent again.
    share_for: int = key(share_days, default=90)
    #: Bytes per second, up and down; None: no limit.
    bandwidth: int | None = key(bandwidth)
    #: How long copies are kept there.
    retention: StoreRetention = key(parse_store_retention, default=StoreRetention())
    #: The sources that are copied there, or clusters; None: all.
    sources: tuple[str, ...] | None = key(converters.names)

    @property
    def table(self) -> str:
        """The table of the settings file."""
        return STORES

    @property
    def place(self) -> StoreUrl:
        """The place of its objects."""
        if self.url is None:
            raise RefnetError(f"the store {self.name} has no url", f"Set stores.{self.name}.url.", Exit.USAGE)
        return self.url

    @property
    def url_to_read(self) -> str:
        """Its URL with the options that a reader needs, without the files of credentials."""
        options = {"endpoint": self.endpoint, "region": self.region}
        query = urlencode({name: value for name, value in options.items() if value}, safe=":/")
        return f"{self.place}?{query}" if query else str(self.place)

    @property
    def shown(self) -> str:
        """Its place for messages, as its bucket shows it: `s3://bucket/prefix at s3.example.org`."""
        return str(self.url) + (f" at {urlsplit(self.endpoint).netloc}" if self.endpoint else "")

    def with_values(self, values: Mapping[str, Any]) -> StoreSettings:
        """Copy with `values` by field; options of its URL fill fields that are not set."""
        url = values.get("url")
        return replace(self, **(_options_of(url) if url else {}) | dict(values))

    def same_place(self, other: StoreSettings) -> bool:
        """Whether both use the same place: equal URLs without options, at the same endpoint."""
        return (str(self.url), self.endpoint) == (str(other.url), other.endpoint)

    @classmethod
    def from_url(cls, text: str) -> StoreSettings:
        """Store for a URL from the command line; RefnetError (USAGE) never repeats it."""
        name = f"url-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}"
        try:
            return cls(name).with_values({"url": store_url(text)})
        except InvalidError as error:
            raise RefnetError(f"the URL of the store {error.rule}", error.usage, Exit.USAGE) from None


def conflicts(
    stores: Mapping[str, StoreSettings],
    sources: Mapping[str, Path | None],
    clusters: Collection[str],
    backup_dir: Path,
) -> Iterator[tuple[str, str, str]]:
    """Yield conflicts of stores: key, reason, hint.

    sources: names → protected folder; None for other kinds.
    """
    places: dict[tuple[str, str | None], str] = {}
    for one in stores.values():
        start = f"{STORES}.{one.name}"
        if one.url:
            place = (str(one.url), one.endpoint)
            if (other := places.setdefault(place, f"{start}.url")) != f"{start}.url":
                yield f"{start}.url", f"the same place as {other}", "Give each store its own URL."
            yield from _unfitting(one, one.url, start)
            if one.url.kind is StoreKind.FILE:
                yield from _overlaps(one.url.path, start, {"the backup folder": backup_dir, **sources})
        if one.credentials_file and one.credentials_file == one.prune_credentials_file:
            why = "the same file as credentials_file"
            yield (
                f"{start}.prune_credentials_file",
                why,
                "Use a second credential, the only one that may delete.",
            )
        yield from _unknown_sources(one, start, [*sources, *clusters], clusters)


def _unfitting(one: StoreSettings, url: StoreUrl, start: str) -> Iterator[tuple[str, str, str]]:
    for name, (kinds, _) in OPTIONS.items():
        if getattr(one, name) is not None and url.kind not in kinds:
            have = ", ".join(sorted(kinds))
            yield (
                f"{start}.{name}",
                f"a store of the kind {url.kind} has no {name}",
                f"Remove it; only {have} has it.",
            )
    if one.extend_locks and url.kind is not StoreKind.S3:
        why = f"RefNet cannot extend the locks of a store of the kind {url.kind}"
        yield f"{start}.extend_locks", why, "Remove it; only s3 has it."
    elif one.extend_locks and not one.lock:
        hint = f"Set {start}.lock, such as 30d; both need the right s3:PutObjectRetention."
        yield f"{start}.extend_locks", "it needs lock, the time that locks are extended to", hint


def _overlaps(path: str, start: str, folders: Mapping[str, Path | None]) -> Iterator[tuple[str, str, str]]:
    real = os.path.realpath(path)
    for name, folder in folders.items():
        if folder and os.path.commonpath((real, (other := os.path.realpath(folder)))) in {real, other}:
            yield (
                f"{start}.url",
                f"it and {name}, {folder}, overlap",
                "Choose a folder outside of it, on another disk.",
            )


def _unknown_sources(
    one: StoreSettings, start: str, known: Collection[str], clusters: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    for name, given in (("sources", one.sources or ()), ("retention", one.retention.by_source)):
        for source in given:
            of_cluster = any(source.startswith(f"{cluster}-") for cluster in clusters)
            if source not in known and not of_cluster:
                yield (
                    f"{start}.{name}",
                    f"{source[:80]!r} is not a source",
                    f"{did_you_mean(source, known)}`refnet settings` names them.",
                )


@dataclass(frozen=True)
class Credentials:
    """A credential of a store. Its values are never shown."""

    #: access_key_id, secret_access_key and session_token of S3; account and key of Azure; service_account of Google:
    #: the path of a JSON file.
    values: Mapping[str, str] = field(repr=False)


def read_credentials(path: Path, kind: StoreKind) -> Credentials:
    """Read the credential at `path` for a store of `kind`; RefnetError (USAGE) never repeats a value."""
    keys = _CREDENTIAL_KEYS[kind]
    needed = [name for name, is_needed in keys.items() if is_needed]
    usage = f'Write {" and ".join(needed)}, like {needed[0]} = "…", a line each.'
    given = _values_in(path, usage)
    for name, value in given.items():
        if name not in keys:
            hint = did_you_mean(name, keys) + usage
            raise _bad_credential(path, f"has a key that {kind} does not use", hint)
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise _bad_credential(path, f"{name} must be text without spaces", usage)
        if not 0 < len(value) <= _LONGEST:
            raise _bad_credential(path, f"{name} must have 1 to {_LONGEST:,} characters", usage)
    if missing := [name for name in needed if name not in given]:
        raise _bad_credential(path, f"has no {missing[0]}", usage)
    if named := given.get("service_account"):
        _check_private(Path(named))
    return Credentials(given)


def _values_in(path: Path, usage: str) -> dict[str, str]:
    try:
        return tomllib.loads(_check_private(path).decode())
    except (ValueError, RecursionError):
        raise _bad_credential(
            path, "is not TOML in UTF-8", usage
        ) from None  # the parser's own words may repeat a secret


def _check_private(path: Path) -> bytes:
    """Read a file; RefnetError if anyone but this user and root can access it."""
    if not path.is_absolute():
        raise _bad_credential(path, "is not an absolute path", "Write the absolute path of a file.")
    try:
        found = trust.read(path, _LARGEST)
    except OSError as error:
        hint = "Put the credential there, readable only by this user (chmod 600)."
        raise _bad_credential(path, f"cannot be read: {error.strerror}", hint) from None
    if found.readable_by_others:
        raise _bad_credential(
            path, f"can be read by others (mode {found.mode:04o})", f"Run: chmod 600 {trust.shown(path)}"
        )
    return found.content


def _bad_credential(path: Path, why: str, hint: str) -> RefnetError:
    return RefnetError(f"the credential {trust.shown(path)[:1000]}: {why}", hint, Exit.USAGE)
