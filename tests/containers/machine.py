"""A machine with podman alone: its own storage, a copy of this checkout, and images that need no registry."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
IMAGES = Path(__file__).parent / "images"
#: All services of compose.yaml but grafana, of which Debian has no package.
SERVICES = (
    *("postgres", "redis", "api", "crawler", "summarizer", "generator", "backup", "celery-beat"),
    *("flower", "nginx", "prometheus"),
)
STAND_INS = ("postgres", "redis", "nginx", "prometheus")
_COPIED = (
    *(
        "compose.yaml",
        "Dockerfile",
        ".dockerignore",
        ".env.example",
        "deploy",
        "monitoring",
        "requirements.lock",
    ),
    *("pyproject.toml", "README.md", "LICENSE", "refnet.toml.example", "src"),
)
_BUILD = ["build", "--quiet", "--network=host", "--ulimit=nofile=20000:20000"]
#: The Python of Debian in `images/`.
_PYTHON = {"python_version": "3.13", "python_full_version": "3.13.5"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Machine:
    """podman with everything below `folder`, and the project in `clone`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clone, self.backups = folder, folder / "clone", folder / "data" / "backups"
        self.vault, self.port, self.project = (
            folder / "data" / "vault",
            free_port(),
            f"refnet-test-{os.getpid()}",
        )
        #: From images built to all healthy.
        self.seconds = 0.0
        (folder / "networks").mkdir()
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
        )
        (folder / "containers.conf").write_text(
            f'[engine]\nruntime = "runc"\ntmp_dir = "{folder}/libpod"\n[network]\n'
            f'network_config_dir = "{folder}/networks"\n'
            '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]\n'
        )
        (folder / "only-podman-compose").mkdir()
        wrapper = folder / "only-podman-compose" / "podman"
        wrapper.write_text(
            f'#!/bin/sh\n[ "$1" != compose ] || exit 125\nexec {shutil.which("podman")} "$@"\n'
        )
        wrapper.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REFNET_")},
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "REFNET_HOME": str(folder / "home"),
            "REFNET_LOG_FOLDER": "none",
        }

    def run(
        self, *command: str, check: bool = True, seconds: float = 300, **more: str
    ) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            command,
            cwd=self.clone if self.clone.exists() else self.folder,
            env={**self.environment, **more},
            timeout=seconds,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or ran.returncode == 0, f"{command}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
        return ran

    def podman(self, *words: str, check: bool = True) -> str:
        return self.run("podman", *words, check=check).stdout

    def within(self, service: str, *command: str) -> str:
        """The output of `command` in the container of `service`."""
        return self.podman("exec", self.container(service), *command)

    def container(self, service: str) -> str:
        return f"{self.project}_{service}_1"

    def refnet(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the host's refnet in the clone, as a user would."""
        return self.run(sys.executable, "-m", "refnet", *words, check=False, **more)

    def states(self) -> dict[str, str]:
        """The state of each container, by service: the health of one that has a check."""
        text = '{{index .Labels "com.docker.compose.service"}} {{.State}} {{.Status}}'
        lines = self.podman("ps", "--all", "--format", text).splitlines()
        found = {
            name: re.search(r"\((\w+)\)$|Exited \((\d+)\)", rest)
            for name, rest in (one.split(" ", 1) for one in lines)
        }
        return {name: match[1] or f"exited {match[2]}" if match else "" for name, match in found.items()}

    # How it is made, and removed.

    def make_clone(self) -> None:
        """A new clone as a user with a strict umask makes it, prepared."""
        self.clone.mkdir()
        for name in _COPIED:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, self.clone / name)
        compose = self.clone / "compose.yaml"  # a project of its own, beside one that this machine may run
        compose.write_text(compose.read_text().replace("\nname: refnet\n", f"\nname: {self.project}\n"))
        for path in (self.clone, *self.clone.rglob("*")):
            os.chown(path, 0, 0)
            path.chmod(path.stat().st_mode & 0o700)
        (self.clone / ".env").write_text(
            f"REFNET_HTTP_PORT={self.port}\nREFNET_HTTPS_PORT={free_port()}\nREFNET_BACKUP_DIR={self.backups}\n"
            f"REFNET_VAULT_DIR={self.vault}\nREFNET_RUN_DIR={self.folder}/data/run\n"
        )
        self.run("sh", "deploy/prepare")

    def build(self) -> None:
        """Debian as base, the stand-ins, and RefNet's image from its own Dockerfile; wheels come from outside."""
        wheels = threading.Thread(target=self._wheels)
        wheels.start()
        rootfs = str(self.folder / "rootfs.tar")
        self.run("mmdebstrap", "--variant=minbase", "--include=python3,python3-venv,curl", "trixie", rootfs)
        self.podman("import", rootfs, "localhost/base")
        Path(rootfs).unlink()
        wheels.join()
        base = ["--build-arg=BASE=localhost/base", "--build-arg=PIP_NO_INDEX=1"]
        self.podman(*_BUILD, *base, "--tag=localhost/refnet:latest", ".")
        services = yaml.safe_load((self.clone / "compose.yaml").read_text())["services"]
        for name in STAND_INS:
            self.podman(*_BUILD, "--target", name, "--tag", services[name]["image"], str(IMAGES))

    def _wheels(self) -> None:
        """Download what the image's lock names for its Python; pip looks at the markers of its own alone."""
        lock = self.run(sys.executable, "deploy/locked.py", "requirements.lock", "pyproject.toml").stdout
        wanted = self.folder / "wheels.lock"
        wanted.write_text("".join(_for_image(lock)))
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
        ]
        only = ["--no-deps", "--only-binary=:all:", "--python-version=3.13", f"--dest={self.clone}/wheels"]
        self.run(*pip, *only, f"--requirement={wanted}")

    @contextmanager
    def health_checks(self) -> Iterator[None]:
        """Run the health checks, as systemd's timers do where it runs."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(0.5):
                for one in self.podman("ps", "--quiet", "--filter=health=starting", check=False).split():
                    self.podman("healthcheck", "run", one, check=False)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def destroy(self) -> None:
        """Remove containers, volumes and networks."""
        for command in (
            ["rm", "--all", "--force", "--time=2"],
            ["volume", "rm", "--all", "--force"],
            ["network", "prune", "--force"],
        ):
            self.podman(*command)

    def end(self) -> None:
        self.destroy()
        self.podman("rmi", "--all", "--force", check=False)
        subprocess.run(["umount", "--recursive", "--quiet", self.folder / "storage" / "overlay"], check=False)
        shutil.rmtree(self.folder)


def _for_image(lock: str) -> Iterator[str]:
    for block in re.split(r"^(?=[A-Za-z])", lock, flags=re.MULTILINE):
        if not re.match("[A-Za-z]", block):
            continue
        marker = Requirement(block.split("\n")[0].rstrip(" \\")).marker
        if not marker or marker.evaluate(_PYTHON):
            yield re.sub(r" ;[^\\\n]*", " ", block, count=1)


def missing() -> str:
    """What is missing for containers here, or ""."""
    programs: Sequence[str] = ("podman", "podman-compose", "runc", "mmdebstrap", "catatonit", "nft")
    absent = [name for name in programs if not shutil.which(name)]
    return (
        "containers need root" if os.geteuid() else f"{', '.join(absent)} is not installed" if absent else ""
    )
