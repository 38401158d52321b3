"""Makes up a sample network of any size and loads it into a database by COPY.

Every row is marked as made up by the provenance `sample` and by its venue. The same seed and shape give the same rows,
byte for byte. Dense texts, for benchmarks, compress like real abstracts: figures, names and checksums compensate
recurring phrases. Ratios of gzip -6: 2.87 for 785 titles and abstracts of Semantic Scholar, 3.0 for dense sample papers,
4.2 for readable ones.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Any

import psycopg

from refnet.catalog.artifact import Progress, silent
from refnet.core.errors import RefnetError
from refnet.demo.abstracts import AREAS, compose, fields, person, venues
from refnet.network import SESSION, server_errors
from refnet.postgres.session import Target

_BLOCK = 1 << 20
_PROSE, _LONGEST = 8_000_000, 3_000
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_INTENTS = ("background", "methodology", "result")
_COLUMNS = {
    "papers": """id, title, abstract, year, published_on, venue, publication_types, fields_of_study,
        reference_count, citation_count, influential_citation_count, provenance, details_fetched_at,
        created_at, updated_at""",
    "external_ids": "scheme, value, paper_id",
    "authors": "id, name, provenance, created_at, updated_at",
    "paper_authors": "paper_id, position, author_id",
    "citations": "citing_id, cited_id, is_influential, intents, contexts, provenance, created_at",
    "summaries": "id, paper_id, kind, model, content, created_at",
    "jobs": "id, kind, paper_id, state, priority, run_after, created_at, finished_at",
}
#: The tables with ids from a sequence, and the statement that advances the sequence past the rows.
_NUMBERED = ("papers", "authors", "summaries", "jobs")
_ADVANCE = "SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table} HAVING count(*) > 0"
_INDEXES = """
SELECT format('DROP INDEX %%s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index
WHERE indrelid = ANY (%s::regclass[]) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
ORDER BY indexrelid
"""
_FOREIGN_KEYS = """
SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
       format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint
WHERE conrelid = ANY (%s::regclass[]) AND contype = 'f'
ORDER BY oid
"""


@dataclass(frozen=True)
class Shape:
    """The shape of a network."""

    papers: int
    seed: int = 1
    #: Mean number of references per paper.
    references: float = 5.5
    #: Mean length of an abstract, in characters.
    abstract: int = 1150
    #: The share of citations with a context.
    context_share: float = 0.35
    #: Texts that compress like real ones, for benchmarks, instead of readable texts.
    dense: bool = False


@dataclass(frozen=True)
class SampleCounts:
    """Rows and bytes (of COPY text) of each table."""

    rows: dict[str, int]
    sizes: dict[str, int]


def make(target: Target, shape: Shape, progress: Progress = silent) -> SampleCounts:
    """Fill the migrated, empty database of `target` with a network of `shape`, in one transaction.

    RefnetError if it already contains papers: made-up papers are never mixed with others.
    """
    with server_errors(target, "rejects the rows", "Nothing was imported. Fix the cause and retry."):
        with target.connect(SESSION, autocommit=False) as connection, connection.cursor() as cursor:
            _refuse_to_mix(cursor, target)
            with _without_indexes(cursor, list(_COLUMNS)):
                made = _fill(cursor, shape, progress)
            for table in _NUMBERED:
                cursor.execute(_ADVANCE.format(table=table))
        with target.connect(SESSION) as connection:
            connection.execute(f"VACUUM (ANALYZE) {', '.join(_COLUMNS)}")
    return made


@contextmanager
def _without_indexes(cursor: psycopg.Cursor[Any], tables: Sequence[str]) -> Iterator[None]:
    """Drop foreign keys of `tables`, and indexes that no constraint needs, during the block; inside a transaction.

    A COPY of millions of rows is several times faster this way; if it fails, the transaction rolls everything back.
    """
    create: list[str] = []
    for query in (_INDEXES, _FOREIGN_KEYS):
        for drop, add in cursor.execute(query, [list(tables)]).fetchall():
            cursor.execute(drop)
            create.append(add)
    yield
    for statement in create:
        cursor.execute(statement)


def _fill(cursor: psycopg.Cursor[Any], shape: Shape, progress: Progress) -> SampleCounts:
    made = SampleCounts({}, {})
    for table, (columns, rows) in _Network(shape).tables().items():
        made.rows[table], made.sizes[table] = _copy(cursor, table, columns, rows, progress)
    return made


def _refuse_to_mix(cursor: psycopg.Cursor[Any], target: Target) -> None:
    cursor.execute(f"LOCK {', '.join(_COLUMNS)} IN ACCESS EXCLUSIVE MODE")
    # All other rows belong to one of these.
    cursor.execute(
        "SELECT count(*) FROM (SELECT FROM papers UNION ALL SELECT FROM authors UNION ALL SELECT FROM jobs LIMIT 1) _"
    )
    if cursor.fetchall() != [(0,)]:
        raise RefnetError(
            f"the database {target.name} already contains papers, authors or jobs",
            "A made-up sample needs an empty database: create one and name it.",
        )


def _copy(
    cursor: psycopg.Cursor[Any], table: str, columns: str, rows: Iterable[str], progress: Progress
) -> tuple[int, int]:
    """Copy `rows`, lines of COPY text, into `table`; return the number of rows and bytes."""
    written = 0
    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for block in _blocks(rows):
            copy.write(block)
            written += len(block)
            progress(table, written, None)
    return cursor.rowcount, written


def _blocks(rows: Iterable[str]) -> Iterator[bytes]:
    block: list[str] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row)
        if size >= _BLOCK:
            yield "".join(block).encode()
            block.clear()
            size = 0
    yield "".join(block).encode()


def _moment(number: int) -> str:
    """Return the made-up time at which the paper `number` was fetched: about one every three seconds."""
    return (_BEGIN + timedelta(seconds=number * 3.1372)).isoformat()


def _places(area: int) -> list[str]:
    """Return venue, types and fields of the papers of an area, as columns of COPY text."""
    listed = ", ".join(f'"{one}"' for one in fields(area))
    types = {"conference": "Conference", "journal": "JournalArticle"}
    return [f"{one.name}\t{{{types[one.kind]}}}\t{{{listed}}}" for one in venues(area)]


class Prose:
    """A long text of the abstracts of many papers, determined by seed and size, and quickly cut into pieces of any length.

    Args:
        seed: seed of the random numbers.
        size: the minimum length in characters; pieces cannot be longer either.
        dense: as compressible as real abstracts, not written for readers.
    """

    def __init__(self, seed: int, size: int = 8_000_000, *, dense: bool = False) -> None:
        random = Random(f"prose {seed}")  # noqa: S311  # made up, not secret
        self.titles: list[str] = []
        #: The index of each paper's first sentence, and the number of sentences.
        self._papers = [0]
        sentences: list[str] = []
        written = 0
        while written < size:
            paper = compose(random, len(self.titles) % AREAS, long=True, dense=dense)
            self.titles.append(paper.title)
            sentences += paper.sentences
            self._papers.append(len(sentences))
            written += sum(map(len, paper.sentences)) + len(paper.sentences)
        self.text = " ".join(sentences)
        self._starts = list(accumulate((len(one) + 1 for one in sentences), initial=0))

    def __len__(self) -> int:
        """Return the number of papers; paper n belongs to the area n % AREAS."""
        return len(self.titles)

    def abstract(self, paper: int, length: int) -> str:
        """Return complete sentences from the beginning of an abstract, about `length` characters."""
        first, end = self._papers[paper : paper + 2]
        return self._cut(first, length, end)

    def passage(self, at: float, length: int) -> str:
        """Return complete sentences of about `length` characters from the position `at` (0 to 1); at least one."""
        first = int(at * (bisect_left(self._starts, len(self.text) - length) or 1))
        return self._cut(first, length, len(self._starts) - 1)

    def _cut(self, first: int, length: int, end: int) -> str:
        begin = self._starts[first]
        last = max(bisect_right(self._starts, begin + length, first, end + 1) - 1, first + 1)
        return self.text[begin : self._starts[last] - 1]


class _Network:
    """The tables of a network, as lines of COPY text; papers are numbered from 1 and cite earlier ones."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        # a different text for each paper, up to some thousands
        self.prose = Prose(shape.seed, min(shape.papers * _LONGEST, _PROSE), dense=shape.dense)
        self.author_count = shape.papers // 3 + 1
        self.cited, self.until = self._references()
        self.citation_counts = array("L", bytes(array("L").itemsize * (shape.papers + 1)))
        for paper in self.cited:
            self.citation_counts[paper] += 1

    def tables(self) -> dict[str, tuple[str, Iterator[str]]]:
        """Return each table's columns and lines; referenced tables come first."""
        lines = (
            self._papers(),
            self._external_ids(),
            self._authors(),
            self._paper_authors(),
            self._citations(),
            self._summaries(),
            self._jobs(),
        )
        return dict(zip(_COLUMNS, zip(_COLUMNS.values(), lines, strict=True), strict=True))

    def _random(self, what: str) -> Random:
        return Random(f"{what} {self.shape.seed}")  # noqa: S311  # made up, not secret

    def _references(self) -> tuple[array[int], array[int]]:
        """Draw the papers cited by each paper, old ones more often, and the end of each paper's part."""
        random = self._random("references").random
        cited, until = array("L"), array("L", [0])
        for paper in range(1, self.shape.papers + 1):
            wanted = min(int(self.shape.references * 2 * random() + 0.5), paper - 1)
            cited.extend(sorted({1 + int((paper - 1) * random() ** 1.6) for _ in range(wanted)}))
            until.append(len(cited))
        return cited, until

    def _papers(self) -> Iterator[str]:
        random, prose, total = self._random("papers").random, self.prose, self.shape.papers
        places = [_places(area) for area in range(AREAS)]
        for paper in range(1, total + 1):
            year = 1970 + int(56 * (paper / (total + 1)) ** 0.5)
            part, number = divmod(paper - 1, len(prose))
            title = f"{prose.titles[number]}, part {part + 1}" if part else prose.titles[number]
            length = int(self.shape.abstract * (0.35 + 1.3 * random()))
            abstract = prose.abstract(number, length) if random() < 0.94 else r"\N"
            citations = self.citation_counts[paper]
            moment, places_of = _moment(paper), places[number % AREAS]
            yield (
                f"{paper}\t{title}\t{abstract}\t{year}"
                f"\t{year}-{1 + int(random() * 12):02}-{1 + int(random() * 28):02}\t{places_of[int(random() * len(places_of))]}"
                f"\t{self.until[paper] - self.until[paper - 1]}\t{citations}\t{citations // 9}\tsample"
                f"\t{moment}\t{moment}\t{moment}\n"
            )

    def _external_ids(self) -> Iterator[str]:
        bits = self._random("external_ids").getrandbits
        return (f"sample\t{bits(160):040x}\t{paper}\n" for paper in range(1, self.shape.papers + 1))

    def _authors(self) -> Iterator[str]:
        random = self._random("authors")
        for author in range(1, self.author_count + 1):
            moment = _moment(author * 3)
            yield f"{author}\t{person(random)}\tsample\t{moment}\t{moment}\n"

    def _paper_authors(self) -> Iterator[str]:
        random = self._random("paper_authors").random
        for paper in range(1, self.shape.papers + 1):
            wanted = 1 + int(random() * 3.5)
            writers = {1 + int(self.author_count * random()) for _ in range(wanted)}
            for position, author in enumerate(sorted(writers), 1):
                yield f"{paper}\t{position}\t{author}\n"

    def _citations(self) -> Iterator[str]:
        random, prose, share = self._random("citations").random, self.prose, self.shape.context_share
        for paper in range(1, self.shape.papers + 1):
            moment = _moment(paper)
            for cited in self.cited[self.until[paper - 1] : self.until[paper]]:
                intent, die = _INTENTS[int(random() * 3)], random()
                contexts = (
                    f'[{{"context": "{prose.passage(random(), 180)}", "intents": ["{intent}"]}}]'
                    if die < share
                    else "[]"
                )
                yield (
                    f"{paper}\t{cited}\t{'t' if die < 0.06 else 'f'}\t{{{intent if die < share else ''}}}\t{contexts}\tsample\t{moment}\n"
                )

    def _summaries(self) -> Iterator[str]:
        random, prose = self._random("summaries").random, self.prose
        for number, paper in enumerate(range(50, self.shape.papers + 1, 50), 1):
            yield f"{number}\t{paper}\tabstract\tmade-up-model\t{prose.passage(random(), 700)}\t{_moment(paper)}\n"

    def _jobs(self) -> Iterator[str]:
        random = self._random("jobs").random
        for number, paper in enumerate(range(100, self.shape.papers + 1, 100), 1):
            moment = _moment(paper)
            done = random() < 0.8
            yield (
                f"{number}\tsummarize\t{paper}\t{'succeeded' if done else 'queued'}\t{int(random() * 10)}"
                f"\t{moment}\t{moment}\t{moment if done else chr(92) + 'N'}\n"
            )
