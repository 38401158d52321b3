"""The demo's folder: runs and prints its commands, leaves no process running, and writes the story as a page."""

import os
import platform
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import ClassVar

from refnet import __version__, wiring
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import SourceName
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import check_own, explained, remove_tree
from refnet.core.locks import locked
from refnet.core.page import render
from refnet.core.processes import ending_with_parent
from refnet.core.signals import delayed
from refnet.postgres import binaries, embedded
from refnet.settings import load

MARK = ".made-by-refnet-demo"
#: Prints a line; the second argument is True for a title.
Print = Callable[[str, bool], None]
_REFNET = (sys.executable, "-m", "refnet")
#: The maximum depth of the demo's folder, in folders.
_DEEPEST = 100
#: Time limit for a command to end after SIGTERM, in seconds; then it is killed.
_CLEAN_SECONDS = 60.0


@dataclass(frozen=True)
class _Ran:
    """A command that has ended: exit code, output, duration (s)."""

    code: int
    output: str
    seconds: float


@dataclass(frozen=True)
class TypedCommand:
    """A command as it is typed, its output and its duration (s)."""

    typed: str
    output: str
    seconds: float


@dataclass
class Chapter:
    """A part of the story."""

    title: str
    #: An introduction of one or two sentences.
    says: str
    #: The result.
    found: str = ""
    steps: list[TypedCommand] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)


@dataclass(frozen=True)
class Told:
    """A finished story: the losses, their recovery, and what to try next."""

    #: The template of the story's page.
    TEMPLATE: ClassVar[str]

    folder: Path
    chapters: tuple[Chapter, ...]
    #: The folder of the server's data.
    cluster: Path

    @property
    def seconds(self) -> float:
        return sum(chapter.seconds for chapter in self.chapters)

    def write_page(self, now: datetime) -> Path:
        """Write the story, dated `now`, as a page into its folder; return its path."""
        path = self.folder / "story.html"
        text = render(
            self.TEMPLATE,
            None,
            story=self,
            now=now,
            where=f"{platform.node()}, RefNet {__version__}",
            phases={f"{n}. {chapter.title}": chapter.seconds for n, chapter in enumerate(self.chapters, 1)},
            # the cluster's folder, if it could not be in RefNet's home
            elsewhere=None if self.cluster.is_relative_to(self.folder) else str(self.cluster),
            bin_folder=Path(sys.executable).parent,
            quoted=lambda *words: shlex.join(map(str, words)),
        )
        path.write_text(text, encoding="utf-8")
        return path


class DemoStage:
    """Folder, environment and chapters of a story. `inherited`: the user's environment."""

    def __init__(self, folder: Path, inherited: Mapping[str, str], print_line: Print) -> None:
        self.folder = folder
        self.config, self.home = folder / "config", folder / "home"
        self.chapters: list[Chapter] = []
        self._print = print_line
        own = {k: v for k, v in inherited.items() if not k.startswith(("REFNET_", "PG"))}
        self._environment = own | {"REFNET_LOG_FOLDER": "none"}  # root's is /var/log

    def chapter(self, title: str, says: str) -> None:
        self.chapters.append(Chapter(title, says))
        self._print("", False)
        self._print(f"{len(self.chapters)}. {title}", True)
        self._print(f"   {says}", False)

    def refnet(
        self, *arguments: str, quiet: bool = False, inside: bool = False, **settings: str
    ) -> TypedCommand:
        """Run a refnet command in the configuration's folder; with `settings` (variables), in the demo's folder.

        quiet: do not print the output; inside: in the configuration's folder in spite of `settings`.
        """
        typed = shlex.join(["refnet", *arguments])
        if settings:
            typed = " ".join([*(f"{name}={shlex.quote(value)}" for name, value in settings.items()), typed])
        at = self.folder if settings and not inside else self.config
        return self._step(typed, [*_REFNET, *arguments], at, self._environment | settings, quiet=quiet)

    def program(self, command: Sequence[str], typed: str = "", *, quiet: bool = False) -> TypedCommand:
        """Run a program other than refnet in the demo's folder. `quiet`: do not print the output."""
        environment, typed = self._environment, typed or shlex.join(command)
        if command[0] == "psql":
            environment = environment | connection(self.socket())
            command = [str(binaries.find(None, None, server=True).tool("psql")), *command[1:]]
        return self._step(typed, command, self.folder, environment, quiet=quiet)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[None]:
        """Run a refnet command in the configuration's folder until the block ends, as a service would."""
        typed = shlex.join(["refnet", *arguments])
        self._print(f"   $ {typed} &", False)
        command = [*ending_with_parent(signal.SIGTERM), *_REFNET, *arguments]
        said = subprocess.DEVNULL
        with delayed():
            child = subprocess.Popen(
                command,
                cwd=self.config,
                env=self._environment,
                stdin=said,
                stdout=said,
                stderr=said,
                text=True,
                process_group=0,
            )
        try:
            yield
        finally:
            with delayed():
                ended = child.poll()
                _end(child)
        if ended is not None:
            raise RefnetError(
                f"the demo failed: `{typed}` ended with {ended}", f"Run it in {self.config}: it says why."
            )

    def found(self, sentence: str) -> None:
        """Print the result of the chapter."""
        self.chapters[-1].found = sentence
        self._print(f"   → {sentence}", False)

    def _step(
        self,
        typed: str,
        command: Sequence[str],
        at: Path,
        environment: Mapping[str, str],
        *,
        quiet: bool = False,
    ) -> TypedCommand:
        self._print(f"   $ {typed}", False)
        ran = _run(command, at, environment)
        for line in ran.output.splitlines() if not quiet or ran.code else ():
            self._print(f"     {line}", False)
        self._print(f"     ({formatting.seconds(ran.seconds)})", False)
        if ran.code:
            raise RefnetError(
                f"the demo failed: `{typed}` ended with {ran.code}",
                f"Its output is above; everything is left as it is in {self.folder}.",
            )
        step = TypedCommand(typed, ran.output, ran.seconds)
        self.chapters[-1].steps.append(replace(step, output="") if quiet else step)
        return step

    def status(self) -> embedded.EmbeddedState:
        """Return the status of the demo's server."""
        return embedded.status(self.home)

    def socket(self) -> Path:
        """Return the folder of the socket of the demo's server."""
        socket = self.status().socket
        if socket is None:  # psql would look for another server
            raise RefnetError(
                "the demo failed: its server does not run",
                f"See the server's log in {self.home / 'postgres'}.",
            )
        return socket

    def stop(self) -> None:
        """Stop the demo's server, even after an interrupt."""
        if not self.home.exists():
            return
        settings = {"REFNET_HOME": str(self.home)}
        with delayed():
            ran = _run([*_REFNET, "postgres", "stop"], self.folder, self._environment | settings)
        if ran.code or self.status().running:
            raise RefnetError(
                "the demo's server could not be stopped",
                f"Stop it: REFNET_HOME={shlex.quote(str(self.home))} refnet postgres stop",
            )


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> _Ran:
    """Run `command` in `folder` to its end, in a separate process group.

    So Ctrl-C reaches only the demo, which sends the command one SIGTERM and waits for its cleanup.
    """
    began = perf_counter()
    child: subprocess.Popen[str] | None = None
    try:
        with delayed():
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                process_group=0,
            )
        output = child.communicate()[0]
    finally:
        if child and child.poll() is None:
            _end(child)
    return _Ran(child.returncode, output, perf_counter() - began)


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.communicate(timeout=_CLEAN_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def catalog(stage: DemoStage) -> Catalog:
    """Return the catalog of the demo's backup folder."""
    return Catalog.of(wiring.store(load({}, stage.config, root=False, cores=1)).entries())


def proven(stage: DemoStage, sources: Iterable[str]) -> Mapping[SourceName, Entry]:
    """Return the newest artifact of each source; RefnetError if one of `sources` has none that is proven."""
    entries = catalog(stage).set_at()
    there = {str(source) for source, entry in entries.items() if entry.proven}
    if unproven := [source for source in sources if source not in there]:
        raise RefnetError(
            f"the demo failed: the backup of {', '.join(unproven)} is not proven",
            f"The reason is above; `refnet list` in {stage.config} shows the artifacts.",
        )
    return entries


def connection(socket: Path) -> dict[str, str]:
    """Return the environment with which psql reaches the demo's server."""
    return {"PGHOST": str(socket), "PGUSER": embedded.SUPERUSER, "PGDATABASE": embedded.DATABASE}


def same(before: object, after: object, what: str) -> None:
    """RefnetError, with the name `what`, if `before` and `after` differ."""
    if before != after:
        raise RefnetError(
            f"the demo failed: {what} has changed",
            "This is a bug of RefNet: report it with the output above.",
        )


@contextmanager
def stage(folder: Path, inherited: Mapping[str, str], print_line: Print) -> Iterator[DemoStage]:
    """Make a fresh stage in `folder` and stop its server at the end of the block, also after an error.

    RefnetError if the folder contains other files than a demo's, or if another demo runs in it.
    """
    with explained(folder):
        made = DemoStage(_usable(folder), inherited, print_line)
    with locked(folder / MARK, seconds=0.0) as ours:
        if not ours:
            raise RefnetError(
                f"another demo runs in {folder}", "Wait for it, or name another --folder.", Exit.LOCKED
            )
        with explained(folder):
            _clear(folder, made.home)
        try:
            yield made
        finally:
            made.stop()


def _usable(folder: Path) -> Path:
    """Create `folder` if it is missing, and return it; RefnetError unless it is empty or a demo's."""
    if not str(folder).isprintable():  # the path is written into refnet.toml and printed
        raise RefnetError(
            "the demo's folder has a name that cannot be printed", "Name another with --folder.", Exit.USAGE
        )
    if len(folder.parts) > _DEEPEST:
        raise RefnetError("the demo's folder is too deep", "Name another with --folder.", Exit.USAGE)
    folder.mkdir(parents=True, exist_ok=True)
    check_own(folder, "the demo's folder", "name another one with --folder")
    if any(folder.iterdir()) and not _is_marked(folder):
        raise RefnetError(
            f"{folder} exists already and is not a demo's", "Name another with --folder.", Exit.USAGE
        )
    return folder


def _is_marked(folder: Path) -> bool:
    """Return whether a demo of this user made `folder`: this user owns its mark, a regular file."""
    try:
        found = (folder / MARK).lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _clear(folder: Path, home: Path) -> None:
    """Remove the files, the server and the cluster of the last demo in `folder`."""
    if home.exists():
        embedded.remove(home)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        elif path.name != MARK:
            path.unlink()
