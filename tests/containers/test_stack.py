"""The stack of compose.yaml in real containers: it starts, works, is destroyed, and comes back."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.containers.machine import ROOT, SERVICES, Machine, missing

#: From images built to all healthy, in seconds.
BAR = 120
RUN = ("--force", "--yes-run-restored-commands")
_DIGESTS = """
SELECT format('SELECT %L, count(*), md5(string_agg(t::text, E''\\n'' ORDER BY t::text)) FROM %s t;', c.oid::regclass, c.oid::regclass)
FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1 \\gexec
"""


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a figure, whatever pytest captures."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def print_it(text: str) -> None:
        with capture.global_and_fixture_disabled():
            request.config.get_terminal_writer().line(f"\n{text}")

    return print_it


@pytest.fixture(scope="module")
def machine(say: Callable[[str], None]) -> Iterator[Machine]:
    """The stack, started and healthy; the seconds that this took are printed."""
    if why := missing():
        pytest.skip(why)
    machine = Machine(Path(tempfile.mkdtemp(prefix="rn-", dir="/var/tmp")))
    try:
        machine.make_clone()
        _for_this_test(machine.clone)
        machine.run("sh", "deploy/prepare")
        began = time.monotonic()
        machine.build()
        built = time.monotonic()
        with machine.health_checks():
            machine.run("podman-compose", "up", "--detach", *SERVICES)
            until(lambda: all(machine.states().get(one) == "healthy" for one in SERVICES))
        machine.seconds = time.monotonic() - built
        say(f"images built in {built - began:.0f} s, all healthy {machine.seconds:.0f} s later")
        yield machine
    finally:
        machine.end()


def _for_this_test(clone: Path) -> None:
    """Grafana has no stand-in; papers come from a fake server; Prometheus asks more often."""
    for name, old, new in (
        ("refnet.toml", ', "grafana"]', "]"),
        ("deploy/prometheus.yml", "60s", "2s"),
        ("deploy/prometheus.yml", "30s", "2s"),
    ):
        path = clone / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
    with (clone / "deploy" / "refnet.toml").open("a") as file:
        file.write(
            '\n[crawl]\nsemantic_scholar_url = "http://127.0.0.1:8099/graph/v1"\nrequests_per_second = 0\n'
        )

    (clone / "secrets" / "certs" / "other.key").write_text("the-key-of-a-certificate\n")


#: The secrets that each service may read: URLs contain the passwords of postgres and redis.
_DATA = frozenset({"postgres_password", "redis_password"})
_EVERY = _DATA | {"web_token", "metrics_token", "flower_password", "grafana_password", "other.key"}
_READS = {
    "postgres": {"postgres_password"},
    "redis": {"redis_password"},
    "api": _DATA | {"web_token", "metrics_token"},
    **dict.fromkeys(("crawler", "summarizer", "generator", "celery-beat"), _DATA),
    "backup": _EVERY,  # it backs up the configuration
    "flower": {"redis_password", "flower_password"},
    "nginx": {"other.key"},
    "prometheus": {"metrics_token"},
}


def ask(machine: Machine, path: str, data: dict[str, object] | None = None) -> tuple[int, str]:
    """Ask nginx, with the token; return the status and the body."""
    token = (machine.clone / "secrets" / "web_token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{machine.port}{path}",
        json.dumps(data).encode() if data else None,
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # http
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scraped(machine: Machine) -> bool:
    asked = machine.within("prometheus", "curl", "-s", "http://127.0.0.1:9090/api/v1/targets")
    return [one["health"] for one in json.loads(asked)["data"]["activeTargets"]] == ["up"]


def digests(machine: Machine) -> dict[str, str]:
    """Rows and digest of each table, as psql in the container of the server computes them."""
    psql = ["psql", "-h", "/var/run/postgresql", "-U", "refnet", "-AtX", "refnet"]
    command = ["sh", "-c", f"cat <<'END' | {' '.join(psql)}\n{_DIGESTS}\nEND\n"]
    lines = machine.within("postgres", *command).splitlines()
    return {line.split("|")[0]: line for line in lines}


def sql(machine: Machine, statement: str) -> str:
    """Run a statement in the database of the stack; its only value."""
    psql = ("psql", "-h", "/var/run/postgresql", "-U", "refnet", "-AtXc", statement, "refnet")
    return machine.within("postgres", *psql).strip()


def files(*folders: Path) -> dict[str, str]:
    paths = [
        path
        for folder in folders
        for path in ([folder] if folder.is_file() else folder.rglob("*"))
        if path.is_file()
    ]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_stack_is_healthy_in_time_and_nginx_leads_to_it(machine: Machine) -> None:
    assert machine.seconds < BAR
    assert machine.states() == {**dict.fromkeys(SERVICES, "healthy"), "migrate": "exited 0"}
    status, body = ask(machine, "/health")
    assert (status, json.loads(body)["status"]) == (200, "ok")
    status, page = ask(machine, "/sign-in")
    assert (status, 'type="password"' in page) == (200, True)
    assert ask(machine, "/flower/")[0] == 401
    until(lambda: scraped(machine))


def test_each_container_reads_its_own_secrets_and_no_other(machine: Machine) -> None:
    """Every file that the user of a container can read, and the variables of its first process, are searched."""
    secrets = machine.clone / "secrets"
    values = {
        path.name: path.read_text().strip()
        for path in (*secrets.iterdir(), *(secrets / "certs").iterdir())
        if path.name in _EVERY
    }
    assert values.keys() == _EVERY
    patterns = [word for value in values.values() for word in ("-e", value)]
    skipped = [
        f"--exclude-dir={one}" for one in ("proc", "sys", "dev", "usr", "opt")
    ]  # /usr and /opt: of the image
    found = {}
    for service in SERVICES:
        search = ["grep", "-rhsoFa", *skipped, *patterns, "/", "/proc/1/environ"]
        said = machine.run("podman", "exec", machine.container(service), *search, check=False).stdout
        found[service] = {name for name, value in values.items() if value in said}
    assert found == _READS


def test_on_the_machine_of_the_stack_its_commands_go_to_the_stack(machine: Machine) -> None:
    for words in (("backup", "config"), ("verify", "config"), ("drill", "config"), ("prune", "config")):
        done = machine.refnet(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    owners = {path.stat().st_uid for path in machine.backups.rglob("*")}
    assert owners == {10001}
    assert "drill" in machine.within("backup", "ls", "-R", "/var/lib/refnet/reports")
    checked = machine.refnet("check").stdout
    wrong = [line for line in checked.splitlines() if "ERROR" in line and "overall" not in line]
    assert all("database" in line or "obsidian" in line for line in wrong), (
        checked
    )  # these have no backup yet


def test_a_destroyed_stack_is_recovered_without_a_difference(
    machine: Machine, say: Callable[[str], None]
) -> None:
    fake = "python3 -m refnet.demo.fake_scholar --papers 200 --edges 1500 --port 8099 > /tmp/fake"
    machine.podman("exec", "--detach", machine.container("crawler"), "sh", "-c", fake)
    until(lambda: len(machine.within("crawler", "cat", "/tmp/fake").splitlines()) > 1)
    seed = machine.within("crawler", "cat", "/tmp/fake").splitlines()[1]
    assert ask(machine, "/api/crawls", {"seeds": [seed], "depth": 3, "limit": 150})[0] == 202
    until(lambda: _crawled(machine))
    machine.within("api", "refnet", "rank")
    machine.within("generator", "refnet", "notes")
    send = "from refnet import tasks; tasks.backup_source.delay('database', 'config', 'obsidian')"
    machine.within("backup", "python3", "-c", send)
    until(lambda: _proven(machine) == {"config", "database", "obsidian"})

    configuration = [
        machine.clone / one
        for one in ("secrets", ".env", "compose.yaml", "deploy", "monitoring", "refnet.toml")
    ]
    before = digests(machine), files(machine.vault / "refnet"), files(*configuration)
    assert int(before[0]["papers"].split("|")[1]) >= 30
    assert len(before[1]) > 10
    machine.destroy()
    for folder in (machine.clone, machine.vault, machine.folder / "data" / "run"):
        shutil.rmtree(folder)

    for path in (machine.backups, *machine.backups.rglob("*")):  # a copy that came back from another machine
        os.chown(path, 1000, 1000)
    machine.make_clone()
    assert files(*configuration) != before[2], "the new clone has new secrets"
    plan = machine.refnet("recover", "--plan")
    assert "podman compose" in plan.stdout, plan.stdout + plan.stderr
    done = machine.refnet("recover", *RUN, "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    result = json.loads(done.stdout)
    assert {one["outcome"] for one in result["findings"]} == {"passed"}
    say(f"recovered in {result['seconds']:.0f} s")
    assert (digests(machine), files(machine.vault / "refnet"), files(*configuration)) == before
    assert machine.states() == {**dict.fromkeys(SERVICES, "healthy"), "migrate": "exited 0"}
    assert ask(machine, "/health")[0] == 200
    until(lambda: scraped(machine))


def _crawled(machine: Machine) -> bool:
    return [one["state"] for one in json.loads(ask(machine, "/api/crawls")[1])["crawls"]] == ["succeeded"]


def _proven(machine: Machine) -> set[str]:
    found = json.loads(machine.refnet("list", "--json").stdout)["artifacts"]
    return {one["source"] for one in found if one["state"] == "proven"}


def test_the_receiver_of_the_documents_brings_a_deleted_table_back(machine: Machine) -> None:
    """The commands of docs/compose.md, in their order; then a DELETE without WHERE."""
    chapter = (
        (ROOT / "docs" / "compose.md").read_text().partition("\n## Any second\n")[2].partition("\n## ")[0]
    )
    table = chapter.partition("```toml\n")[2].partition("```")[0]
    with (machine.clone / "deploy" / "refnet.toml").open("a") as file:
        file.write(f"\n{table}")
    machine.run("podman-compose", "restart", "postgres")
    with machine.health_checks():
        machine.run("podman-compose", "--profile", "wal", "up", "--detach", "receiver")
        until(lambda: machine.states().get("receiver") == "healthy")
    asked = ("podman", "exec", machine.container("backup"), "refnet", "check")
    checked = machine.run(*asked, check=False).stdout
    assert re.search(r"^OK +wal +a receiver runs", checked, re.MULTILINE), checked
    assert not re.search(r"^ERROR +wal ", checked, re.MULTILINE), checked
    machine.within("backup", "refnet", "backup", "stack")
    sql(machine, "CREATE TABLE shop AS SELECT g AS i FROM generate_series(1, 1000) g")
    before = sql(machine, "SELECT clock_timestamp()")
    sql(machine, "DELETE FROM shop")
    sql(machine, "CREATE TABLE after_that ()")
    back = ("restore", "database", "--at", before, "--table", "shop", "--mode", "replace", "--force")
    until(
        lambda: (
            machine.run(
                "podman", "exec", machine.container("backup"), "refnet", *back, check=False
            ).returncode
            == 0
        )
    )
    assert sql(machine, "SELECT count(*) FROM shop") == "1000"
    machine.within("backup", "refnet", "drill", "stack-cluster")
    machine.podman("rm", "--force", "--time=5", machine.container("receiver"))


def test_half_a_stack_is_completed(machine: Machine) -> None:
    """By podman-compose, where podman does not know `compose`."""
    path = f"{machine.folder / 'only-podman-compose'}:{machine.environment['PATH']}"
    machine.podman("stop", "--time=2", machine.container("crawler"))
    machine.podman("rm", "--force", "--time=2", machine.container("generator"))
    kept = machine.podman("inspect", "--format={{.Id}}", machine.container("postgres"))
    assert "podman-compose" in machine.refnet("check", PATH=path).stdout
    done = machine.refnet("recover", "--only", "background", *RUN, PATH=path)
    assert done.returncode == 0, done.stderr
    assert machine.states() == {**dict.fromkeys(SERVICES, "healthy"), "migrate": "exited 0"}
    assert machine.podman("inspect", "--format={{.Id}}", machine.container("postgres")) == kept
    again = machine.refnet("recover", "--only", "background", *RUN, PATH=path)
    assert again.returncode == 0, again.stderr


def test_a_service_that_never_gets_healthy_is_named_with_its_last_log(machine: Machine) -> None:
    machine.podman("rm", "--force", "--time=2", machine.container("flower"))
    (machine.clone / "deploy" / "flowerconfig.py").write_text("raise SystemExit('flower has no port')\n")
    stopped = machine.refnet("recover", "--only", "edge", *RUN, REFNET_RECOVER_SECONDS="15")
    assert stopped.returncode == 1, stopped.stdout
    assert "the recovery stopped at the stage edge: flower did not come up" in stopped.stderr
    assert "flower has no port" in stopped.stderr
    assert len(stopped.stderr.splitlines()) == 2
