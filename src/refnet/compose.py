"""The Compose file of a folder, and the PostgreSQL that it runs, as a URL without its password, for a hint.

The file may be hostile: its YAML events are bounded, and aliases are shared rather than copied.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from refnet.core import trust
from refnet.core.errors import RefnetError

#: In Compose's order of search.
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
#: Limits of a file: bytes, depth, events.
_LARGEST, _DEEPEST, _MOST = 1 << 20, 32, 50_000
_IMAGE = re.compile(r"(?:^|/)(?:postgres|postgresql|postgis|pgvector|timescaledb)(?:-ha)?(?:[:@]|$)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")
_SERVICE = re.compile(r"[\w.-]{1,64}")
_PORT = "5432"
#: The folders of its socket in the usual images.
_SOCKETS = ("/var/run/postgresql", "/run/postgresql")


def compose_file(folder: Path) -> Path | None:
    """Return the Compose file of `folder`; None if it has none."""
    return next((folder / name for name in COMPOSE_FILES if (folder / name).is_file()), None)


@dataclass(frozen=True)
class Guess:
    """The PostgreSQL of a Compose file."""

    service: str
    #: Its URL from this machine.
    url: str
    #: The file publishes its port, or the folder of its socket, to this machine.
    published: bool


def guess(file: Path) -> Guess | None:
    """Return the first PostgreSQL service of `file`; None if there is none or the file cannot be read."""
    try:
        table = _table(trust.read(file, _LARGEST).content)
        variables = _variables(file.with_name(".env"))
    except (RefnetError, OSError, ValueError):
        return None
    services = table.get("services") if isinstance(table, dict) else None
    for name, service in services.items() if isinstance(services, dict) else ():
        if isinstance(service, dict) and _SERVICE.fullmatch(name) and _is_postgres(name, service):
            return _guess(name, service, variables, file.parent)
    return None


def _guess(name: str, service: Mapping[str, Any], variables: Mapping[str, str], folder: Path) -> Guess:
    values = _environment(service.get("environment"))
    values = {key: _filled(value, variables) for key, value in values.items()}
    user = values.get("POSTGRES_USER") or variables.get("POSTGRES_USER") or "postgres"
    database = values.get("POSTGRES_DB") or variables.get("POSTGRES_DB") or user
    host, port = _published(service.get("ports"), variables)
    if not port and (socket := _socket(service.get("volumes"), variables, folder)):
        where = f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={quote(socket)}"
        return Guess(name, where, True)
    return Guess(
        name,
        f"postgresql://{quote(user, safe='')}@{host}:{port or _PORT}/{quote(database, safe='')}",
        bool(port),
    )


def _is_postgres(name: str, service: Mapping[str, Any]) -> bool:
    image = service.get("image")
    return name == "postgres" or (isinstance(image, str) and bool(_IMAGE.search(image)))


def _environment(values: Any) -> dict[str, str]:
    """Return a service's `environment`, given as a map or a list of NAME=value."""
    if isinstance(values, list):
        values = dict(str(one).partition("=")[::2] for one in values if isinstance(one, str))
    pairs = values.items() if isinstance(values, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _published(ports: Any, variables: Mapping[str, str]) -> tuple[str, str]:
    """Return the host and port that publish PostgreSQL's port; an empty port if none does."""
    for one in ports if isinstance(ports, list) else ():
        if isinstance(one, dict):
            host, port, inner = (str(one.get(key, "")) for key in ("host_ip", "published", "target"))
        else:
            host, port, inner = _short(_filled(str(one), variables))
        if inner == _PORT and re.fullmatch(r"[0-9]{1,5}", port):
            return (host if re.fullmatch(r"[0-9.]{7,15}", host) and host != "0.0.0.0" else "localhost"), port  # noqa: S104
    return "localhost", ""


def _socket(volumes: Any, variables: Mapping[str, str], folder: Path) -> str:
    """Return the folder of this machine that PostgreSQL's socket is in; "" if none is mounted there."""
    for one in volumes if isinstance(volumes, list) else ():
        source, _, inner = _filled(str(one), variables).removesuffix(":ro").rpartition(":")
        if inner in _SOCKETS and source.startswith((".", "/")):
            return os.path.normpath(folder / source)
    return ""


def _short(text: str) -> tuple[str, str, str]:
    """Split `[HOST:]PORT:INNER[/tcp]`."""
    rest, _, inner = text.partition("/")[0].rpartition(":")
    host, _, port = rest.rpartition(":")
    return host, port, inner


def _filled(text: str, variables: Mapping[str, str]) -> str:
    """Return `text` with Compose's variables replaced by their values in `.env`."""
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[3]) or found[2] or "", text)


def _variables(file: Path) -> dict[str, str]:
    """Return the variables of an `.env` file; none if there is no such file."""
    try:
        text = trust.read(file, _LARGEST).content.decode()
    except FileNotFoundError:
        return {}
    found = re.findall(r"^(?:export )?(\w+)=[\"']?([^\"'\n]*)", text, re.MULTILINE)
    return dict(found)


def _table(content: bytes) -> Any:
    """Return a YAML document, every scalar as text; ValueError if it is invalid, too deep or too large."""
    try:
        import yaml
    except ImportError:
        raise ValueError("PyYAML is not installed") from None
    text, depth = content.decode(), 0
    try:
        for count, event in enumerate(yaml.parse(text, Loader=yaml.BaseLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if count > _MOST or depth > _DEEPEST:
                raise ValueError("it is too large")
        return next(yaml.load_all(text, Loader=yaml.BaseLoader), None)  # it applies no tags and no merges
    except yaml.YAMLError as error:
        raise ValueError("it is not valid YAML") from error
