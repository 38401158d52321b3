"""Runs commands in the container that makes the backups of this machine.

The backup folder and the record of all runs belong to the user of that service.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from refnet.cli.output import output
from refnet.compose import compose_file
from refnet.context import examine_settings
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.settings import Settings


def run_there(arguments: Sequence[str]) -> None:
    """Replace this process by the command in the container of `compose.service`; return if it runs here.

    Commands with `--to` or a file of this machine run here, because the container cannot see it. `prune` runs there, then
    here: only this machine knows the previous versions of its own restores.
    """
    settings = examine_settings(output.variables).settings
    if not settings.compose_service:
        return
    if file := _key_file(arguments):
        raise RefnetError(
            f"{file} is on this machine, but the command runs in the service {settings.compose_service}",
            f"Type the key when it asks; or: docker compose exec -T {settings.compose_service} sh -c "
            "'umask 077; cat > /tmp/key' < FILE, and --identity-file=/tmp/key, which is in memory there.",
            Exit.USAGE,
        )
    if any(_is_of_this_machine(one) for one in arguments[1:]):
        return

    from refnet.recovery.compose import Compose, working_program

    program = working_program()
    there = Compose(_file(settings), program).running(settings.compose_service)
    if not there:
        raise RefnetError(
            f"the service {settings.compose_service} makes the backups of this machine, and does not run",
            f"Start it: {program} up --detach {settings.compose_service}. With REFNET_COMPOSE_SERVICE=none "
            "the command runs here.",
        )
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    command = [program.engine, "exec", "--interactive", *terminal, there, "refnet", *arguments]
    options = {one.partition("=")[0] for one in arguments}
    if arguments[0] != "prune" or not {"--json", "--store", "--simulate"}.isdisjoint(options):
        os.execvp(command[0], command)  # noqa: S606  # a list, no shell
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(code)


def _key_file(arguments: Sequence[str]) -> str:
    """The file of `--identity-file`, if it is on this machine."""
    words = [word for one in arguments for word in one.split("=", 1)]
    named = [after for word, after in pairwise(words) if word == "--identity-file"]
    return next((plain(one) for one in named if _exists(one)), "")


def _is_of_this_machine(argument: str) -> bool:
    return argument.partition("=")[0] == "--to" or ("/" in argument and _exists(argument))


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110  # Path's own raises where a name is too long


def _file(settings: Settings) -> Path:
    found = compose_file(settings.config_dir) if settings.config_dir else None
    if not found:
        raise RefnetError(
            f"compose.service is {settings.compose_service}, and {settings.config_dir or 'config_dir'} has no Compose file",
            "Set config_dir to the folder of compose.yaml, or compose.service to none.",
        )
    return found
