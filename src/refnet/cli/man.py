"""The manual page refnet(1), made from the commands: `python -m refnet.cli.man`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from refnet import __version__
from refnet.cli.command import DATABASES, FOLDERS, help_lines, titled
from refnet.cli.main import GROUPS, app
from refnet.core.errors import Exit
from refnet.settings import CONFIG, IDENTITY_FILE, PROGRESS, keys, variable

EXITS = {
    Exit.DONE: "done",
    Exit.FAILED: "failed, or a backup that waits for `refnet accept`: it is SHRUNK, or its source has objects that cannot be restored",
    Exit.USAGE: "wrong usage or settings",
    Exit.UNVERIFIED: "could not verify: `verify`, `drill`, the proof of a `backup` (not with `prove.required = false`); or no artifact to verify",
    Exit.DAMAGED: "damaged, or differs; a recovery from a remote store that was rolled back",
    Exit.LOCKED: "locked by another run",
    Exit.CONFIRM: "confirmation needed: live data would be replaced or deleted, and stdin is not a terminal",
}
_VARIABLES = {
    CONFIG: "The settings file, as --config.",
    IDENTITY_FILE: "The file with a recovery key, as --identity-file.",
    PROGRESS: "json: report progress on stderr as lines of JSON, {step, done, total}, at most four a second.",
}
_FILES = {
    "refnet.toml": "Settings: in the current folder, else in REFNET_HOME, else in /etc/refnet.",
    "/var/lib/refnet, ~/.local/share/refnet": "REFNET_HOME of root, and of other users.",
    "/var/backups/refnet": "The backup folder of root.",
    "/var/log/refnet-backup.log, /var/log/refnet-restore.log": "The logs of root.",
}


def page() -> str:
    """The page in roff, for man(7)."""
    root: Any = typer.main.get_command(app)
    top = typer.Context(root, info_name="refnet")
    lines = [f'.TH REFNET 1 "" "refnet {__version__}"', ".SH NAME", "refnet \\- " + _text(root.help)]
    lines += [".SH SYNOPSIS", ".B refnet", _text(" ".join(root.collect_usage_pieces(top)))]
    lines += [".SH OPTIONS", *_options(root, top)]
    for title, names in GROUPS.items():
        lines += [f".SH {title.upper()}"]
        for name in names:
            lines += _command(root.resolve_command(top, [name])[1], name, top)
    lines += [".SH EXIT STATUS", *_list({str(code.value): text for code, text in EXITS.items()})]
    lines += [".PP", _text("monitor and check end with 0 ok, 1 warning, 2 critical (an error), 3 unknown.")]
    lines += [".SH ENVIRONMENT", *_list(_VARIABLES)]
    lines += [".PP", "Each setting is also a variable; refnet.toml.example describes them.", ".nf"]
    lines += [*sorted(map(variable, keys())), ".fi"]
    lines += [".SH FILES", *_list(_FILES), ".SH SEE ALSO", ".BR pg_dump (1),", ".BR psql (1)"]
    return "\n".join(lines) + "\n"


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    """Sections of a command, or of all commands of a group."""
    context = typer.Context(command, info_name=name, parent=parent)
    for inner, child in getattr(command, "commands", {}).items():
        yield from _command(child, inner, context)
    if not hasattr(command, "commands"):
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        yield f'.SS "{_text(usage)}"'
        yield _text(command.help)
        yield from _options(command, context)


def _options(command: Any, context: Any) -> Iterator[str]:
    for title, params in titled(command, context).items():
        if title in {DATABASES, FOLDERS}:
            yield from (".PP", f".I {_text(title)}:")
        yield from _list(dict(help_lines(params, context)))


def _list(items: dict[str, str]) -> Iterator[str]:
    for term, text in items.items():
        yield from (".TP", f".B {_text(term)}", _text(text))


def _text(words: str) -> str:
    r"""`words` as one line of roff, escaped and never a request."""
    line = " ".join(words.split()).replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    print(page(), end="")
