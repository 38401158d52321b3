"""A small made-up configuration of a lab. The demo's commands read its refnet.toml."""

import json
from pathlib import Path

_COMPOSE = """\
# Made up by `refnet demo`; nothing of it runs.
services:
  postgres:
    image: postgres:18
    env_file: .env
    volumes: ["postgres_data:/var/lib/postgresql"]
  prometheus:
    image: prom/prometheus
    volumes: ["./monitoring/prometheus.yml:/etc/prometheus/prometheus.yml:ro"]
volumes:
  postgres_data:
"""
_ENV = (
    "# Made up by `refnet demo`: no secret.\nPOSTGRES_DB=refnet\nPOSTGRES_PASSWORD=made-up-by-refnet-demo\n"
)
_PROMETHEUS = """\
# Made up by `refnet demo`.
scrape_configs:
  - job_name: refnet
    static_configs: [{targets: ["localhost:9187"]}]
rule_files: [alerts.yml]
"""
_ALERTS = """\
# Made up by `refnet demo`.
groups:
  - name: refnet
    rules:
      - alert: PostgresIsDown
        expr: pg_up == 0
        for: 5m
"""
_SCRIPT = "#!/bin/sh\n# Made up by `refnet demo`: what a lab would run every night.\nset -eu\nrefnet backup\nrefnet prune\n"
_GUIDE = """\
# How this lab runs RefNet (made up by `refnet demo`)

- Papers and citations are in PostgreSQL, the notes in the vault, and how all of it is run is in this folder.
- Every night `scripts/nightly.sh` backs up all three. After a loss: `refnet recover`.
"""
_SETTINGS = """\
# Made up by `refnet demo`. Commands that run in this folder take these settings.
home = {home}
backup_dir = {backups}
vault_dir = {vault}
config_dir = {config}
"""
_MODES = {".env": 0o600, "scripts/nightly.sh": 0o755}


def write(folder: Path) -> Path:
    """Write the demo's configuration into `config` in `folder`; return its path."""
    config = folder / "config"
    quoted = {name: _toml(folder / name) for name in ("home", "backups", "vault", "config")}
    files = {
        "compose.yaml": _COMPOSE,
        ".env": _ENV,
        "refnet.toml": _SETTINGS.format(**quoted),
        "monitoring/prometheus.yml": _PROMETHEUS,
        "monitoring/alerts.yml": _ALERTS,
        "scripts/nightly.sh": _SCRIPT,
        "docs/README.md": _GUIDE,
    }
    for name, text in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(_MODES.get(name, 0o644))
    return config


def _toml(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)  # a JSON string is a TOML string too
