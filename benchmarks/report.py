"""Results as Markdown; RESULTS.md contains the newest run of each kind."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks import measure
from benchmarks.bars import Bar, Measured, Table
from benchmarks.build import JOBS, Built, settings
from benchmarks.ways import OTHERS

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Measurements

Made by `./dev bench --write` (with `--scale 4`, with `--shape wide`, …). Each section is the newest run of its kind. Compare only
within a section: its ways ran in turn, on the same server.
"""
MEMORIES = ("peak memory", "scratch server, /dev/shm")
#: Bytes beside the commands that are shown.
_LEAST = 1_000_000
_SCALES = "Ratios at two scales"
#: A section of one shape; a ratio in its table of promises, which may differ by so much between two scales.
_AT_SCALE = re.compile(r"## Scale ([\d.]+), (\w+)")
_RATIO = re.compile(r"^\| (.+?) \| [^|]* \| ([\d.]+) × \| \w+ \|$", re.MULTILINE)
_DRIFT = 0.15


@dataclass(frozen=True)
class Setting:
    """The circumstances of a run. `loads`: the load average before and after it."""

    title: str
    version: str
    built: Built
    runs: int
    begun: datetime
    loads: tuple[float, float]


def section(setting: Setting, table: Table, bars: Sequence[Bar]) -> str:
    """The Markdown of one run."""
    parts = [f"## {setting.title}", "\n".join(facts(setting)), bars_table(table, bars), _ways(table)]
    return "\n\n".join(parts) + "\n"


def keep(text: str, title: str) -> None:
    """Put the section `text` into RESULTS.md, in place of an older one with its title."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    sections = {
        part.splitlines()[0]: part.rstrip()
        for part in re.split(r"^(?=## )", old, flags=re.MULTILINE)
        if part.startswith("## ")
    }
    sections[f"## {title}"] = text.rstrip()
    if rows := list(_scales(sections)):
        head = ("database", "what", "the scales", "measured", f"within {_DRIFT * 100:.0f} %")
        sections[f"## {_SCALES}"] = f"## {_SCALES}\n\n{markdown(head, rows)}"
    RESULTS.write_text(
        "\n\n".join([_HEAD.rstrip(), *(sections[key] for key in sorted(sections))]) + "\n", encoding="utf-8"
    )


def _scales(sections: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each ratio of each shape that was measured at two scales: 1 if it is there, else the least, and the greatest."""
    found: dict[str, dict[float, dict[str, str]]] = {}
    for title, text in sections.items():
        if one := _AT_SCALE.fullmatch(title):
            found.setdefault(one[2], {})[float(one[1])] = dict(_RATIO.findall(text))
    for shape, by_scale in sorted(found.items()):
        most = max(by_scale)
        least = 1.0 if 1.0 in by_scale and most > 1 else min(by_scale)
        for what, ratio in by_scale[least].items() if most > least else ():
            if (other := by_scale[most].get(what)) and float(ratio):
                drift = float(other) / float(ratio) - 1
                verdict = f"{'pass' if abs(drift) <= _DRIFT else 'MISS'}, {drift * 100:+.0f} %"
                ratios = f"{ratio} ×, {other} ×"
                yield shape, what.replace("\\|", "|"), f"{least:g}, {most:g}", ratios, verdict


def worst(
    kind: str,
    options: argparse.Namespace,
    bars_of: Callable[[str], Sequence[Bar]],
    tables: Mapping[str, Table],
) -> None:
    """Print, and keep if the options say so, the worst of the shapes for each promise."""
    title = f"The worst {kind} at a scale of {options.scale:g}"
    found: dict[str, tuple[float, tuple[str, ...]]] = {}
    for shape, table in tables.items():
        for bar in bars_of(shape):
            judged = bar.judged(table)
            far = bar.distance(table) if judged[1] else float("inf")
            if far >= found.get(bar.what, (float("-inf"),))[0]:
                found[bar.what] = (far, (bar.what, shape, *judged))
    rows = [row for _, row in found.values()]
    text = f"## {title}\n\n{markdown(('what', kind, 'bar', 'measured', ''), rows)}\n"
    print(text)
    if options.write:
        keep(text, title)


def facts(setting: Setting) -> Iterator[str]:
    """Yield the circumstances of a run, one line each."""
    built = setting.built
    yield (
        f"- {setting.begun:%Y-%m-%d}; {os.cpu_count()} cores ({processor()}), {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, PostgreSQL {setting.version}; {JOBS} jobs for every tool that accepts a number"
    )
    yield (
        f"- the database: {built.disk / 1e9:.2f} GB on disk, {built.rows:,} rows, {built.largest:.0%} of the bytes in one"
        f" table"
    )
    yield (
        f"- the server: PostgreSQL's defaults, and {', '.join(f'{k}={v}' for k, v in settings().items())}; its memory is"
        " the most that the scratch server of a proof gets here"
    )
    timed = "in brackets the minimum and the maximum" if setting.runs else "none, so the sampled run's"
    yield (
        f"- time: the median of {setting.runs} timed runs, interleaved; {timed}; memory: the peak"
        f" PSS of all processes of the way in a further run, without the servers', sampled every"
        f" {measure.SAMPLE_SECONDS * 1000:.0f} ms; beside it the peak of a scratch server, and of what is in /dev/shm"
    )
    busy = " **Other processes were running: the figures are unreliable.**" if setting.loads[0] > 0.5 else ""
    yield f"- load average {setting.loads[0]:.2f} before, {setting.loads[1]:.2f} after.{busy}"


def processor() -> str:
    """Return the model of the processor if the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def bars_table(table: Table, bars: Sequence[Bar]) -> str:
    """Return the table of promises and measurements."""
    rows = [(bar.what, *bar.judged(table)) for bar in bars]
    return markdown(("what", "bar", "measured", ""), rows)


def _ways(table: Table) -> str:
    rows = [(way, *row(measured)) for way, measured in table.items()]
    rows += [
        (
            tool,
            "not installed" if shutil.which(tool) is None else "not measured: entire clusters only",
            "",
            "",
            "",
            "",
        )
        for tool in OTHERS
        if not any(way.startswith(tool) for way in table)
    ]
    return markdown(("way", "time", "proof or load alone", "size", *MEMORIES), rows)


def row(measured: Measured) -> tuple[str, str, str, str, str]:
    """Time, one phase alone, size, and the two peaks of memory, as text."""
    if measured.why_not:
        return f"not measured: {measured.why_not}", "", "", "", ""
    seconds = [result.run.seconds for result in measured.timed]
    spread = f" ({min(seconds):.2f}–{max(seconds):.2f})" if len(seconds) > 1 else ""
    sizes = [result.size for result in measured.runs if result.size]
    return (
        f"{measured.seconds:.2f} s{spread}" + ("" if seconds else ", once, sampled"),
        f"{measured.phase:.2f} s" if measured.phase else "",
        f"{sizes[0] / 1e6:,.1f} MB" if sizes else "",
        f"{measured.peak / 1e6:,.0f} MB" if measured.peak else "",
        f"{measured.beside / 1e6:,.0f} MB" if measured.beside >= _LEAST else "",
    )


def markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
