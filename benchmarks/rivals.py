"""The rivals of an off-site copy, each with encryption: restic and pgBackRest to the same object server, Borg to a folder."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import FailedError
from benchmarks.objects import BUCKET, REGION, ObjectServer
from refnet.core.processes import until
from refnet.postgres.cluster import Cluster

#: As many processes as the other tools get.
_JOBS = 2
_RELOAD_SECONDS = 30.0
_DUMP = "dump.sql"
_THROW_AWAY = "/bin/true"


@dataclass(frozen=True)
class Restic:
    """A restic repository of its own for each backup, because a second backup of the same bytes stores nothing."""

    folder: Path
    server: ObjectServer
    #: Of its repositories' names.
    prefix: str = "restic"

    def environment(self, number: int) -> dict[str, str]:
        """Return the variables of the repository with a number."""
        return self.server.environment | {
            "HOME": str(self.folder),
            "PATH": os.environ["PATH"],
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
            "RESTIC_PASSWORD_FILE": str(self.folder / "password"),
            "RESTIC_REPOSITORY": f"s3:{self.server.endpoint}/{BUCKET}/{self.prefix}-{number}",
        }

    def create(self, number: int) -> None:
        """Create the repository with a number."""
        if shutil.which("restic") is None:
            raise FailedError("not installed")
        self.folder.mkdir(exist_ok=True)
        (self.folder / "password").write_text("made up")
        _run(self.command("init"), self.environment(number), self.folder)

    def command(self, *arguments: str) -> list[str]:
        return ["restic", f"--cacert={self.server.authority}", "--quiet", *arguments]

    def backup(self) -> list[str]:
        """Return the command that stores what it reads."""
        return self.command("backup", "--stdin", f"--stdin-filename={_DUMP}")

    def dump(self) -> list[str]:
        """Return the command that writes what was stored."""
        return self.command("dump", "latest", _DUMP)


@dataclass(frozen=True)
class Borg:
    """A repository of Borg in a folder."""

    repository: Path

    def environment(self) -> dict[str, str]:
        """Return the variables of the repository."""
        return {
            "BORG_BASE_DIR": str(self.repository.with_name("borg-home")),
            "BORG_PASSPHRASE": "made up",
            "BORG_REPO": str(self.repository),
            "PATH": os.environ["PATH"],
        }

    def create(self) -> None:
        """Create the repository."""
        if shutil.which("borg") is None:
            raise FailedError("not installed")
        _run(["borg", "init", "--encryption=repokey-blake2"], self.environment(), self.repository.parent)

    def stored(self) -> int:
        """Return the bytes of the repository's files."""
        return sum(path.stat().st_size for path in self.repository.rglob("*") if path.is_file())


@dataclass(frozen=True)
class PgBackRest:
    """pgBackRest's backups of all of `cluster`, which archives its WAL while one is made."""

    folder: Path
    cluster: Cluster

    def create(self, server: ObjectServer) -> None:
        """Write the configuration of a repository on `server`, and create the stanza."""
        self.folder.mkdir()
        authority = shutil.copy(server.authority, self.folder)
        self.cluster.account.own(Path(authority))
        repository = {
            "repo1-type": "s3",
            "repo1-path": "/pgbackrest",
            "repo1-s3-bucket": BUCKET,
            "repo1-s3-endpoint": server.endpoint.removeprefix("https://"),
            "repo1-s3-key": server.key_id,
            "repo1-s3-key-secret": server.secret,
            "repo1-s3-region": REGION,
            "repo1-s3-uri-style": "path",
            "repo1-storage-ca-file": authority,
            "repo1-cipher-type": "aes-256-cbc",
            "repo1-cipher-pass": secrets.token_hex(16),
        }
        self.configure(repository)

    def configure(self, repository: Mapping[str, object]) -> None:
        """Write the configuration of `repository`, and create the stanza."""
        self.folder.mkdir(exist_ok=True)
        parts = self.cluster.target().parts
        common = {
            **repository,
            "repo1-bundle": "y",
            "repo1-retention-full": 100,
            "lock-path": self.folder,
            "log-level-file": "off",
            "process-max": _JOBS,
            "compress-type": "zst",
            "start-fast": "y",
        }
        own = {"path": self.cluster.data, "socket-path": parts["host"], "port": parts["port"]}
        own |= {"user": parts["user"], "database": parts["dbname"]}
        lines = ["[global]", *(f"{key}={value}" for key, value in common.items())]
        lines += ["[bench]", *(f"pg1-{key}={value}" for key, value in own.items())]
        self._configuration.write_text("\n".join(lines) + "\n")
        for path in (self.folder, self._configuration):
            self.cluster.account.own(path)
        _run(self.command("stanza-create"), os.environ, self.folder)

    def archives(self, wanted: bool) -> None:
        """Let the server archive its WAL, or throw it away; it has archive_mode=on."""
        command = (
            f"{shutil.which('pgbackrest')} --config={self._configuration} --stanza=bench archive-push %p"
        )
        archive(self.cluster, command if wanted else _THROW_AWAY)

    def command(self, *arguments: str) -> list[str]:
        """Return a command of pgBackRest, as the system user of the server."""
        account = self.cluster.account
        become = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
        own = ["pgbackrest", f"--config={self._configuration}", "--stanza=bench", *arguments]
        return [*(become if account.other else ()), *own]

    @property
    def _configuration(self) -> Path:
        return self.folder / "pgbackrest.conf"


def archive(cluster: Cluster, command: str = _THROW_AWAY) -> None:
    """Set the server's archive_command; return when it is in force."""
    with cluster.target().connect() as admin:
        admin.execute(f"ALTER SYSTEM SET archive_command = '{command}'".encode())
        admin.execute("SELECT pg_reload_conf()")

        def in_force() -> bool:
            return admin.execute("SHOW archive_command").fetchone() == (command,)

        if not until(in_force, _RELOAD_SECONDS):
            raise FailedError("the server does not reload its configuration")


def _run(command: list[str], environment: Mapping[str, str], folder: Path) -> None:
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise FailedError(f"{command[0]}: exit {ended.returncode}: {said[0] if said else 'no message'}")
