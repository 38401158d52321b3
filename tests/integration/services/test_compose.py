"""Services of a Compose project: each program for it, as a script that answers as the real one was seen to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import forked

from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.recovery import compose
from refnet.recovery.compose import Compose, Program, working_program
from refnet.recovery.services import wait_for

FILE = Path("/srv/refnet/compose.yaml")
CLOCK = Clock(sleep=lambda _: None)

#: A project in a file, which the scripts show and change. `up` starts what its `starts` lists.
SCRIPT = """#!{python} -IS
import json, os, pathlib, sys, time
name, state = pathlib.Path(sys.argv[0]).name, pathlib.Path({state!r})
words = sys.argv[1:]
with state.with_name("calls").open("a") as file:
    file.write(" ".join([name, *words]) + "\\n")
project = json.loads(state.read_text())
old = project.get("version", {{}}).get(name, "Docker Compose version v2.40.3")
if name.endswith("-compose") or words[:1] == ["compose"]:
    words = words[words[:1] == ["compose"]:]
    if words == ["version"]:
        print(old)
    elif words[2] == "up":
        time.sleep(project.get("up_seconds", 0))
        for one in project["starts"]:
            project["containers"][one]["State"]["Status"] = "running"
        state.write_text(json.dumps(project))
        sys.stderr.write(project.get("says", ""))
        sys.exit(project.get("code", 0))
    elif words[2] == "ps":
        all_known = "podman-compose" not in old and "version 1." not in old
        if ("--all" in words) != all_known:
            sys.exit("unrecognized arguments: --all")
        print(*project["containers"])
elif words == ["version"]:
    sys.exit(0)
elif words[0] == "inspect":
    print(json.dumps([{{"Id": one, **project["containers"][one]}} for one in words[3:]]))
elif words[0] == "healthcheck":
    project["containers"][words[2]]["State"]["Health"]["Status"] = "healthy"
    state.write_text(json.dumps(project))
elif words[0] == "exec":
    sys.exit(project.get("inside", 0))
elif words[0] == "logs":
    sys.stdout.write(project.get("log", ""))
else:
    sys.exit("unknown command")
"""
IDS = {name: f"{number:064x}" for number, name in enumerate(["postgres", "migrate", "api"], 10)}


def container(
    name: str, status: str, *, health: str = "", code: int = 0, restart: str = ""
) -> dict[str, object]:
    state: dict[str, object] = {"Status": status, "ExitCode": code}
    if health:
        state["Health"] = {"Status": health, "Log": [{"ExitCode": 1, "Output": "no response\n"}]}
    labels = {"com.docker.compose.service": name}
    return {"State": state, "Config": {"Labels": labels}, "HostConfig": {"RestartPolicy": {"Name": restart}}}


Machine = Callable[..., Path]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with `programs` alone on PATH and a project; returns the file with the calls."""

    def made(programs: list[str], containers: dict[str, dict[str, object]], **project: object) -> Path:
        folder, state = tmp_path / "bin", tmp_path / "state"
        folder.mkdir(exist_ok=True)
        found = {IDS[name]: one for name, one in containers.items()}
        starts = [IDS[name] for name in project.pop("starts", [])]  # type: ignore[attr-defined]
        state.write_text(json.dumps({"containers": found, "starts": starts, **project}))
        for name in programs:
            (folder / name).write_text(SCRIPT.format(python=sys.executable, state=str(state)))
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        compose._found.cache_clear()
        return tmp_path / "calls"

    return made


def services(seconds: float = 5) -> Compose:
    return Compose(FILE, working_program(), seconds, lambda text: text.replace("made-up-secret", "(hidden)"))


ALL = ["docker", "docker-compose", "podman", "podman-compose"]


@pytest.mark.parametrize(
    ("programs", "version", "words", "ps"),
    [
        (ALL, {}, ("docker", "compose"), "ps --all --quiet"),
        (ALL[1:], {}, ("podman", "compose"), "ps --all --quiet"),
        (ALL[2:], {"podman": "podman-compose version 1.3.0"}, ("podman", "compose"), "ps --quiet"),
        (
            ALL[:2],
            {"docker-compose": "docker-compose version 1.29.2"},
            ("docker", "compose"),
            "ps --all --quiet",
        ),
    ],
)
def test_the_first_program_that_works_is_used(
    machine: Machine, programs: list[str], version: dict[str, str], words: tuple[str, ...], ps: str
) -> None:
    calls = machine(programs, {"api": container("api", "running")}, version=version)
    assert services().program.words == words
    assert services().waiting(["api", "crawler"]) == ("crawler",)
    assert f"{' '.join(words)} --file {FILE} {ps}\n" in calls.read_text()


def without(machine: Machine, name: str, script: str) -> None:
    found = Path(os.environ["PATH"]) / name
    found.write_text(f"#!/bin/sh\n{script}\n")
    found.chmod(0o755)


NO_PLUGIN = """case "$1" in version) ;; *) echo "unknown flag: --file" >&2; exit 125 ;; esac"""
NO_DAEMON = "echo 'Cannot connect to the Docker daemon' >&2; exit 1"


@pytest.mark.parametrize("script", [NO_PLUGIN, NO_DAEMON])
def test_a_docker_that_does_not_work_hides_no_podman(machine: Machine, script: str) -> None:
    version = {"podman-compose": "podman-compose version 1.3.0"}
    machine(["podman", "podman-compose"], {}, version=version)
    without(machine, "docker", script)
    without(machine, "podman", 'case "$1" in compose) echo "no provider" >&2; exit 125 ;; esac')
    assert working_program() == Program(("podman-compose",), ())


def test_docker_compose_is_used_where_docker_has_no_plugin(machine: Machine) -> None:
    machine(["docker-compose"], {}, version={"docker-compose": "docker-compose version 1.29.2"})
    without(machine, "docker", NO_PLUGIN)
    assert working_program() == Program(("docker-compose",), ())


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (NO_PLUGIN, "docker has no Compose plugin"),
        (NO_DAEMON, "docker version failed: Cannot connect to the Docker daemon"),
    ],
)
def test_a_docker_that_does_not_work_alone_is_an_error(machine: Machine, script: str, says: str) -> None:
    machine([], {})
    without(machine, "docker", script)
    with pytest.raises(RefnetError, match=says):
        working_program()


def test_a_machine_without_any_program_is_an_error(machine: Machine) -> None:
    machine([], {})
    with pytest.raises(RefnetError, match="docker is not on PATH") as error:
        working_program()
    assert "podman" in error.value.hint


def test_a_half_started_project_is_completed_and_finished_services_count(machine: Machine) -> None:
    calls = machine(
        ["docker"],
        {
            "postgres": container("postgres", "running", health="healthy", restart="unless-stopped"),
            "migrate": container("migrate", "exited", restart="no"),
            "api": container("api", "exited", restart="unless-stopped"),
        },
        starts=["api"],
    )
    names = ["postgres", "migrate", "api"]
    assert services().waiting(names) == ("api",)
    services().start(names)
    wait_for(services(), names, 5, CLOCK)
    up = f"docker compose --file {FILE} up --detach --no-recreate postgres migrate api"
    assert calls.read_text().splitlines().count(up) == 1


def test_a_service_that_never_gets_healthy_is_shown_with_its_last_log(machine: Machine) -> None:
    log = "".join(
        f"{line}\n" for line in ["first", *"abcd", "token is made-up-secret", "\033[31m" + "x" * 500]
    )
    machine(["docker"], {"api": container("api", "running", health="unhealthy")}, log=log)
    with pytest.raises(RefnetError) as error:
        wait_for(services(), ["api"], 0.1, CLOCK)
    message = error.value.message
    assert "api did not come up within 0 s: api is unhealthy (health check: no response)" in message
    assert r"last log lines: b | c | d | token is (hidden) | \x1b[31mx" in message
    assert len(message) < 500
    assert message.isprintable()


@pytest.mark.parametrize(
    ("one", "says"),
    [
        ({"status": "exited", "code": 3}, "api exited with 3, last log lines: none"),
        ({"status": "exited", "restart": "always"}, "api exited with 0"),
        ({"status": "restarting"}, "api is restarting"),
    ],
)
def test_the_state_of_a_service_that_is_not_up_is_told(
    machine: Machine, one: dict[str, object], says: str
) -> None:
    machine(["docker"], {"api": container("api", **one)})  # type: ignore[arg-type]
    with pytest.raises(RefnetError, match=says):
        wait_for(services(), ["api"], 0.1, CLOCK)


def test_a_failed_up_shows_its_output_and_that_of_the_failed_container(machine: Machine) -> None:
    machine(
        ["docker"],
        {"postgres": container("postgres", "running", health="unhealthy")},
        code=1,
        says="dependency failed to start: made-up-secret\n",
        log="no space left\n",
    )
    with pytest.raises(RefnetError) as error:
        services().start(["api"])
    assert error.value.message.startswith(
        "docker compose up failed: dependency failed to start: (hidden); postgres is unhealthy"
    )
    assert error.value.message.endswith("no space left")


def test_podman_compose_that_waits_for_a_container_for_ever_is_ended(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a dependency that has ended, too."""
    monkeypatch.setattr(compose, "_LOOK_SECONDS", 0.05)
    version = {"podman-compose": "podman-compose version 1.3.0", "podman": "podman-compose version 1.3.0"}
    postgres = container("postgres", "exited", code=1)
    machine(ALL[2:], {"postgres": postgres}, version=version, up_seconds=60, log="cannot start\n")
    with pytest.raises(RefnetError, match=r"postgres did not come up .* exited with 1.*cannot start"):
        services(0.3).start(["api"])


def test_podman_compose_that_succeeds_but_starts_nothing_is_an_error(machine: Machine) -> None:
    version = {"podman": "podman-compose version 1.3.0"}
    says = "Error: no such image\ntyped api\n"
    machine(["podman"], {"postgres": container("postgres", "running")}, version=version, says=says)
    with pytest.raises(
        RefnetError, match="podman compose up failed: api was not started: Error: no such image"
    ):
        services().start(["api"])


@pytest.mark.parametrize(("systemd", "waiting"), [(False, ()), (True, ("api",))])
def test_health_checks_of_podman_are_run_where_no_systemd_runs_them(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    systemd: bool,
    waiting: tuple[str, ...],
) -> None:
    monkeypatch.setattr(compose, "_SYSTEMD", tmp_path if systemd else tmp_path / "none")
    machine(["podman"], {"api": container("api", "running", health="starting")})
    assert services().waiting(["api"]) == waiting


def test_an_answer_that_is_not_what_it_should_be_is_an_error(machine: Machine) -> None:
    machine(["docker"], {"api": {"State": "running", "Config": {}}})
    with pytest.raises(RefnetError, match="docker inspect failed: unexpected output: State"):
        services().waiting(["api"])


@pytest.fixture
def refnet(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`refnet` on a machine whose backups the service api makes."""
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "clone" / "refnet.toml").write_text(
        f'config_dir = "{tmp_path}/clone"\nbackup_dir = "{tmp_path}/backups"\n[compose]\nservice = "api"\n'
    )

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {"PATH": os.environ["PATH"], "REFNET_HOME": f"{tmp_path}/home", "REFNET_LOG_FOLDER": "none"}
        return forked.text(*words, environment=known | environment, folder=tmp_path / "clone")

    return run


@pytest.mark.parametrize(
    "words", [("backup", "config"), ("drill", "--json"), ("verify", "a.tar.gz"), ("pin", "x")]
)
def test_a_command_that_writes_backups_runs_in_the_backup_service(
    machine: Machine, refnet: Callable[..., subprocess.CompletedProcess[str]], words: tuple[str, ...]
) -> None:
    calls = machine(["docker"], {"api": container("api", "running")}, inside=3)
    done = refnet(*words)
    assert done.returncode == 3, done.stderr
    assert (
        calls.read_text().splitlines()[-1]
        == f"docker exec --interactive {IDS['api']} refnet {' '.join(words)}"
    )


def test_a_prune_removes_the_previous_versions_of_this_machine_too(
    machine: Machine, refnet: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    calls = machine(["docker"], {"api": container("api", "running")})
    done = refnet("prune", "config")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert calls.read_text().splitlines()[-1].endswith("refnet prune config")
    machine(["docker"], {"api": container("api", "running")}, inside=4)
    assert refnet("prune", "config").returncode == 4


@pytest.mark.parametrize("words", [("prune",), ("prune", "--store=nas"), ("prune", "--store", "nas")])
def test_remote_stores_are_pruned_only_by_the_service(
    machine: Machine,
    refnet: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    words: tuple[str, ...],
) -> None:
    with (tmp_path / "clone" / "refnet.toml").open("a") as settings:
        settings.write('[stores.nas]\nurl = "file:///nowhere/nas"\n')
    calls = machine(["docker"], {"api": container("api", "running")})
    done = refnet(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert calls.read_text().splitlines()[-1].endswith(f"refnet {' '.join(words)}")


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("settings",),
        ("backup", "--help"),
        ("backup", "config", "--to", "elsewhere"),
        ("recover", "--plan"),
    ],
)
def test_other_commands_run_on_the_machine(
    machine: Machine, refnet: Callable[..., subprocess.CompletedProcess[str]], words: tuple[str, ...]
) -> None:
    calls = machine(["docker"], {"api": container("api", "running")})
    refnet(*words)
    assert not calls.exists() or " exec " not in calls.read_text()


@pytest.mark.parametrize("joined", [True, False])
def test_a_key_file_of_the_machine_is_not_there_for_the_service(
    machine: Machine, refnet: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, joined: bool
) -> None:
    calls = machine(["docker"], {"api": container("api", "running")})
    key = tmp_path / "key"
    key.write_text("x")
    done = refnet("verify", *([f"--identity-file={key}"] if joined else ["--identity-file", str(key)]))
    assert done.returncode == 2
    assert f"{key} is on this machine, but the command runs in the service api" in done.stderr
    assert not calls.exists()
    refnet("verify", "--identity-file=/tmp/of-the-container")
    assert calls.read_text().splitlines()[-1].endswith("refnet verify --identity-file=/tmp/of-the-container")


def test_a_service_that_does_not_run_is_named_with_what_to_do(
    machine: Machine, refnet: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    machine(["docker"], {"api": container("api", "exited")})
    done = refnet("backup")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "refnet: the service api makes the backups of this machine, and does not run",
        "        Start it: docker compose up --detach api. With REFNET_COMPOSE_SERVICE=none the command runs here.",
    ]
    (found,) = [one for one in refnet("check").stdout.splitlines() if "backup folder" in one]
    assert "ok" in found.lower()
    assert "docker compose exec api refnet check" in found
