"""`monitoring/`: rules and dashboard speak of what RefNet really emits, and a real Prometheus raises the alarm."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.telemetry.conftest import serving
from tests.remote_copies import LOCAL, document, signed
from tests.unit.telemetry.conftest import World

from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.catalog.monitoring import Gone
from refnet.catalog.remote import Copy
from refnet.catalog.remote_state import StoreState
from refnet.catalog.run import Reason, RunKind
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.wal_status import StreamStatus
from refnet.catalog.wal_stream import StreamReport, StreamState
from refnet.telemetry.metrics import exposition

MONITORING = Path(__file__).parents[3] / "monitoring"

_UNIT_TESTS = ("rules.test.yml", "rules.days.test.yml")
#: Alert → the unit test that lets it fire.
FIRED_BY = {
    "RefnetMetricsMissing": "nothing is told",
    "RefnetMetricsStale": "a textfile that nobody writes any more",
    "RefnetBackupTooOld": "a backup that gets older and older",
    "RefnetBackupMuchTooOld": "a backup that gets older and older",
    "RefnetBackupMissing": "a source without a whole artifact",
    "RefnetBackupFails": "a backup that fails, goes well at the third try, and fails for good",
    "RefnetBackupHangs": "a backup that hangs",
    "RefnetArtifactDamaged": "what is wrong at once",
    "RefnetBackupSmall": "what is wrong at once",
    "RefnetBackupShrunk": "what is wrong at once",
    "RefnetDrillFails": "what is wrong at once",
    "RefnetDrillOverdue": "what is wrong at once",
    "RefnetSpaceLow": "what is wrong at once",
    "RefnetSourceGone": "what is wrong at once",
    "RefnetClockJumped": "what is wrong at once",
    "RefnetBackupUnproven": "what is wrong only if it stays",
    "RefnetLeftovers": "what is wrong only if it stays",
    "RefnetUnprotected": "what is wrong only if it stays",
    "RefnetCopyMissing": "what is wrong only if it stays",
    "RefnetStoreUnreadable": "what is wrong only if it stays",
    "RefnetStoreGaps": "what is wrong at once",
    "RefnetWalBehind": "what is wrong only if it stays",
    "RefnetWalNotReceived": "what is wrong only if it stays",
    "RefnetWalMuchBehind": "what is wrong at once",
    "RefnetWalGap": "what is wrong at once",
    "RefnetWalSlotLost": "what is wrong at once",
}

_METRIC = re.compile(r"(?<![\w:])(refnet[_:][\w:]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*=~?\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on|ignoring|group_left|without)\s*\(([^)]*)\)")
#: Labels that Prometheus itself adds, and the dashboard's variables of their names.
_SCRAPED = {"instance"}


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    return dashboard


def _expressions() -> dict[str, str]:
    found = {rule.get("alert") or rule["record"]: rule["expr"] for rule in _rules()}
    for panel in _dashboard()["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Metric → label → values, of a RefNet to which everything has happened."""
    world = World(tmp_path_factory.mktemp("world"))
    world.artifact(ago=timedelta(days=1), drill=True, details={"unprotected": None})
    world.damage(world.artifact())
    world.artifact(SourceName.CONFIG, details={"unprotected": None})
    (world.store.folder(SourceName.DATABASE) / f"{HIDDEN_PREFIX}1.part").write_bytes(b"x")
    for kind in RunKind:
        world.run(kind=kind)
        world.run(kind=kind, failed=Reason.SERVER)
    copy = Copy(LOCAL, signed=signed(document()))
    cloud = StoreState("cloud", frozenset([SourceName.DATABASE]), (copy,))
    facts = partial(replace, world.facts(), previous={SourceName.DATABASE: (world.now,)}, stores=(cloud,))
    facts = partial(
        facts, gone={SourceName("shop", Kind.DATABASE): Gone("the settings no longer name it", "name it")}
    )
    report = StreamReport(StreamState.STREAMING, world.now, 7, 1, 2, 1, world.now, slot_left=5)
    base = world.facts().catalog.entries[-1]
    facts = partial(facts, streams=(StreamStatus("main", world.now, "/archive", report=report, base=base),))
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(exposition(facts)[0].decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


@pytest.mark.parametrize("name", sorted(_expressions()))
def test_every_expression_uses_metrics_and_labels_that_are_emitted(
    name: str, emitted: dict[str, dict[str, set[str]]]
) -> None:
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    expression = _expressions()[name]
    metrics = _METRIC.findall(expression)
    assert metrics, expression
    labels: set[str] = set()
    for metric, matchers in metrics:
        assert metric in emitted or metric in recorded, metric
        labels |= emitted.get(metric, {}).keys()
        for label, value in _MATCHER.findall(matchers):
            if label in _SCRAPED:
                assert value == f"${label}"
                continue
            assert value in emitted[metric][label], f"{metric}: {label}={value}"
    for grouping in _GROUPING.findall(expression):
        assert {label.strip() for label in grouping.split(",") if label.strip()} <= labels


def test_an_expression_of_a_metric_that_is_not_emitted_would_be_noticed(
    emitted: dict[str, dict[str, set[str]]],
) -> None:
    assert "refnet_backup_size_byte" not in emitted
    assert [metric for metric, _ in _METRIC.findall('sum(refnet_artifacts{state="x"})')] == [
        "refnet_artifacts"
    ]


def test_every_alert_is_fired_by_a_unit_test_and_says_what_to_do() -> None:
    tests = [
        test for name in _UNIT_TESTS for test in yaml.safe_load((MONITORING / name).read_text())["tests"]
    ]
    alerts = {rule["alert"]: rule for rule in _rules() if "alert" in rule}
    assert alerts.keys() == FIRED_BY.keys()
    for alert, by in FIRED_BY.items():
        (test,) = [test for test in tests if test["name"] == by]
        assert alert in json.dumps(test)
        assert alerts[alert]["annotations"].keys() == {"summary", "description"}
        assert alerts[alert]["labels"]["severity"] in {"warning", "critical"}


@pytest.mark.parametrize("panel", _dashboard()["panels"], ids=lambda panel: str(panel["title"]))
def test_a_panel_has_a_source_a_unit_and_limits_of_its_own(panel: dict[str, Any]) -> None:
    variables = {each["name"]: each for each in _dashboard()["templating"]["list"]}
    source = {"type": variables["datasource"]["query"], "uid": "${datasource}"}
    assert variables.keys() - {"datasource"} == _SCRAPED
    assert all('{instance="$instance"' in target["expr"] for target in panel["targets"])
    assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [
        source for _ in range(len(panel["targets"]) + 1)
    ]
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in {"none", "s", "bytes", "percentunit"}
    first, *others = [
        step["value"] for step in defaults["thresholds"]["steps"]
    ]  # else Grafana's: red from 80 on
    assert first is None
    assert others == sorted(others)
    is_now = panel["type"] in {
        "stat",
        "bargauge",
    }  # of what was there in the last 30 days nothing is to be shown
    assert all(target["instant"] is is_now for target in panel["targets"])


def test_no_panel_covers_another() -> None:
    places = [panel["gridPos"] for panel in _dashboard()["panels"]]
    fields = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(fields) == len(set(fields))
    assert max(x for x, _ in fields) < 24
    assert len({panel["id"] for panel in _dashboard()["panels"]}) == len(places)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"this machine has no {name} (Debian's package prometheus)")
    return found


def test_promtool_finds_no_fault_and_its_unit_tests_of_the_rules_pass() -> None:
    promtool = _tool("promtool")
    for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", *_UNIT_TESTS]):
        said = subprocess.run(
            [promtool, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stdout + said.stderr
        assert "SUCCESS" in said.stdout


@pytest.fixture
def prometheus(tmp_path: Path, home: World) -> Iterator[str]:
    """A real Prometheus with our configuration, once a second, of a RefNet whose backup is five days old."""
    program = _tool("prometheus")
    for entry in home.store.entries():
        home.store.delete(entry)
    home.artifact(ago=timedelta(days=5))
    named = {"REFNET_DATABASE_URL": "postgresql://refnet@127.0.0.1:1/none"}
    with serving(home.home, **named) as url, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        folder = tmp_path / "prometheus"
        folder.mkdir()
        text = (MONITORING / "prometheus.yml").read_text().replace("60s", "1s")
        text = text.replace("127.0.0.1:9817", url.removeprefix("http://"))
        (folder / "prometheus.yml").write_text(text)
        shutil.copy(MONITORING / "rules.yml", folder)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait(20)


def test_a_real_prometheus_scrapes_refnet_and_alerts_on_an_old_backup(
    prometheus: str,
) -> None:
    wanted = {"RefnetBackupTooOld", "RefnetBackupMuchTooOld"}
    deadline, firing = time.monotonic() + 40, set[str]()
    while time.monotonic() < deadline and not wanted <= firing:
        try:
            with urllib.request.urlopen(f"{prometheus}/api/v1/alerts", timeout=5) as answer:  # noqa: S310
                alerts = json.load(answer)["data"]["alerts"]
        except OSError:
            alerts = []  # it is still starting
        firing = {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}
        time.sleep(0.2)
    assert wanted <= firing
    assert "RefnetArtifactDamaged" not in firing
