"""The bars of the API: lists, searches and single papers, asked by 16 clients at once over raw sockets."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote_plus

from benchmarks.measure import FailedError
from benchmarks.network_bars import Place, Row, refnet
from benchmarks.turns import say
from refnet.demo.sample import Shape, make
from refnet.network.migrate import migrate
from refnet.postgres.session import Target

PAPERS, REFERENCES = 100_000, 11.0
CLIENTS, SECONDS = 16, 10.0
_BAR = 0.050
#: A random generator, some titles and the last answer → the next path.
Ask = Callable[[random.Random, list[str], bytes], str]


def measure(place: Place) -> Iterator[Row]:
    """Measure the bars of the API; yields a row each."""
    titles = _titles(filled(place))
    with serving(place.environment("web")) as port:
        for what, ask in {"list": _list, "search": _search, "one paper": _one}.items():
            found = asyncio.run(load(port, ask, titles))
            p95 = found[int(len(found) * 0.95)]
            rate = f"{len(found) / SECONDS:,.0f} a second"
            yield Row(
                f"API: {what}, {CLIENTS} clients, p95",
                f"< {_BAR * 1e3:.0f} ms",
                f"{p95 * 1e3:.0f} ms, {rate}",
                p95 < _BAR,
            )


def filled(place: Place) -> Target:
    """Make the database `web` with 100,000 papers; return it."""
    papers, target = round(PAPERS * place.scale), place.cluster.target("web")
    with place.cluster.target("postgres").connect() as admin:
        admin.execute("CREATE DATABASE web TEMPLATE template0")
    say(f"{papers:,} papers")
    migrate(target)
    make(target, Shape(papers, references=REFERENCES))
    return target


def _titles(target: Target) -> list[str]:
    with target.connect({"search_path": "public"}) as session:
        return [title for (title,) in session.execute("SELECT title FROM papers WHERE id % 97 = 0")]


@contextmanager
def serving(environment: Mapping[str, str]) -> Iterator[int]:
    """Run `refnet serve`; yield its port."""
    command = [refnet(), "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout  # noqa: S101  # it is a pipe
        try:
            yield int(process.stdout.readline().split("/")[2].rpartition(":")[2])
        finally:
            process.terminate()


def _list(_random: random.Random, _titles: list[str], last: bytes) -> str:
    """Page by page."""
    following = json.loads(last)["next"] if last else None
    return f"/api/papers?limit=50{f'&cursor={following}' if following else ''}"


def _search(chance: random.Random, titles: list[str], _last: bytes) -> str:
    """One to three words of a title, also common ones."""
    words = [word for word in chance.choice(titles).split() if len(word) > 3 and word.isalpha()] or ["graph"]
    return f"/api/papers?limit=50&q={quote_plus(' '.join(chance.sample(words, min(len(words), chance.choice((1, 2, 3))))))}"


def _one(chance: random.Random, titles: list[str], _last: bytes) -> str:
    """Any paper; each fifth is one of the most cited."""
    return f"/api/papers/{chance.randint(1, 200 if chance.random() < 0.2 else len(titles) * 97)}"


async def load(port: int, ask: Ask, titles: list[str]) -> list[float]:
    """Return the seconds of each request of all clients, sorted; the first second does not count."""
    found: list[float] = []
    chances = [random.Random(number) for number in range(CLIENTS)]  # noqa: S311  # the same ones each time
    await asyncio.gather(*(_client(port, ask, titles, chance, found) for chance in chances))
    return sorted(found)


async def _client(port: int, ask: Ask, titles: list[str], chance: random.Random, found: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun, last = time.perf_counter(), b""
    while (now := time.perf_counter()) < begun + SECONDS + 1:
        writer.write(f"GET {ask(chance, titles, last)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        last = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        if not head.startswith(b"HTTP/1.1 200"):
            raise FailedError(last.decode())
        if now > begun + 1:
            found.append(time.perf_counter() - now)
    writer.close()
