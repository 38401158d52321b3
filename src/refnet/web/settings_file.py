"""Changes the settings file: comments stay, the reader of every command checks the new text, and the last version is kept.

Only keys of `settings.writable` reach it. What the page showed is compared with the file again before it is replaced.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from refnet import wiring
from refnet.context import examine_settings
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, opened, replace_file, replace_in
from refnet.core.formatting import plain
from refnet.core.locks import locked
from refnet.settings import LARGEST, Examined, Given, Settings
from refnet.settings.document import KeyPath, dotted, read_file
from refnet.settings.sources import SHORT
from refnet.settings.writable import Subject, text_of

#: The lock and the last version, in REFNET_HOME; how long a second writer waits, in seconds.
LOCK, LAST_VERSION, WAIT = "settings.lock", "refnet.toml.last", 5.0


@dataclass(frozen=True)
class SettingsFile:
    """The settings file of a server as it is now, without a problem."""

    running: Settings
    given: Given
    found: Examined

    @classmethod
    def read(cls, running: Settings) -> SettingsFile:
        """Read the file; RefnetError if there is none, or a setting is wrong. `running`: the server's settings."""
        path = examine_settings(running.variables).valid().file
        given = read_file(path) if path else None
        if given is None:
            raise RefnetError("there is no settings file", "`refnet init` makes one.", Exit.USAGE)
        found = examine_settings(running.variables, given)
        found.valid()
        return cls(running, given, found)

    @property
    def path(self) -> Path:
        return self.given.path

    @property
    def version(self) -> str:
        """The SHA-256 of its text."""
        return hashlib.sha256(self.given.text.encode()).hexdigest()

    def texts(self, subject: Subject) -> dict[str, str | None]:
        """Key → its text in the file, "" if it is not set there; None: no form can show it, or the environment sets it."""
        origins, own = self.found.settings.origins, {"", str(self.path)}
        return {key: self._text(key) if origins.get(key, "") in own else None for key in subject.keys}

    def _text(self, key: str) -> str | None:
        value: Any = self.given.table
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return "" if value is None else text_of(key, value)

    @property
    def refusal(self) -> RefnetError | None:
        """Why this process does not write the file; None: it does."""
        with explained(self.path):
            there = self.path.lstat()
        if found := self._refused(there):
            return found
        if not os.access(self.path.parent, os.W_OK):
            return self._not_ours("is in a folder that this server may not write")
        return None

    def _refused(self, there: os.stat_result) -> RefnetError | None:
        """Why a file with the state `there` is not replaced."""
        if not stat.S_ISREG(there.st_mode):
            return self._not_ours("is a link; a page would replace the link, not the file")
        if there.st_uid != os.geteuid():
            return self._not_ours("belongs to another user")
        if there.st_nlink > 1:
            return self._not_ours("has another name too (a hard link)")
        return None

    def _not_ours(self, why: str) -> RefnetError:
        return RefnetError(f"{self.path} {why}", "Change the file by hand, as shown here.", Exit.USAGE)

    def draft(self, subject: Subject, given: Mapping[str, str]) -> Draft:
        """The file with the texts of a form; RefnetError for what no page writes, or another command would refuse."""
        shown = self.texts(subject)
        values = subject.values(self.found.settings, given)
        if blocked := next((key for key in values if shown[key] is None), None):
            raise RefnetError(
                f"{blocked} is set by the environment, or in a way that no form shows",
                "A variable is stronger than the settings file. Change it where it is set.",
                Exit.USAGE,
            )
        changes = {
            tuple(key.split(".")): value
            for key, value in values.items()
            if _lines(given[key]) != _lines(shown[key] or "")
        }
        if not changes:
            raise RefnetError("nothing is changed", "Change a field, or go back.", Exit.USAGE)
        text = edited(self.given.text, changes)
        if len(text.encode()) > LARGEST:
            raise RefnetError(f"the file would have more than {LARGEST:,} bytes", "Shorten it.", Exit.USAGE)
        found = examine_settings(self.running.variables, Given.of(self.path, text.encode()))
        if found.problems:
            raise found.problems[0].error
        there = {*wiring.protected(found.settings)}
        if lost := [one for one in wiring.protected(self.found.settings) if one not in there]:
            keys = ", ".join(SHORT.get(one, one) for one in lost)
            raise RefnetError(
                f"{', '.join(lost)} would no longer be backed up: a table of a source ends the defaults",
                f'Set {keys} in the settings file first, such as database_url = "own" for RefNet\'s own server.',
                Exit.USAGE,
            )
        return Draft(self, changes, text, found)

    def write(self, draft: Draft) -> Path:
        """Replace the file by `draft`, with its mode and its group; return the path of the last version.

        RefnetError (LOCKED) if the file has changed since it was read; nothing is written then.
        """
        make_folder(self.running.home)
        with locked(self.running.home / LOCK, seconds=WAIT) as ours:
            now = SettingsFile.read(self.running)
            if not ours or now.version != self.version:
                raise RefnetError(
                    f"{self.path} has changed since this page was made; nothing was written",
                    "Open the form again: it shows what the file has now.",
                    Exit.LOCKED,
                )
            if refusal := now.refusal:
                raise refusal
            kept = self.running.home / LAST_VERSION
            with explained(kept):
                replace_file(kept, now.given.text.encode())
            with explained(self.path), opened(self.path.parent, os.O_RDONLY | os.O_DIRECTORY) as folder:
                there = os.stat(self.path.name, dir_fd=folder, follow_symlinks=False)
                # of this folder: its name may lead to another one by now
                if refusal := self._refused(there):
                    raise refusal
                if os.fstat(folder).st_uid not in {0, os.geteuid()}:
                    raise self._not_ours("is in a folder of another user")
                replace_in(
                    folder, self.path.name, draft.text.encode(), stat.S_IMODE(there.st_mode), there.st_gid
                )
        return kept


@dataclass(frozen=True)
class Draft:
    """A changed settings file, checked and not written yet."""

    file: SettingsFile
    #: Path of the key → its new value; None: it is removed.
    changes: Mapping[KeyPath, Any]
    text: str
    #: The settings that it gives.
    found: Examined

    @property
    def difference(self) -> tuple[str, ...]:
        """The changed lines, each with + or - before it; no other line, as it may contain a secret."""
        before, after = self.file.given.text.splitlines(), self.text.splitlines()
        lines = [*difflib.unified_diff(before, after, n=0, lineterm="")][2:]
        return tuple(plain(line) for line in lines if not line.startswith("@@"))

    @property
    def lines(self) -> str:
        """What to write by hand."""
        return "\n".join(_by_hand(self.changes))


def _lines(text: str) -> list[str]:
    """The lines of a text that are not empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _by_hand(changes: Mapping[KeyPath, Any]) -> Iterator[str]:
    for table in dict.fromkeys(path[:-1] for path in changes):
        yield f"[{dotted(table)}]"
        for path, value in changes.items():
            if path[:-1] == table:
                yield (
                    f"# {path[-1]}: remove it" if value is None else tomlkit.dumps({path[-1]: value}).strip()
                )


def edited(text: str, changes: Mapping[KeyPath, Any]) -> str:
    """`text` (TOML) with `changes`: path of a key → value, None: remove it. Everything else stays as it is written.

    RefnetError (USAGE) if exactly that cannot be done, such as in an inline table.
    """
    new: dict[KeyPath, dict[str, Any]] = {}
    try:
        expected, document = _changed(tomllib.loads(text), changes), tomlkit.parse(text)
        for path, value in changes.items():
            if (table := _table(document, path[:-1])) is not None:
                _put(table, path[-1], value)
            elif value is not None:
                new.setdefault(path[:-1], {})[path[-1]] = value
        after = tomlkit.dumps(document)
        after += "\n" if after and not after.endswith("\n") else ""
        for table_path, values in new.items():
            after += f"{after and chr(10)}[{dotted(table_path)}]\n{tomlkit.dumps(values)}"
        after.encode()  # ValueError for a lone surrogate
        right = tomllib.loads(after) == expected
    except (TOMLKitError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        right, after = False, text
    if not right:
        hint = "Change the file by hand: " + "; ".join(_by_hand(changes))
        raise RefnetError(
            "the settings file is written in a way that pages do not change", hint[:500], Exit.USAGE
        )
    return after


def _table(document: Any, path: KeyPath) -> Table | None:
    """The table at `path`; None if it does not exist. TypeError for an inline table: its line may contain a secret."""
    found = document
    for name in path:
        if name not in found:
            return None
        found = found[name]
    if not isinstance(found, Table):
        raise TypeError(path)
    return found


def _put(table: Table, key: str, value: Any) -> None:
    """Set or remove a key; a new one is below the last key, before the comments and empty lines that follow."""
    if value is None:
        table.pop(key, None)
    elif key in table:
        table[key] = value
    else:
        body, after = table.value.body, list[Any]()
        while body and body[-1][0] is None:
            after.append(body.pop())
        table.append(key, value)
        body.extend(reversed(after))


def _changed(table: Mapping[str, Any], changes: Mapping[KeyPath, Any]) -> dict[str, Any]:
    """The document `table` with `changes`."""
    found = copy.deepcopy(dict(table))
    for path, value in changes.items():
        inner = found
        for name in path[:-1]:
            if value is None and name not in inner:
                break
            inner = inner.setdefault(name, {})
        else:
            inner.pop(path[-1], None) if value is None else inner.update({path[-1]: value})
    return found
