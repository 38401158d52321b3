"""The drill's report as one self-contained page: no script, nothing from outside, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from html import escape
from pathlib import Path
from typing import Any

from refnet.recovery.model import words

_MARKS = {
    "passed": ("PASS", "passed"),
    "failed": ("FAIL", "failed"),
    "could not verify": ("COULD NOT VERIFY", "unverified"),
}
_VERDICTS = {
    "passed": "Every artifact was restored, and what came back equals what was backed up.",
    "failed": "At least one artifact does not hold what it should. Do not count on it.",
    "could not verify": "Nothing failed, but not everything could be checked. The reasons are below.",
}
_NOTHING = "–"
#: More rows than these are folded away on the screen.
_UNFOLDED = 30


def page(report: Mapping[str, Any], zone: tzinfo | None = None) -> str:
    """The page for `report` (verbs.drill.report), its times shown in `zone` (None: the machine's)."""
    style = Path(__file__).with_name("drill_page.css").read_text(encoding="utf-8")
    when = _moment(report["started"], zone)
    sections = "\n".join(_section(source, zone) for source in report["sources"])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Restore drill, {escape(when)}: {escape(_MARKS[report["outcome"]][0])}</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="soft">Restore drill</p>
<h1>{_mark(report["outcome"])}</h1>
<p>{escape(_VERDICTS[report["outcome"]])}</p>
<p class="soft">{escape(when)}{_where(report)}, {_seconds(report["seconds"])} in all</p>
</header>
<main>
{_summary(report["sources"])}
{sections}
</main>
<footer>
<p>Each artifact was read back and compared with its digest, restored into a scratch place made for this
drill alone, and compared with what the artifact recorded when it was made. Nothing live was touched.</p>
<p>Not part of any drill: whether services start on the restored data, passwords of roles, and whether the
machine that a real loss leaves you is as fast as this one.</p>
</footer>
</body>
</html>
"""


def _where(report: Mapping[str, Any]) -> str:
    facts = [str(report[key]) for key in ("host", "made_by") if report.get(key)]
    return "".join(f", {escape(fact)}" for fact in facts)


def _summary(sources: Iterable[Mapping[str, Any]]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{escape(one["source"])}</th><td>{_mark(one["outcome"])}</td>'
        f'<td>{escape(one.get("level") or "none")}</td><td class="number">{_age(one.get("age_seconds"))}</td>'
        f'<td class="number">{_seconds(one.get("recovery_seconds"))}</td></tr>'
        for one in sources
    )
    return f"""<section aria-label="Summary">
<div class="scroll"><table>
<thead><tr><th scope="col">source</th><th scope="col">outcome</th><th scope="col">holds up to</th>
<th scope="col" class="number">age of the data</th><th scope="col" class="number">recovery took</th></tr></thead>
<tbody>
{rows}
</tbody></table></div>
</section>"""


def _section(one: Mapping[str, Any], zone: tzinfo | None) -> str:
    findings = one.get("findings", ())
    parts = [
        f'<div class="verdict"><h2>{escape(one["source"])}</h2>{_mark(one["outcome"])}</div>',
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
    figures = [
        ("Measured recovery time (RTO)", _seconds(one.get("recovery_seconds"))),
        ("Age of the data (RPO)", _age(one.get("age_seconds"))),
        ("Size of the artifact", _size(one.get("size"))),
    ]
    return (
        '<dl class="figures">'
        + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)
        + "</dl>"
    )


def _findings(title: str, outcome: str, findings: Iterable[Mapping[str, str]]) -> str:
    kind = _MARKS[outcome][1]
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


def _phases(seconds: Mapping[str, float]) -> str:
    total = sum(seconds.values())
    if not total:
        return ""
    rows = "\n".join(
        f'<tr><th scope="row">{escape(phase)}</th><td class="number">{_seconds(taken)}</td>'
        f'<td class="track" aria-hidden="true">'
        f'<span class="bar" style="width:{100 * taken / total:.1f}%"></span></td></tr>'
        for phase, taken in seconds.items()
    )
    return f"""<h3>Recovery time by phase</h3>
<table class="phases"><caption>Read, restore and compare, as a real restore does before it goes live.</caption>
<tbody>
{rows}
</tbody></table>"""


def _rows(rows: Iterable[Mapping[str, Any]]) -> str:
    known = list(rows)
    if not known:
        return ""
    columns = list(dict.fromkeys(key for row in known for key in row))
    head = "".join(
        f'<th scope="col"{_right(known, column)}>{escape(column.replace("_", " "))}</th>'
        for column in columns
    )
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{_right(known, column)}>{_cell(column, row.get(column))}</td>" for column in columns)
        + "</tr>"
        for row in known
    )
    table = (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )
    if len(known) > _UNFOLDED:
        table = f"<details><summary>{len(known):,} rows</summary>\n{table}\n</details>"
    return f"<h3>What came back</h3>\n{table}"


def _right(rows: list[Mapping[str, Any]], column: str) -> str:
    values = [row.get(column) for row in rows]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values if v is not None)
    return ' class="number"' if numbers else ""


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and value in _MARKS:
        return _mark(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return escape(str(value))
    if column.endswith("bytes"):
        return _size(value)
    return _seconds(value) if column == "seconds" else f"{value:,}"


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
    facts += [
        (name.replace("_", " "), _cell(name, value))
        for name, value in one.get("details", {}).items()
        if value is not None
    ]
    if one.get("unrecorded"):
        facts.append(("evidence could not be kept", escape(one["unrecorded"])))
    items = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in facts)
    return f'<h3>The artifact</h3>\n<dl class="facts">{items}</dl>'


def _mark(outcome: str) -> str:
    word, kind = _MARKS[outcome]
    return f'<span class="mark {kind}">{word}</span>'


def _moment(iso: str, zone: tzinfo | None) -> str:
    return datetime.fromisoformat(iso).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def _seconds(count: float | None) -> str:
    return _NOTHING if count is None else words.seconds(count)


def _age(count: float | None) -> str:
    return _NOTHING if count is None else words.age(timedelta(seconds=count))


def _size(count: float | None) -> str:
    return _NOTHING if count is None else words.size(count)
