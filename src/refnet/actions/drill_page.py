"""The drill's report as one self-contained page: no script, nothing from outside, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from html import escape
from typing import Any

from refnet.recovery.page import (
    MARKS,
    age,
    bars,
    document,
    figures,
    mark,
    moment,
    number,
    seconds,
    size,
    table,
)

_VERDICTS = {
    "passed": "Every artifact was restored, and what came back equals what was backed up.",
    "failed": "At least one artifact does not hold what it should. Do not count on it.",
    "could not verify": "Nothing failed, but not everything could be checked. The reasons are below.",
}
_FOOTER = """<p>Each artifact was read back and compared with its digest, restored into a scratch place made for this
drill alone, and compared with what the artifact recorded when it was made. Nothing live was touched.</p>
<p>Not part of any drill: whether services start on the restored data, passwords of roles, and whether the
machine that a real loss leaves you is as fast as this one.</p>"""
#: More rows than these are folded away on the screen.
_UNFOLDED = 30


def page(report: Mapping[str, Any], zone: tzinfo | None = None) -> str:
    """The page for `report` (drill.report), its times shown in `zone` (None: the machine's)."""
    when = _moment(report["started"], zone)
    header = f"""<p class="soft">Restore drill</p>
<h1>{mark(report["outcome"])}</h1>
<p>{escape(_VERDICTS[report["outcome"]])}</p>
<p class="soft">{escape(when)}{_where(report)}, {seconds(report["seconds"])} in all</p>"""
    sections = "\n".join(_section(source, zone) for source in report["sources"])
    return document(
        f"Restore drill, {when}: {MARKS[report['outcome']][0]}",
        header,
        f"{_summary(report['sources'])}\n{sections}",
        _FOOTER,
    )


def _where(report: Mapping[str, Any]) -> str:
    facts = [str(report[key]) for key in ("host", "made_by") if report.get(key)]
    return "".join(f", {escape(fact)}" for fact in facts)


def _summary(sources: Iterable[Mapping[str, Any]]) -> str:
    head = [
        ("source", False), ("outcome", False), ("holds up to", False), ("age of the data", True),
        ("recovery took", True),
    ]  # fmt: skip
    rows = [
        f'<th scope="row">{escape(one["source"])}</th><td>{mark(one["outcome"])}</td>'
        f"<td>{escape(one.get('level') or 'none')}</td><td{number()}>{age(one.get('age_seconds'))}</td>"
        f"<td{number()}>{seconds(one.get('recovery_seconds'))}</td>"
        for one in sources
    ]
    return f'<section aria-label="Summary">\n{table(head, rows)}\n</section>'


def _section(one: Mapping[str, Any], zone: tzinfo | None) -> str:
    findings = one.get("findings", ())
    parts = [
        f'<div class="verdict"><h2>{escape(one["source"])}</h2>{mark(one["outcome"])}</div>',
        _figures(one),
        _findings("Failed", "failed", findings),
        _findings("Not verified, and why", "could not verify", findings),
        _unprotected(one.get("unchecked", ())),
        _checked(findings),
        _phases(one.get("seconds") or {}),
        _rows(one.get("rows") or ()),
        _facts(one, zone),
    ]
    return "<section>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def _figures(one: Mapping[str, Any]) -> str:
    if "artifact" not in one:
        return ""
    return figures(
        [
            ("Measured recovery time (RTO)", seconds(one.get("recovery_seconds"))),
            ("Age of the data (RPO)", age(one.get("age_seconds"))),
            ("Size of the artifact", size(one.get("size"))),
        ]
    )


def _findings(title: str, outcome: str, findings: Iterable[Mapping[str, str]]) -> str:
    kind = MARKS[outcome][1]
    items = "\n".join(
        f'<li class="{kind}"><span><strong>{escape(f["what"])}</strong>{_reason(f)}</span></li>'
        for f in findings
        if f["outcome"] == outcome
    )
    return f'<h3>{escape(title)}</h3>\n<ul class="findings">\n{items}\n</ul>' if items else ""


def _reason(finding: Mapping[str, str]) -> str:
    return f": {escape(finding['reason'])}" if finding.get("reason") else ""


def _unprotected(sentences: Iterable[str]) -> str:
    items = "\n".join(f'<li class="unverified"><span>{escape(one)}</span></li>' for one in sentences)
    return f'<h3>Known when it was made</h3>\n<ul class="findings">\n{items}\n</ul>' if items else ""


def _checked(findings: Iterable[Mapping[str, str]]) -> str:
    passed = [f"<li>{escape(f['what'])}{_reason(f)}</li>" for f in findings if f["outcome"] == "passed"]
    if not passed:
        return ""
    listed = '<ul class="plain">\n' + "\n".join(passed) + "\n</ul>"
    if len(passed) > _UNFOLDED:
        listed = f"<details><summary>{len(passed):,} checks passed</summary>\n{listed}\n</details>"
    return f"<h3>Checked</h3>\n{listed}"


def _phases(taken: Mapping[str, float]) -> str:
    drawn = bars(taken, "Read, restore and compare, as a real restore does before it goes live.")
    return f"<h3>Recovery time by phase</h3>\n{drawn}" if drawn else ""


def _rows(rows: Iterable[Mapping[str, Any]]) -> str:
    known = list(rows)
    if not known:
        return ""
    columns = list(dict.fromkeys(key for row in known for key in row))
    right = {column: _is_number(known, column) for column in columns}
    shown = table(
        [(column.replace("_", " "), right[column]) for column in columns],
        [
            "".join(f"<td{number(right[column])}>{_cell(column, row.get(column))}</td>" for column in columns)
            for row in known
        ],
    )
    if len(known) > _UNFOLDED:
        shown = f"<details><summary>{len(known):,} rows</summary>\n{shown}\n</details>"
    return f"<h3>What came back</h3>\n{shown}"


def _is_number(rows: list[Mapping[str, Any]], column: str) -> bool:
    values = [row.get(column) for row in rows]
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values if v is not None)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and value in MARKS:
        return mark(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return escape(str(value))
    if column.endswith("bytes"):
        return size(value)
    return seconds(value) if column == "seconds" else f"{value:,}"


def _facts(one: Mapping[str, Any], zone: tzinfo | None) -> str:
    if "artifact" not in one:
        return ""
    facts = [("artifact", f"<code>{escape(one['artifact'])}</code>")]
    if one.get("created"):
        facts.append(("holds the state of", escape(_moment(one["created"], zone))))
    if one.get("sha256"):
        facts.append(("SHA-256", f"<code>{escape(one['sha256'])}</code>"))
    if one.get("server"):
        facts.append(("restored with", escape(one["server"])))
    if one.get("missing_walls"):
        facts.append(("walls that this machine lacks", escape(", ".join(one["missing_walls"]))))
    facts += [
        (name.replace("_", " "), _cell(name, value))
        for name, value in one.get("details", {}).items()
        if value is not None
    ]
    if one.get("unrecorded"):
        facts.append(("evidence could not be recorded", escape(one["unrecorded"])))
    items = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in facts)
    return f'<h3>The artifact</h3>\n<dl class="facts">{items}</dl>'


def _moment(iso: str, zone: tzinfo | None) -> str:
    return moment(datetime.fromisoformat(iso), zone)
