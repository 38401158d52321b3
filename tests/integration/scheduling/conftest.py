"""A real systemd of its own, as process 1 of private namespaces, with nothing but our units in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import forked

REFNET = str(Path(sys.executable).parent / "refnet")
SYSTEMD = Path("/usr/lib/systemd/systemd")

#: $1 the name of a control group, $2 a folder to pass through. Nothing of this reaches the machine itself.
_OUTER = """
set -e
mount --make-rprivate /
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/$1
echo 0 > /sys/fs/cgroup/$1/cgroup.procs
exec unshare --pid --cgroup --uts --ipc --fork sh -c "$3" inner "$2"
"""
_INNER = """
set -e
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t proc proc /proc
mount -t tmpfs none /run
mount -t tmpfs none /etc/systemd/system
mkdir -p /run/systemd/system /run/upper /run/work
for target in refnet-test sysinit basic timers network-online; do
    printf '[Unit]\\nDefaultDependencies=no\\n' > /run/systemd/system/$target.target
done
if [ -n "$1" ]; then
    mount -t overlay overlay -o lowerdir=$1,upperdir=/run/upper,workdir=/run/work $1
    chmod o+x $1
fi
export container=refnet-test
exec /usr/lib/systemd/systemd --system --unit=refnet-test.target --log-target=null
"""


@dataclass(frozen=True)
class Booted:
    """A systemd that runs; `pid` is that of its process 1 as we see it."""

    pid: int

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `command` as root beside that systemd."""
        own = {n: v for n, v in os.environ.items() if not n.startswith(("REFNET_", "SUDO_", "XDG_"))}
        beside = ("nsenter", "-t", str(self.pid), "--mount", "--pid", "--cgroup", "--")
        if command[0] == REFNET:
            done = forked.run([*command[1:]], own | environment, Path("/"), b"", 120, beside)
            return subprocess.CompletedProcess(
                done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
            )
        return subprocess.run(
            [*beside, *command],
            env=own | environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def systemd(booted: Booted) -> Iterator[Booted]:
    """A systemd without units of ours."""
    yield booted
    clean = "systemctl stop 'refnet*'; rm -rf /etc/systemd/system/*; systemctl daemon-reload; systemctl reset-failed"
    booted.run("sh", "-c", clean)


@pytest.fixture(scope="module")
def booted() -> Iterator[Booted]:
    if (
        os.geteuid() != 0
        or not SYSTEMD.exists()
        or not all(map(shutil.which, ("unshare", "nsenter", "systemctl")))
    ):
        pytest.skip("a systemd of one's own takes root, systemd and util-linux")
    name = f"refnet-test-{os.getpid()}"
    closed = "/root" if not Path("/root").stat().st_mode & 1 else ""  # the tests' Python may lie there
    outer = subprocess.Popen(["unshare", "--mount", "sh", "-c", _OUTER, "outer", name, closed, _INNER])
    first = _first_child(outer)
    booted = Booted(first)
    try:
        end = time.monotonic() + 30
        while booted.run("systemctl", "is-system-running").stdout.strip() not in {"running", "degraded"}:
            if outer.poll() is not None or time.monotonic() > end:
                pytest.skip("systemd does not start in namespaces here")
            time.sleep(0.1)
        yield booted
    finally:
        with suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
        outer.wait()
        _remove_groups(name)


def _first_child(outer: subprocess.Popen[bytes]) -> int:
    """The process 1 of the new namespace, as soon as it is there."""
    process = Path(f"/proc/{outer.pid}")
    end = time.monotonic() + 10
    while outer.poll() is None and time.monotonic() < end:
        # In this order: a child that was there before is one of the shell's, which are over.
        if (process / "cmdline").read_bytes().startswith(b"unshare\0--pid"):
            children = (process / "task" / str(outer.pid) / "children").read_text().split()
            if children:
                return int(children[0])
        time.sleep(0.02)
    outer.wait()
    pytest.skip("this machine gives no namespaces")


def _remove_groups(name: str) -> None:
    for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        for folder, _, _ in os.walk(root / name, topdown=False):
            Path(folder).rmdir()


@pytest.fixture
def folders() -> Iterator[tuple[Path, Path]]:
    """A REFNET_HOME and a backup folder to be, where PrivateTmp= does not hide them."""
    parent = Path(tempfile.mkdtemp(prefix="refnet-test-", dir="/var/lib"))
    parent.chmod(0o755)
    yield parent / "home", parent / "backups"
    shutil.rmtree(parent)
