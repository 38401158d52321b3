"""The end of a recovery whose settings came with it: the machine is protected again.

Settings that a trusted signer sent are put in force, and this machine's keys are made. Settings of a backup folder are not
signed, so they, and whatever else needs an administrator, become numbered commands.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.actions import keys
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.files import explained, make_folder, replace_file, resolved
from refnet.core.formatting import some
from refnet.settings import FILE_NAME, SYSTEM_FILE, Given, Settings, load, variable
from refnet.store.keys import MachineKeys


@dataclass(frozen=True)
class ProtectedAgain:
    """What was done, and what is left to do."""

    #: Sentences.
    done: tuple[str, ...]
    #: Commands, in order, each with what it is for; "": it has none.
    steps: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "done": list(self.done),
            "steps": [{"command": command, "for": what} for command, what in self.steps],
        }


@dataclass(frozen=True)
class CameBack:
    """The settings of the lost machine, which came with its copies and are not in force here."""

    settings: Settings
    #: The file in the backup folder that has them.
    copy: Path
    #: Their content.
    content: bytes
    #: Whether a trusted signer sent them, and the user permitted each program in them; else the user has to read them.
    trusted: bool
    #: The variables of a process that reads no settings file.
    environment: Mapping[str, str]
    #: They are a file of the configuration, where they belong.
    placed: bool = False

    def _load(self, **given: Any) -> Settings:
        return load(self.environment, Path("/"), root=os.geteuid() == 0, cores=1, **given)

    @property
    def target(self) -> Path:
        """Where RefNet looks for a settings file."""
        if os.geteuid() == 0 and variable("home") not in self.environment:
            return SYSTEM_FILE
        return self._load().home / FILE_NAME

    def protect(self, servers: Collection[str], *, final: bool) -> ProtectedAgain:
        """Put the settings in force and make this machine's keys, as far as that may be done; name the rest.

        Args:
            servers: those with roles that came back without passwords.
            final: no other run of the recovery follows, which would read the settings again.
        """
        done, steps = list[str](), list[tuple[str, str]]()
        try:
            steps += self._moved()
            if final and self.trusted and not steps and (self.placed or not os.path.lexists(self.target)):
                if not self.placed:
                    done.append(self._put_in_force())
                done += self._keys()
        except RefnetError as error:  # what came back is whole: a step below repeats what failed
            done.append(f"{error.message}. {error.hint}")
        return ProtectedAgain(tuple(done), (*steps, *self._left(servers)))

    def _moved(self) -> Iterator[tuple[str, str]]:
        """Yield the step that copies the artifacts into the backup folder that the settings name, if it is another one.

        Not for settings that anybody can have written: they could name a folder of the system.
        """
        here, named = self.settings.backup_dir, self._load(given=Given.of(self.copy, self.content))
        if self.trusted and not named.encryption_local and resolved(named.backup_dir) != resolved(here):
            there = shlex.quote(str(named.backup_dir))
            command = f"mkdir -p {there} && cp -a {shlex.quote(f'{here}/.')} {there}"
            yield command, "copies the artifacts into the backup folder that the settings name"

    def _put_in_force(self) -> str:
        """Write the settings file; return what was done."""
        target = self.target
        make_folder(target.parent)
        with explained(target):
            replace_file(target, self.content)
        return f"the settings of the lost machine are in force: {target}"

    def _keys(self) -> Iterator[str]:
        """Make the missing keys of this machine, if there are stores; yield what was made."""
        if self.settings.every_store:
            here = Context(self.settings)
            made = keys.make(here, keys.plan_new(here, None, machine=True))
            yield from (f"made {one}" for one in made.files)

    def _left(self, servers: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield the steps of an administrator."""
        target, has_stores = self.target, bool(self.settings.every_store)
        refnet = shlex.join(["refnet", "--config", str(self.copy)]) if self.placed else "refnet"
        if not (self.placed or target.exists()):
            command = shlex.join(["install", "-D", "-m", "600", str(self.copy), str(target)])
            yield command, "puts the settings of the backup in force; read them first"
        if has_stores and MachineKeys.in_home(self.settings.home).missing:
            yield f"{refnet} key new --machine", "makes this machine's keys, which sign its copies"
        if servers:
            yield "", f"set the passwords of roles by the lines above, on {some([*servers], 3)}"
        yield f"{refnet} check", "names what is missing, such as a password in ~/.pgpass"
        receiver = any(one.wal for one in self.settings.clusters.values())
        what = "makes the timers and the receiver of the WAL" if receiver else "makes the timers"
        if self.settings.recover_services != "compose":  # there containers keep the schedule
            yield f"{refnet} schedule install{'' if os.geteuid() == 0 else ' --user'}", what
        yield f"{refnet} backup", "makes the first backup of this machine"
        if has_stores:
            yield (
                f"{refnet} key page",
                "makes a page with this machine's signer; keep the old one, for old copies",
            )
