"""Notes that their readers have changed, and the file of citations that an import reads."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import ECHO, fuzzed, outcome
from tests.fuzz.strategies import damaged, texts

from refnet.network.frontmatter import BEGIN, END, Id, NotOursError, canvas_ids, mark_in
from refnet.network.importing import pairs
from refnet.network.layout import Links
from refnet.network.note import Paper, PaperLink, author_key, name_of, render, topic_key
from refnet.network.vault import Cache
from refnet.network.vault_names import NamedNote
from refnet.network.vault_views import Neighbours, SeedIndex, base, canvas, index_note, is_as_written

PAPER = Paper(7, "Attention: is [[all]]", ("Ada Lovelace",), 2020, ids={"doi": "10.1/x"}, references=(8,))
NOTE = (
    render(PAPER, {}).replace("\n---\n", "\nmine: 2026-11-25 # a remark\ntags: [paper, read]\n---\n", 1)
    + "my words\n"
)
_YAML = (
    "[" * 1000, "{a: " * 400, "2026-99-99", "9" * 5000, "0x" + "f" * 5000, "1e400", ".nan", "!!python/object:os.system a",
    "&a [*a]", "*a", "<<: 1", "? [a]", "!!binary x", "!!timestamp x", "!!int x", "!!set {a}", "12:30:45", "1:" + "5:" * 3000, "5:" * 300 + "5.5",
    "\0", "|", ">", "'", '"\\ud800"', "%YAML 9.9", "---", "...", "\t", "null", "~", "{}", "[]", "1_000", "0o17", "\u2028",
)  # fmt: skip
_LINES = st.lists(
    st.tuples(
        st.sampled_from(["tags", "aliases", "title", "refnet_ids", "refnet_id", "refnet_author", "refnet_topic", "doi", "mine", "<<", "'", "? a", "[a]", "{a: 1}", "- a", ""]),
        st.sampled_from([": ", ":", "", "\n- "]),
        st.one_of(st.sampled_from(_YAML), texts),
    ).map("".join),
    max_size=3,
).map("\n".join)  # fmt: skip
_NOTES: st.SearchStrategy[str] = st.one_of(
    damaged(NOTE.encode()).map(lambda data: data.decode(errors="replace")),
    _LINES.map(lambda lines: f"---\n{lines}\n---\n"),
    _LINES.map(lambda lines: f"---\n{lines}\n---\n{BEGIN}\n{lines}\n{END}\n"),
    texts,
).map(lambda note: note.encode(errors="replace").decode())  # as a file of UTF-8 holds it


@fuzzed
@given(_NOTES)
def test_a_note_is_renewed_or_left_alone(before: str) -> None:
    outcome(lambda: mark_in(before))
    note = outcome(lambda: render(PAPER, {}, before), NotOursError, longest=ECHO)
    if note is not None:
        mark = mark_in(note)
        assert mark
        assert not mark.index
        assert ("doi", "10.1/x") in mark.ids
        again = outcome(lambda: render(PAPER, {}, note), NotOursError)
        assert again is not None
        assert outcome(lambda: render(PAPER, {}, again), NotOursError) == again


@fuzzed
@given(_NOTES)
def test_an_index_note_is_renewed_or_left_alone(before: str) -> None:
    index = SeedIndex(PAPER, "canvas/x (7).canvas")
    places: dict[int | Id, PaperLink] = {7: PaperLink("papers/x (7)", "x")}
    note = outcome(lambda: index_note(index, places, before), NotOursError, longest=ECHO)
    if note is not None:
        mark = mark_in(note)
        assert mark
        assert mark.index
        assert mark.ids == (("doi", "10.1/x"),)


@fuzzed
@given(_NOTES, st.sampled_from(["author", "topic"]))
def test_the_note_of_an_author_or_a_topic_is_renewed_or_left_alone(before: str, kind: str) -> None:
    ids = (("semantic_scholar", "17"),) if kind == "author" else (topic_key("Art: [[a]]"),)
    named = NamedNote(kind, author_key(1), "Art: [[a]]", ids, [7])
    note = outcome(
        lambda: named.render({7: PaperLink("papers/x (7)", "x")}, before), NotOursError, longest=ECHO
    )
    if note is not None:
        mark = mark_in(note)
        assert mark
        assert (mark.kind, mark.ids) == (kind, ids)


@fuzzed
@given(
    st.one_of(
        damaged(canvas(PAPER, {7: PaperLink("papers/x (7)", "x")}, Neighbours((), ()), Links()).encode()),
        st.binary(max_size=2000),
    )
)
def test_a_canvas_says_whose_picture_it_is_or_nothing(data: bytes) -> None:
    found = outcome(lambda: canvas_ids(data.decode(errors="replace")))
    assert found is not None
    assert all(value.isprintable() for _, value in found[0])


@fuzzed
@given(st.one_of(damaged(base().encode()).map(lambda data: data.decode(errors="replace")), texts))
def test_a_base_that_somebody_edited_is_told_from_one_as_written(text: str) -> None:
    assert not outcome(lambda: is_as_written(text)) or text == base()


@fuzzed
@given(texts, st.lists(texts, max_size=2), texts)
def test_a_paper_has_a_note_whatever_its_words_are(title: str, authors: list[str], abstract: str) -> None:
    paper = Paper(
        7, title, tuple(authors), abstract=abstract, venue=title, summary=abstract, ids={"doi": title}
    )
    name = outcome(lambda: name_of(paper))
    assert name
    assert len(f"{name}.md".encode()) <= 255
    assert "/" not in name


@fuzzed
@given(st.one_of(damaged(b"35\t1033\n35\t103482\n1033\t35\n" * 20), st.binary(max_size=6000)))
def test_a_file_of_citations_is_read_or_refused(data: bytes) -> None:
    for cited, citing in outcome(lambda: list(pairs(io.BytesIO(data), "cora.cites"))) or ():
        assert cited != citing


@fuzzed
@given(st.one_of(damaged(b'{"7": ["0f", "a0"], "8": ["1f", "b0"]}'), st.binary(max_size=2000)))
def test_a_damaged_cache_is_as_if_it_were_missing(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = Cache(Path(folder), Path("/vault"))
        kept.add(7, "0f", "a0")
        kept.save()
        (file,) = Path(folder).iterdir()
        file.write_bytes(data)
        cache = outcome(lambda: Cache(Path(folder), Path("/vault")))
        assert cache is not None
        assert outcome(lambda: cache.has(7, "0f", "a1")) in {True, False}
