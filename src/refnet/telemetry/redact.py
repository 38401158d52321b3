"""Removes secrets from messages and logs, including the text of errors."""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from urllib.parse import parse_qsl, unquote, urlsplit

from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.settings.stores import read_credentials

_HIDDEN = "(hidden)"
_IN_URL = re.compile(r"((?<!\w)\w+://[^\s:/@]*):[^\s/@]+@")
_NAMED = re.compile(
    r"(?i)\b(password|passwd|pgpassword|secret(?:_access_key)?|(?:session_)?token|api_?key|account_?key)(\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&]+)"
)
#: The private key of age.
_RECOVERY_KEY = re.compile(r"(?i)AGE-SECRET-KEY-[0-9A-Z-]+")
#: Environment variables with the secrets of stores.
_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY")
#: Fields of a credential that are not secret.
_PUBLIC = {"account", "service_account"}
#: The shortest secret that is searched for; shorter text occurs by chance.
_SHORTEST = 4
#: The length from which a part of a notification URL counts as a key.
_KEY = 16


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that hides `secrets`, passwords in URLs and values named like a password in a text."""
    known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
    exact = re.compile("|".join(map(re.escape, known))) if known else None

    def redact(text: str) -> str:
        if exact:
            text = exact.sub(_HIDDEN, text)
        text = _RECOVERY_KEY.sub(_HIDDEN, _IN_URL.sub(rf"\1:{_HIDDEN}@", text))
        return _NAMED.sub(rf"\1\2{_HIDDEN}", text)

    return redact


def secrets_of(settings: Settings) -> set[str]:
    """Return every secret of the settings: secret values, and the passwords and keys inside them."""
    found = {text for one in settings.sources.values() if one.url for text in (one.url, *_inside(one.url))}
    for each in fields(settings):
        value = getattr(settings, each.name)
        if value is None or not each.metadata.get("secret"):
            continue
        for text in (value,) if isinstance(value, str) else value:
            found |= {text, *_inside(text)}
    return found | _of_stores(settings)


def _of_stores(settings: Settings) -> set[str]:
    """Return the secrets of the stores' readable credentials; unreadable ones cannot reach a message."""
    found = {os.environ.get(name, "") for name in _VARIABLES} if settings.stores else set()
    for store in settings.stores.values():
        for path in filter(None, (store.credentials_file, store.prune_credentials_file)):
            with suppress(RefnetError):
                values = read_credentials(path, store.place.kind).values
                found |= {value for name, value in values.items() if name not in _PUBLIC}
    return found


def _inside(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return set()
    keys = re.split(r"[/?&=@:]", f"{parts.netloc}/{parts.path}/{parts.query}")
    found = {key for key in keys if len(key) >= _KEY and "." not in key}
    found |= {value for name, value in parse_qsl(parts.query) if "password" in name.lower()}
    return found | ({password, unquote(password)} if password else set())
