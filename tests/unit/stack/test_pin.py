"""`deploy/pin`, with a docker that answers as the real one was documented to."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_DOCKER = """#!/bin/sh
case $1 in
    pull) [ "$3" != "$UNREACHABLE" ] || { echo "no route to host" >&2; exit 1; } ;;
    image) for image; do :; done; echo "${image%:*}@sha256:$(printf %s "$image$MOVED" | sha256sum | cut -d' ' -f1)" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(_DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    (tmp_path / "deploy").mkdir()
    for name in ("compose.yaml", "Dockerfile", "deploy/pin"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def pin(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{clone}/bin:{os.environ['PATH']}"
    known = {"PATH": path, "UNREACHABLE": "", "MOVED": ""} | environment
    return subprocess.run([clone / "deploy/pin"], env=known, capture_output=True, text=True, check=False)


def test_each_registry_image_gets_its_digest_and_a_later_one_replaces_it(clone: Path) -> None:
    before = {name: (clone / name).read_text() for name in ("compose.yaml", "Dockerfile")}
    for moved in ("", "moved"):
        assert pin(clone, MOVED=moved).returncode == 0
        for name, text in before.items():
            now = (clone / name).read_text()
            found = re.findall(r"(docker\.io\S+?)@(sha256:[0-9a-f]{64})", now)
            assert len(found) == len(re.findall(r"docker\.io/\S+:", text)), name
            for image, digest in found:
                assert digest == f"sha256:{hashlib.sha256((image + moved).encode()).hexdigest()}"
            assert re.sub("@sha256:[0-9a-f]{64}", "", now) == re.sub("@sha256:[0-9a-f]{64}", "", text)


def test_a_registry_that_does_not_answer_leaves_the_files_as_they_are(clone: Path) -> None:
    before = (clone / "compose.yaml").read_text()
    refused = pin(clone, UNREACHABLE="docker.io/prom/prometheus:v3.13.3")
    assert refused.returncode == 1
    assert "pin: docker.io/prom/prometheus:v3.13.3 cannot be pulled\n" in refused.stderr
    assert (clone / "compose.yaml").read_text() == before
