"""Progress line: step, rate and remaining time."""

from __future__ import annotations

import threading
import time
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from refnet.catalog.artifact import Counted
from refnet.core.formatting import size

#: The speed is that of the last 3 min: a piece of a copy takes 40 s on a slow line.
_SPEED_SECONDS = 180.0
#: The least width of a terminal that shows more than the step and its amount.
_WIDE = 80


class _Speed(ProgressColumn):
    """Bytes per second in binary units (rich uses decimal ones); empty for steps that count things."""

    def render(self, task: Task) -> Text:
        speed = None if task.fields["unit"] else task.finished_speed or task.speed
        return Text(f"{size(speed)}/s" if speed else "", style="progress.data.speed")


class _Amount(ProgressColumn):
    """Amount done, and total if known, in bytes or the step's unit; empty without amounts."""

    def render(self, task: Task) -> Text:
        if task.total is None and not task.completed:
            return Text("")
        amounts = [task.completed, *([] if task.total is None else [task.total])]
        if unit := task.fields["unit"]:
            return Text(f"{'/'.join(f'{amount:,.0f}' for amount in amounts)} {unit}")
        return Text(" of ".join(map(size, amounts)), style="progress.download")


class Display:
    """Callable as a Progress (step, done, in total) from any thread; appears after `quiet` seconds."""

    def __init__(self, title: str, quiet: float) -> None:
        console, line = Console(stderr=True), Column(no_wrap=True)
        wide = console.width >= _WIDE
        self._progress = Progress(
            TextColumn("{task.fields[title]}  {task.description}", table_column=line),
            *([BarColumn(bar_width=24)] if wide else []),
            _Amount(table_column=line),
            *([_Speed(), TimeElapsedColumn(), TimeRemainingColumn()] if wide else []),
            console=console,
            transient=True,
            speed_estimate_period=_SPEED_SECONDS,
        )
        self._title = title
        self._shows_from = time.monotonic() + quiet
        self._started = False
        self._shown: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()  # sources report from each worker thread

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, step: str, done: int, total: int | None) -> None:
        if total is not None and done > total:
            total = None  # it was an estimate, and too low
        with self._lock:
            if not self._started:
                if time.monotonic() < self._shows_from:
                    return
                self._progress.start()
                self._started = True
            if step not in self._tasks:
                unit = step.unit if isinstance(step, Counted) else ""
                self._tasks[step] = self._progress.add_task(step, total=total, title=self._title, unit=unit)
            task = self._tasks[step]
            if self._shown not in {None, task}:
                self._progress.update(self._shown, visible=False)
            self._shown = task
            self._progress.update(task, completed=done, total=total, visible=True)
