"""A private sshd of this user, and rclone's settings, for tests of buckets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pwd import getpwuid

from refnet.core.processes import until

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or ""
#: Why tests with a server are skipped, or "".
MISSING = "" if SSHD and shutil.which("ssh") else "needs openssh-server and openssh-client"


@dataclass(frozen=True)
class SshServer:
    """A running sshd."""

    port: int
    #: The folder of its settings, keys and log.
    folder: Path
    #: The arguments of ssh that name its keys.
    options: tuple[str, ...]
    process: subprocess.Popen[bytes]

    def url(self, folder: Path) -> str:
        """The URL of a store in `folder`."""
        return f"sftp://{getpwuid(os.geteuid()).pw_name}@127.0.0.1:{self.port}{folder}"


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run an sshd with its files in `folder`; it takes one key alone."""
    for name in ("host", "user"):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    shutil.copy(folder / "user.pub", folder / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host = (folder / "host.pub").read_text().split()[:2]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {' '.join(host)}\n")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # of Debian's sshd, which a service makes
    command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL) as process,
    ):
        try:
            assert until(lambda: _listens(port) or process.poll() is not None, 10)
            assert process.poll() is None, (folder / "log").read_text()
            options = ("-F", "none", "-i", str(folder / "user"), "-o", f"UserKnownHostsFile={folder}/known")
            yield SshServer(port, folder, options, process)
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
