"""What Grafana is provisioned with, by its schema: there is no Grafana to ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

ROOT = Path(__file__).parents[3]
PROVISIONING = ROOT / "deploy/grafana/provisioning"
FILES = {
    "datasources": PROVISIONING / "datasources/prometheus.yml",
    "dashboards": PROVISIONING / "dashboards/refnet.yml",
    "dashboard": ROOT / "monitoring/grafana-dashboard.json",
}


def read(name: str) -> Any:
    return yaml.safe_load(FILES[name].read_text(encoding="utf-8"))  # JSON is YAML


def check(name: str, found: Any) -> None:
    schema = json.loads(Path(__file__).with_name("schemas").joinpath(f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(found)


@pytest.mark.parametrize("name", FILES)
def test_a_file_fits_its_schema(name: str) -> None:
    check(name, read(name))


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_a_part_does_not_fit(name: str) -> None:
    found = read(name)
    del found["apiVersion" if "apiVersion" in found else "panels"]
    with pytest.raises(ValidationError):
        check(name, found)


def test_the_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = read("dashboard")["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    cells = [
        (x, y)
        for one in panels
        for at in [one["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)


def test_grafana_reads_the_dashboard_and_asks_the_prometheus_of_the_stack() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    folder = read("dashboards")["providers"][0]["options"]["path"]
    assert Path(mounts["./monitoring/grafana-dashboard.json"]).parent == Path(folder)
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    (source,) = read("datasources")["datasources"]
    assert source["url"].removeprefix("http://").split(":")[0] in services
    assert source["isDefault"], "the dashboard asks the default one"
