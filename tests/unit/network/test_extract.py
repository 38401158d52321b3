"""The extract of an abstract: its central sentences, in their order, and never more than fits."""

from __future__ import annotations

import pytest

from refnet.network.summary_writers import LONGEST, extract, shortened, split, words

ABSTRACT = (
    "Link prediction finds missing citations in citation networks. The weather was fine. "
    "We compare methods of link prediction, e.g. Random walks and embeddings, on three citation networks. "
    "Thanks go to all colleagues. Embeddings find more missing citations than random walks in all networks. "
    "Coffee was served at noon."
)


def test_central_sentences_are_taken_in_their_order() -> None:
    found = extract(ABSTRACT)
    assert split(found) == [split(ABSTRACT)[one] for one in (0, 2, 4)]
    assert extract(ABSTRACT) == found


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One is here. Two is there! Is it? Yes.", 4),
        ("Smith et al. Showed it, cf. Fig. 3 of A. Turing.", 1),
        ("Accuracy is 0.95. P < 0.05 holds.", 2),
        ('He said "Stop." Then (It went on.) Nothing.', 3),
        ("这是第一句。这是第二句！第三句？", 3),
        ("no end", 1),
        ("", 0),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: int) -> None:
    assert len(split(text)) == sentences


@pytest.mark.parametrize("text", ["", " \n ", ".", "word", "Ünïcode ünd mehr.", "a\0b"])
def test_little_text_is_its_own_extract(text: str) -> None:
    assert extract(text) == " ".join(text.split())


def test_an_extract_is_bounded_whatever_the_abstract_is() -> None:
    sentences = " ".join(f"Sentence {one} has {'many ' * 150}words." for one in range(400))
    for text in ("x" * 100_000, "word " * 50_000, sentences, "A. " * 30_000):
        assert 0 < len(extract(text)) <= LONGEST


def test_a_text_is_cut_at_a_sentence_or_else_at_a_word() -> None:
    assert shortened("One two. Three four. Five", 22) == "One two. Three four."
    assert shortened("One two three four", 12) == "One two…"
    assert shortened("One", 3) == "One"


def test_words_that_say_nothing_do_not_count() -> None:
    assert words("The Networks of 12 AND networks, in x_y") == {"networks"}
