"""The URL of the PostgreSQL that a Compose file runs, as a guess for a hint; never its password.

The file is read by its events, bounded, and aliases are shared rather than copied: it may be hostile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from refnet import trust
from refnet.errors import RefnetError

_LARGEST, _DEEPEST, _MOST = 1 << 20, 32, 50_000
_IMAGE = re.compile(r"(?:^|/)(?:postgres|postgresql|postgis|pgvector|timescaledb)(?:-ha)?(?:[:@]|$)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")
_SERVICE = re.compile(r"[\w.-]{1,64}")
_PORT = "5432"


@dataclass(frozen=True)
class Guess:
    """The PostgreSQL of a Compose file.

    service: its name. url: how it is reached from this machine. published: whether the file says so, or its port is
    not open to this machine.
    """

    service: str
    url: str
    published: bool


def guess(file: Path) -> Guess | None:
    """The first service of `file` that is a PostgreSQL; None where there is none, or the file cannot be read."""
    try:
        table = _table(trust.read(file, _LARGEST).content)
        variables = _variables(file.with_name(".env"))
    except (RefnetError, OSError, ValueError):
        return None
    services = table.get("services") if isinstance(table, dict) else None
    for name, service in services.items() if isinstance(services, dict) else ():
        if isinstance(service, dict) and _SERVICE.fullmatch(name) and _is_postgres(name, service):
            return _guess(name, service, variables)
    return None


def _guess(name: str, service: Mapping[str, Any], variables: Mapping[str, str]) -> Guess:
    said = _environment(service.get("environment"))
    said = {key: _filled(value, variables) for key, value in said.items()}
    user = said.get("POSTGRES_USER") or variables.get("POSTGRES_USER") or "postgres"
    database = said.get("POSTGRES_DB") or variables.get("POSTGRES_DB") or user
    host, port = _published(service.get("ports"), variables)
    return Guess(
        name,
        f"postgresql://{quote(user, safe='')}@{host}:{port or _PORT}/{quote(database, safe='')}",
        bool(port),
    )


def _is_postgres(name: str, service: Mapping[str, Any]) -> bool:
    image = service.get("image")
    return name == "postgres" or (isinstance(image, str) and bool(_IMAGE.search(image)))


def _environment(said: Any) -> dict[str, str]:
    """A service's `environment`, which is a map or a list of NAME=value."""
    if isinstance(said, list):
        said = dict(str(one).partition("=")[::2] for one in said if isinstance(one, str))
    pairs = said.items() if isinstance(said, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _published(ports: Any, variables: Mapping[str, str]) -> tuple[str, str]:
    """The host and the port at which PostgreSQL's own port is published; no port: it is not."""
    for one in ports if isinstance(ports, list) else ():
        if isinstance(one, dict):
            host, port, inner = (str(one.get(key, "")) for key in ("host_ip", "published", "target"))
        else:
            host, port, inner = _short(_filled(str(one), variables))
        if inner == _PORT and re.fullmatch(r"[0-9]{1,5}", port):
            return (host if re.fullmatch(r"[0-9.]{7,15}", host) and host != "0.0.0.0" else "localhost"), port  # noqa: S104
    return "localhost", ""


def _short(text: str) -> tuple[str, str, str]:
    """`[HOST:]PORT:INNER[/tcp]` in its parts."""
    rest, _, inner = text.partition("/")[0].rpartition(":")
    host, _, port = rest.rpartition(":")
    return host, port, inner


def _filled(text: str, variables: Mapping[str, str]) -> str:
    """`text` with Compose's variables filled in from `.env`."""
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[3]) or found[2] or "", text)


def _variables(file: Path) -> dict[str, str]:
    """The variables of an `.env` file; none where there is no such file."""
    try:
        text = trust.read(file, _LARGEST).content.decode()
    except FileNotFoundError:
        return {}
    found = re.findall(r"^(?:export )?(\w+)=[\"']?([^\"'\n]*)", text, re.MULTILINE)
    return dict(found)


def _table(content: bytes) -> Any:
    """What a YAML file holds, every scalar as text; ValueError where it is none, too deep or too much."""
    try:
        import yaml
    except ImportError:
        raise ValueError("PyYAML is not installed") from None
    try:
        return _Builder(yaml).build(content.decode())
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("it is no YAML that can be used") from error


class _Builder:
    """Makes a document of YAML's events; a merge (`<<`) is left as it is."""

    def __init__(self, yaml: Any) -> None:
        self._yaml = yaml
        self._known: dict[str, Any] = {}

    def build(self, text: str) -> Any:
        events = self._yaml.parse(text, Loader=self._yaml.SafeLoader)
        holders: list[tuple[Any, list[Any]]] = [(None, [])]
        for count, event in enumerate(events):
            if count > _MOST or len(holders) > _DEEPEST:
                raise ValueError("it is too much")
            kind = type(event).__name__
            if kind in {"MappingStartEvent", "SequenceStartEvent"}:
                holders.append((event, []))
            elif kind in {"MappingEndEvent", "SequenceEndEvent"}:
                begun, items = holders.pop()
                holders[-1][1].append(self._kept(begun, _made(begun, items)))
            elif kind == "ScalarEvent":
                holders[-1][1].append(self._kept(event, event.value))
            elif kind == "AliasEvent":
                holders[-1][1].append(self._known.get(event.anchor))
            elif kind == "DocumentEndEvent":
                break
        return holders[0][1][0] if holders[0][1] else None

    def _kept(self, event: Any, value: Any) -> Any:
        if event.anchor:
            self._known[event.anchor] = value
        return value


def _made(begun: Any, items: list[Any]) -> Any:
    if type(begun).__name__ == "SequenceStartEvent":
        return items
    pairs = zip(items[::2], items[1::2], strict=False)
    return {key: value for key, value in pairs if isinstance(key, str)}
