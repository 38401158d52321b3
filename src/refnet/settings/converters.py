"""How a setting is declared, and the converters: a value from TOML, or the text of a variable, to the value in force.

Each converter is pure and raises `InvalidError`, which never repeats the value: it may be a secret.
"""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import field
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

from refnet.core.errors import nearest

#: The name of an instance, as a pattern.
INSTANCE = "[a-z][a-z0-9_-]{0,39}"
#: What leaves a source of the short form out, and what names RefNet's own server as the database.
NO_SOURCE, OWN_SERVER = "none", "own"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DIGITS = re.compile(r"[0-9]{1,18}")
_AMOUNT = re.compile(r"\s*(-?[0-9]{1,18})(?:\.[0-9]{0,9})?\s*([a-zA-Z%]*)\s*")
#: The most bytes of a path and of each name in it, as of Linux.
_PATH, _NAME = 4095, 255
_MOST_HOOKS = 20
_PROGRAM = re.compile(r"\w")
_SIZES = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_TIMES = {"s": 1, "m": 60, "h": 3600}


class InvalidError(ValueError):
    """A value that a setting cannot have."""

    def __init__(self, rule: str, usage: str, near: str = "", part: str = "") -> None:
        super().__init__(rule)
        #: What the value must be; it follows a colon.
        self.rule = rule
        #: What to write, as a sentence.
        self.usage = usage
        #: The nearest valid value, or "".
        self.near = near
        #: The key of the wrong value in a table; "": the value itself is wrong.
        self.part = part


def key(
    convert: Callable[[Any], Any],
    *,
    default: Any = None,
    name: str | None = None,
    secret: bool = False,
    table: str = "",
) -> Any:
    """Declare a setting.

    Args:
        convert: a function of this module, or one like them.
        name: its key in refnet.toml; None: that of the field.
        secret: never shown; REFNET_…_FILE may name a file with it.
        table: the tables of sources that have it; "": all.
    """
    return field(
        default=default, metadata={"convert": convert, "name": name, "secret": secret, "table": table}
    )


def text(value: Any, usage: str = "Write a text in quotes, or remove the key to use the default.") -> str:
    """Return `value` without spaces around it."""
    if not isinstance(value, str):
        raise InvalidError("must be text", usage)
    if not value.strip():
        raise InvalidError("must not be empty", usage)
    if _CONTROL.search(value):
        raise InvalidError(
            "must not contain control characters", "Remove line breaks and other control characters."
        )
    return value.strip()


def utf8(value: Any, usage: str) -> str:
    """`value` as valid UTF-8, which other programs require; only paths may contain other bytes."""
    found = text(value, usage)
    try:
        found.encode()
    except UnicodeEncodeError:
        raise InvalidError("must be UTF-8", "Set it in UTF-8.") from None
    return found


def instance_name(value: Any) -> str:
    """Parse the name of an instance, which becomes part of unit and queue names."""
    usage = "Write 1 to 40 of a-z, 0-9, _ and -, with a letter first, such as shop."
    name = text(value, usage)
    if not re.fullmatch(INSTANCE, name):
        raise InvalidError("must be a short name", usage, near_instance(name))
    return name


def near_instance(words: str) -> str:
    """The valid instance name closest to `words`, or ""."""
    return re.sub("[^a-z0-9]+", "-", words[:100].lower()).strip("-").lstrip("-0123456789")[:40]


def user_path(named: str | Path) -> Path:
    """Expand a leading `~` in `named`, if that user exists."""
    return Path(os.path.expanduser(named))  # noqa: PTH111  # Path's own raises if there is none


def absolute_folder(value: Any) -> Path:
    """Return `value` as the path of a folder."""
    return absolute_file(value, "Write the absolute path of a folder, such as /srv/refnet or ~/refnet.")


def absolute_file(
    value: Any, usage: str = "Write the absolute path of a file, such as /etc/refnet/s3.toml."
) -> Path:
    """Return `value` as an absolute path."""
    path = user_path(text(value, usage))
    if not path.is_absolute():
        raise InvalidError("must be an absolute path", usage)
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        raise InvalidError("must be a path", usage) from None
    if len(encoded) > _PATH or max(map(len, encoded.split(b"/"))) > _NAME:
        raise InvalidError(f"must have at most {_PATH:,} bytes, and {_NAME} in each name", usage)
    return path


def log_folder(value: Any) -> Path | None:
    """Return the folder of the logs; None for `none`."""
    return None if value == "none" else absolute_folder(value)


def integer(
    least: int, most: int, usage: str, units: Mapping[str, int] | None = None
) -> Callable[[Any], int]:
    """Converter for integers from `least` to `most`; `units` are used to suggest a value."""

    def convert(value: Any) -> int:
        number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
        if isinstance(number, int) and not isinstance(number, bool) and least <= number <= most:
            return number
        near = _amount(number, units or {})
        shown = "" if near is None else str(min(max(near, least), most))
        raise InvalidError(f"must be an integer from {least} to {most}", usage, shown)

    return convert


def _amount(value: Any, units: Mapping[str, int]) -> int | None:
    """The number that `value` probably means: `2.0`, `"-1"`, `"1 MiB"`, `"2m"`."""
    found = _AMOUNT.fullmatch(str(value)) if isinstance(value, (str, float)) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not found:
        return None
    return int(found[1]) * units.get(found[2][:1].lower(), 1)


jobs = integer(1, 64, "Write the number of parallel workers.")
percent = integer(0, 100, "Write the percentage without a sign; 0 turns the check off.")
days = integer(1, 36_500, "Write the number of days.", {"d": 1, "w": 7})
days_between = integer(0, 365, "Write the number of days; 0 proves each backup.", {"d": 1, "w": 7})
size = integer(0, 10**18 - 1, "Write the number of bytes; 0 turns the check off.", _SIZES)
memory = integer(0, 10**15, "Write the number of bytes; 0 leaves everything on the disk.", _SIZES)
cached = integer(0, 10**15, "Write the number of bytes; 0 keeps no pieces.", _SIZES)
pdf_bytes = integer(1, 10**12, "Write the number of bytes.", _SIZES)
hook_seconds = integer(1, 3600, "Write the number of seconds.", _TIMES)
seconds = integer(1, 86_400, "Write the number of seconds.", _TIMES)


def choice(*choices: str) -> Callable[[Any], str]:
    """Converter for one of `choices`."""

    def convert(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return value
        listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
        near = nearest(value, choices) if isinstance(value, str) else ""
        raise InvalidError(f"must be {listed}", f"Write {listed}.", near)

    return convert


def flag(value: Any) -> bool:
    """Parse a boolean, also from the text of a variable."""
    if isinstance(value, bool):
        return value
    return choice("true", "false")(value) == "true"


level = choice("debug", "info", "warning", "error")
provider = choice("semantic_scholar", "openalex")
proved_source = choice("auto", "count", "digest")
_services = choice("compose", "local", "none")


def services(value: Any) -> str | None:
    """Parse the way services are started; None for `none`."""
    found = _services(value)
    return None if found == "none" else found


def compose_service(value: Any) -> str | None:
    """Parse the name of a Compose service; None for `none`."""
    usage = "Write its name in the Compose file, such as backup; none for no service."
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", found := text(value, usage)):
        raise InvalidError("must be the name of a service", usage)
    return None if found == "none" else found


def names(value: Any) -> tuple[str, ...]:
    """Parse names: a list, or text with commas."""
    usage = 'Write a list of names, such as ["first", "second"]; [] for none.'
    items = filled(
        value, [item for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    )
    if items is None:
        raise InvalidError("must be a list of names", usage)
    return tuple(utf8(item, usage) for item in items)


def servers(value: Any) -> tuple[str, ...]:
    """Parse HOST:PORT of servers: a list, or text with commas."""
    found = names(value)
    if not all(re.fullmatch(r"[a-z0-9.-]+:[0-9]{1,5}", item) for item in found):
        raise InvalidError(
            "must be a list of HOST:PORT in lower case", 'Write a list such as ["library.example.org:443"].'
        )
    return found


def filled(value: Any, items: Any) -> list[str] | None:
    """`items`, the parts of `value`, if all are texts that are not empty; else None."""
    usable = (
        isinstance(items, list)
        and (items or value == [])
        and all(isinstance(one, str) and one.strip() for one in items)
    )
    return items if usable else None


def commands(value: Any) -> tuple[str, ...]:
    """Parse the services of a recovery stage: names or command lines."""
    found = names(value)
    for item in found:
        try:
            shlex.split(item)
        except ValueError:
            raise InvalidError(
                "must be names of services or command lines", "Close the quotes of the command line."
            ) from None
    return found


def hooks(value: Any) -> tuple[tuple[str, ...], ...]:
    """Parse the commands of a hook into words: one command line, a list of them, or a list of lists of words."""
    usage = 'Write a list of command lines, such as ["/usr/local/bin/stop-app --wait"], or of lists of words; no shell runs.'
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or len(items) > _MOST_HOOKS:
        raise InvalidError(f"must be a list of at most {_MOST_HOOKS} commands", usage)
    return tuple(_command(item, usage) for item in items)


def _command(item: Any, usage: str) -> tuple[str, ...]:
    try:
        words = shlex.split(utf8(item, usage)) if isinstance(item, str) else item
    except ValueError as error:
        if isinstance(error, InvalidError):
            raise
        raise InvalidError("must be command lines", "Close the quotes of the command line.") from None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise InvalidError("must be a list of command lines or of lists of words", usage)
    if not _PROGRAM.search(words[0]) or not all(map(_is_argument, words)):
        raise InvalidError("must name a program, in UTF-8 without control characters", usage)
    return tuple(words)


def _is_argument(word: str) -> bool:
    return not _CONTROL.search(word) and word.encode(errors="replace").decode() == word


def entries(value: Any) -> tuple[str, ...]:
    """Parse config.entries: `a|b` for alternatives, `/` at the end for a folder, `?` at the end for optional."""
    found = names(value)
    if wrong := next((item for item in found if not is_entry(item)), None):
        raise InvalidError(f"'{wrong[:_NAME]}' is not an entry of the configuration's folder", ENTRY_USAGE)
    return found


ENTRY_USAGE = "Name its files and folders: .env, monitoring/, a|b for either, ? for optional."


def is_entry(entry: str) -> bool:
    """Whether `entry` is a valid relative path in the configuration folder."""
    return all(name and "/" not in name and name not in {".", ".."} for name in entry_names(entry))


def entry_names(entry: str) -> list[str]:
    """The alternative names of an entry."""
    return entry.removesuffix("?").removesuffix("/").split("|")


def requests_per_second(value: Any) -> float:
    """Parse a rate in requests per second; 0: no limit."""
    usage = "Write a number such as 1 or 0.5; 0 turns the limit off."
    try:
        rate = -1.0 if isinstance(value, bool) or not str(value).isascii() else float(value)
    except (TypeError, ValueError):
        rate = -1.0
    if not 0 <= rate <= 1000:
        raise InvalidError("must be a number from 0 to 1000", usage)
    return rate


def header_value(value: Any, usage: str = "Copy the key from its provider.", shortest: int = 1) -> str:
    """Parse a key for an HTTP header: `shortest` to 1,024 visible ASCII characters."""
    found = text(value, usage)
    if not (found.isascii() and found[0].isalnum() and found.isprintable() and " " not in found) or not (
        shortest <= len(found) <= 1024
    ):
        raise InvalidError(f"must be {shortest} to 1,024 visible ASCII characters", usage)
    return found


def model(value: Any) -> str:
    """Parse a model name: 1 to 200 visible characters without spaces."""
    usage = "Write the name as the API lists it."
    found = utf8(value, usage)
    if len(found) > 200 or not found[0].isalnum() or not found.isprintable() or " " in found:
        raise InvalidError("must be 1 to 200 visible characters", usage)
    return found


def token(value: Any) -> str:
    """Parse a token: at least 16 visible ASCII characters, no repetition, no sequence."""
    usage = "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'."
    found = header_value(value, usage, shortest=16)
    pairs = [*pairwise(found)]
    steps = {ord(second) - ord(first) for first, second in pairs}
    # Of 16 random hexadecimal digits, 1 in 100 is refused; of longer ones none.
    if len({*found}) < 8 or len({*pairs}) < 12 or len(steps) < 8:
        raise InvalidError("is easy to guess: it repeats itself, or follows an order", usage)
    return found


def networks(value: Any) -> tuple[str, ...]:
    """Parse IP addresses and networks, such as 10.0.0.0/8."""
    found = names(value)
    try:
        for item in found:
            ip_network(item)
    except ValueError:
        raise InvalidError("must be IP addresses or networks", 'Write ["127.0.0.1", "10.0.0.0/8"].') from None
    return found


def or_none(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let `convert` accept `none`, which leaves the source out, also a default one."""
    return lambda value: None if value == NO_SOURCE else convert(value)
