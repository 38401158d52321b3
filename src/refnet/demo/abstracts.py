"""Titles, abstracts, names and venues of papers that do not exist, from patterns and the vocabulary of the field.

In a pattern, `[a|b]` stands for one alternative, `{topic}` for a word of the paper or a figure that is drawn anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TypeAlias, TypeVar

from refnet.demo import vocabulary as words


def _lines(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.strip().splitlines())


#: Titles of any area.
TITLES = _lines("""
    {name}: {method} for {topic}
    {name}: [fast|robust|simple|honest|incremental|gentle] {topic} [with|through|by] {method}
    {name}, or how to [live with|improve|teach|measure] {topic}
    {topic} with {method}
    Beyond {other}: {topic} with {method}
    {method} for {topic}: [evidence|results|lessons] from {data}
    {topic}: [evidence|a census|first results|a longitudinal study] from {data}
    [Revisiting|Rethinking|Measuring|Explaining|Mapping|Untangling] {topic}
    [Revisiting|Rethinking|Improving|Simplifying|Predicting] {topic} with {method}
    On the [limits|cost|stability|value|ethics|reproducibility|geography] of {topic}
    On {method} and {topic}
    What {method} can do for {topic}
    A [second|closer|longer|skeptical|comparative] look at {topic}
    {topic} in [the wild|the small|the long run|the field|theory and in practice]
    From {other} to {topic}
    [Lessons|Notes|Surprises|Regrets] from [ten|twelve|twenty] years of {topic}
    What {people} want from {topic}
    {topic}: a survey
    Towards [reproducible|interpretable|trustworthy|sustainable|affordable] {topic}
    [Three|Four|Seven] [myths|questions|open problems|lessons] in {topic}
    {method}: a [tutorial|case study|critique|field guide] for {people}
    Between {other} and {topic}
    How {people} [use|discuss|learn|avoid] {topic}
    When {method} should not be used: the case of {topic}
    {topic}: a replication with data from {data}
    Should {people} rely on {topic}?
    The [hidden|true|declining|social] cost of {topic}
    The [discontents|uses|promise] of {topic}
    [Fewer|Better|Cheaper|Other] [benchmarks|metrics|labels|assumptions|indicators] for {topic}
    {topic} under [uncertainty|drift|scarcity|pressure|the microscope]
    An [atlas|anatomy|inventory|agenda|early history] of {topic}
    {topic} as if {people} mattered
    Is {measure} the right [goal|measure|question]? A case from {topic}
    {topic}: the first [ten|twenty|thirty] years
    {topic}, {year}-{year2}
""")

#: For titles that name no subject.
SUBTITLES = _lines("""
    {topic} with {method}
    {topic} and {other}
    [evidence|a report] from {data}
    a [short|personal|quantitative] history of {topic}
    what {people} know about {topic}
""")

#: The roles of the sentences of an abstract, each with its patterns.
OPENING = _lines("""
    [Research on|Work on|The study of|The literature on] {topic} has [grown|changed|matured] [quickly|unevenly|considerably|more than most fields] [since {year}|over the last decades|with the spread of {other}]
    [Few|Not many] [questions|subjects] in {field} [are discussed as often as|attract as much attention as|divide {people} as much as] {topic}
    {people} [depend on|work with|struggle with|argue about] {topic} [every day|more than they notice|without much guidance], [whether in {field} or in {field}|above all in {field}|and not only in {field}]
    When {who} wrote about {topic} in {year}, the subject was [a niche|a curiosity|a question for specialists]; [today|by now] it concerns [every reader|most of {field}|{people} and their institutions as well]
    [Much|A good deal|Surprisingly little] is [known|written|taken for granted] about {topic}, [and much of it goes back to {who}|but rarely with data|and most of it comes from {field}]
    [Progress in|Confidence in|Interest in] {topic} rests on [assumptions|choices|benchmarks] that were made in {year}, [mostly|often] for {field}
    Ask [five|six|ten] {people} about {topic}, and you will get [as many|seven|contradictory] answers
    {topic} used to be [a matter of taste|an art|a routine|a sideline]; [in {field}|for {people}] this [is still so|has changed since {year}|has hardly changed]
""")
PROBLEM = _lines("""
    [A known|One|The main|An old|An underrated|The usual] [difficulty|obstacle|objection] is that {problem}
    [Yet|However,|Still,|In practice,|Unfortunately,] {problem}
    [Since|Because|As] {problem}, [common|existing|published] [approaches|estimates|results] [mislead|diverge|fall short|cannot be compared] [in {field}|by up to {pct}|when it matters most]
    {who} [observed|noted|argued|showed] [in {year}|long ago|for {field}] that {problem}
    [It is easily forgotten|It is an open secret|Few would deny|Everybody knows, and few account for the fact,] that {problem}
""")
APPROACH = _lines("""
    [We|In this paper, we|Here we] [introduce|present|describe|propose] {name}, [an approach to|a method for|an open system for|a framework for] {topic} [based on|built on|that relies on] {method}
    [We [study|examine|revisit]|This [paper|article|study] [studies|examines|revisits]] {topic} [with|by means of|through the lens of] {method}
    [We combine|This work combines] {method} [with|and] {method2} [to improve|to explain|to make sense of|to compare approaches to] {topic}
    [To address this|To find out more|As a remedy], we [turn to|adapt|extend|apply] {method}, [an idea from {field}|first used in {field}|which {who} introduced for {other}]
    [We|In this study, we] [ask|test|examine] [whether|to what extent|under which conditions] {method} can [help|be enough|replace {method2}] in {topic}
    Our [proposal|answer|approach], {name}, [treats {topic} as a problem of {other} and uses|applies] {method} [where {who} used {method2}|instead of {method2}]
""")
DETAIL = _lines("""
    [The key idea|The core of it|Our starting point] is [simple|modest|an old one]: to use {method} with [no more than|only|about] {small} [parameters|passes|examples|decisions], [all of them|each of them|most of them] [visible|documented|open to inspection]
    In contrast to [the method of {who}|{method2}], it [works without|does not need|avoids] [labels|manual tuning|a second pass|access to full text] and [scales to|remains stable for] {big} [records|items|observations]
    [It takes|One run takes] {small} minutes [on a laptop|on {small} cores] and [uses|needs] less than {small} GB of memory
    [Every step|Each decision|The design] was [discussed with|reviewed by|piloted with] {small} {people} [before|after] [the main study|the first results]
    The [parameters|thresholds|settings] are [chosen on|taken from] {data2} and [never changed|fixed in advance|reported in full], [so that others can repeat the study|and nothing is tuned on the test data]
""")
EVIDENCE = _lines("""
    [The data come|Our data come|The evidence comes] from {data}[ ({big} records)| ({big} records in all, {year} to {year2})|, complemented by {small} interviews]
    [Experiments|Tests|Evaluations] with {data} ({big} [records|items|cases]) cover the years {year} to {year2}
    [We evaluate it|We test it|All comparisons are made] on {data} and [repeat them|confirm the results] [with|on] {data2}
    [The study|The analysis|Our analysis] [covers|draws on|is based on] {big} [records|observations] from {data}
    We [collected|compiled|obtained] {big} [records|observations] from {data}[ between {year} and {year2}| and had {small} {people} check {pct} of them|, twice, {small} months apart]
""")
FIGURES = _lines("""
    {measure} [improves|rises] from {score} to {score2}[ (p = {p})| (n = {big})| after {small} rounds], [while|and] {measure2} [stays within {pct}|hardly changes|differs by {pct}]
    [On average,|In the median case,|Across {small} settings,] {measure} is {pct} [better|higher] than [with {method2}|for the strongest baseline|with the approach of {who}] [and {pct} above chance|at {pct} of the cost|(p = {p})]
    [Compared with|Relative to] {method2}, [it|our approach] [reduces|cuts] the [error|effort|cost] by {pct} [in {field}|for {people}] and by {pct} [in {field}|elsewhere]
    [Of|Out of] {big} [cases|records], {pct} were [affected|resolved|misclassified before and are correct now], [most of them|{pct} of these] in {field}
    {measure} reaches {score} [in {field}|on {data2}] and {score2} [in {field}|elsewhere][, against {score} for {method2}| (n = {big})]
""")
#: Only dense abstracts have these.
BREAKDOWN = _lines("""
    By field, {measure} is {fine} in {field} (n = {big}), {fine} in {field} (n = {big}), {fine} in {field} (n = {big}) and {fine} in {field} (n = {big})
    [Regression coefficients|Fixed effects|Standardized weights] are {fine} ({p}), {fine} ({p}), -{fine} ({p}) and {fine} ({p}) for {field}, {field}, {field} and {field}
    The [raw files|inputs] have the SHA-256 checksums {sum} ({big} rows), {sum} ({big} rows) and {sum} ({big} rows)
    [For comparison|In earlier samples], {who} ({year}) found {fine} (n = {big}), {who} ({year}) {fine} (n = {big}) and {who} ({year}) {fine} (n = {big})
    Of the archived files, {code} and {code} are [from|about] {field} ({big} and {big} rows), {code} and {code} [from|about] {field} ({big} and {big} rows), {code} and {code} are [mixed|older]
    [Yearly counts from {year} on|The counts by group] are {big}, {big}, {big}, {big}, {big} and {big}, [with|after] {small}, {small} and {small} exclusions
""")
FINDING = _lines("""
    [We find|The results show|The analysis shows|It turns out|Our main result is] that {finding}
    [Contrary to expectation|Against the claim of {who}|As {who} suspected], {finding}
    [Two results stand out|Two observations are new]: {finding}, and {finding2}
    [First|Above all|Perhaps surprisingly|Less expectedly], {finding}
    [In {field}|For {people}] [as in {field}|as elsewhere], {finding}
""")
NUANCE = _lines("""
    [The effect|The advantage|This pattern] [disappears|weakens|is reversed] [in {field}|below {big} records|before {year}|for {people}], [which|and this] [we attribute to|points to|may be due to] [sparse data|local habits|a change of policy in {year}|how {other} was recorded]
    [Robustness checks|Sensitivity analyses|Repeated runs] with {small} [seeds|subsamples|alternative definitions] [change|move] the estimate by [at most|no more than|about] {pct}
    [The gain|The effect] is [smallest|largest] where {problem}
    [Neither {method} nor {method2} can solve this|No choice of parameters solves this] [completely|in {field}|for every case]: [{small} of {small2} cases remain|{pct} of the records remain unexplained]
""")
EARLIER = _lines("""
    This [agrees with|extends|qualifies|contradicts] [{who}, where the share was {pct}|the results of {who} for {field}|{who} and the {small} studies that followed]
    {who} had [found|reported|estimated] {score} [in a sample of|for|from] {big} [cases|records|papers]; [our estimate is|we obtain|here it is] {score2}
    [A reanalysis|Our replication] of {who} ({year}) [gives|yields] {score} instead of {score2}, [with|after] {small} [corrections|exclusions]
""")
MEANING = _lines("""
    [We conclude with|The paper closes with|We end with] [{small} recommendations|advice|open questions] for {people} [and those who fund them|in {field}|who plan similar work]
    [These results|Our findings|Together, these results] [suggest|imply|indicate] that [studies of|research on|tools for] {topic} should [report|record|take into account] [{measure} as well|uncertainty|how their data were collected|what they leave out]
    For {people}, [this means|the lesson is] that {topic} [can|need not|should not] be [left to chance|treated as solved|reduced to {measure}]
    [A practical consequence|One consequence|What follows] is [modest|clear]: [measure {measure} before {measure2}|start with {method2}|ask {people} first], and [only then|later, if at all,] [use {method}|spend money|automate]
""")
OPEN = _lines("""
    [Code and data|All materials|Data, code and {small} notebooks] are [available|archived|published] at example.org/{code}
    [We release|We publish|We share] {name}, [its documentation|its test suite|annotations for {big} records] and [the raw measurements|all {small} configurations] (archive {code})
""")

#: Sentences of another paper that cites this one.
CONTEXTS = _lines("""
    [Earlier work|Previous research|A study] on {topic} [reached|came to] [a similar|the opposite|a more cautious] conclusion
    [We follow|We adopt|Our protocol follows] the [approach|protocol|definition] of {who}, who used {method} for {topic}
    As {who} [showed|argued|noted], {finding}
    [See {who}|Compare {who}] for [an overview of|more on|a critique of] {topic}
    Our baseline is {method} as described by {who}, [with|without] [their|the original] settings
    The data are those of {who} ({big} records), [except for|plus] {small} [updates|exclusions]
    [Problems with|Doubts about] {topic} were raised by {who}: {problem}
""")

AREAS = len(words.AREAS)
_USUAL = 1999
_T = TypeVar("_T")
#: A text, the name of a slot, or alternatives.
_Part: TypeAlias = "str | tuple[str] | list[tuple[_Part, ...]]"
_PIECE = re.compile(r"\[|\]|\||\{\w+\}|[^][|{}]+")
_SMALL = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"}
)
#: Roles of sentences: in every abstract, optional, in a long abstract, in a dense abstract.
_LEAD = (OPENING, PROBLEM, APPROACH)
_REST = (EVIDENCE, DETAIL, FIGURES, FINDING, NUANCE, EARLIER, MEANING, OPEN)
_RESULTS = (2, 3)
_LONG = (
    *_LEAD, EVIDENCE, FIGURES, FINDING, DETAIL, EARLIER, NUANCE, FIGURES, FINDING, EARLIER, MEANING, OPEN,
)  # fmt: skip
_DENSE = (
    APPROACH, BREAKDOWN, BREAKDOWN, FIGURES, BREAKDOWN, EARLIER, BREAKDOWN, FINDING, BREAKDOWN, BREAKDOWN, EVIDENCE,
    BREAKDOWN, OPEN,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PaperText:
    """The text of a paper."""

    title: str
    #: The abstract; any beginning of it reads well.
    sentences: tuple[str, ...]
    #: A summary in one sentence.
    short: str
    #: The words of the paper by the names of their slots.
    values: Mapping[str, str]

    def abstract(self) -> str:
        return " ".join(self.sentences)

    def cited(self, random: Random) -> str:
        """Return a sentence with which another paper cites this one."""
        return _sentence(_pick(CONTEXTS, random), self.values, random)


@dataclass(frozen=True, slots=True)
class Venue:
    """A venue of papers; its name says that it is a sample."""

    name: str
    short: str
    #: journal or conference.
    kind: str
    number: int


def compose(
    random: Random, area: int, year: int = _USUAL, *, long: bool = False, dense: bool = False
) -> PaperText:
    """Return a paper of the area `area` (0 to AREAS - 1) and a year, with 4 to 7 sentences; long: with 14.

    dense: with more sentences, and so many figures that the abstract compresses like a real one.
    """
    about = words.AREAS[area]
    values = _values(about, random) | {"now": str(year)}
    own = random.random() < 0.1
    pattern = _pick(about.titles if own else TITLES, random)
    if own and not set(pattern) & set("{:"):
        pattern = f"{pattern}: {_pick(SUBTITLES, random)}".replace("?:", "?")
    title = _said(pattern, values, random)
    roles = _DENSE if dense else _LONG if long else (*_LEAD, *_results(random))
    sentences = tuple(_sentence(_pick(one, random), values, random) for one in roles)
    short = _sentence(_pick((*APPROACH, *FINDING), random), values, random)
    return PaperText(_capitalized(title, each=random.random() < 0.5), sentences, short, values)


def person(random: Random) -> str:
    """Return a first and a family name."""
    return f"{_pick(words.FIRST_NAMES, random)} {_pick(words.FAMILY_NAMES, random)}"


def venues(area: int) -> list[Venue]:
    """Return the venues of the area `area`."""
    listed = enumerate(words.AREAS[area].venues)
    return [
        Venue(f"{name} (sample)", short, kind, area * 100 + number) for number, (name, short, kind) in listed
    ]


def fields(area: int) -> tuple[str, ...]:
    """Return the fields of study of the area `area`."""
    return words.AREAS[area].fields


def _values(about: words.Area, random: Random) -> dict[str, str]:
    """Draw the words of a paper: slot → words."""
    values = {"name": _pick(words.NAME_BEGINNINGS, random) + _pick(words.NAME_ENDS, random)}
    values["topic"], values["other"] = _two(about.topics, random)
    values["method"], values["method2"] = _two(about.methods, random)
    values["data"], values["data2"] = _two(about.data, random)
    values["finding"], values["finding2"] = _two(about.findings, random)
    values["problem"], values["people"] = _pick(about.problems, random), _pick(about.people, random)
    values["measure"], values["measure2"] = _pick(about.measures, random), _pick(about.costs, random)
    return values


def _two(choices: Sequence[str], random: Random) -> tuple[str, str]:
    """Draw two different choices."""
    count = len(choices)
    first = int(random.random() * count)
    return choices[first], choices[(first + 1 + int(random.random() * (count - 1))) % count]


def _results(random: Random) -> list[tuple[str, ...]]:
    """Draw one to four of the optional roles, in order, with at least one result."""
    chosen = {_pick(_RESULTS, random), *random.sample(range(len(_REST)), int(random.random() * 4))}
    return [_REST[position] for position in sorted(chosen)]


def _who(random: Random) -> str:
    first, second = (_pick(words.FAMILY_NAMES, random) for _ in range(2))
    return (f"{first} et al.", f"{first} and {second}", first)[int(random.random() * 3)]


#: Slot → a figure or word for a paper of a year, drawn at each use.
_DRAWN: Mapping[str, Callable[[Random, int], str]] = {
    "pct": lambda random, _: f"{random.random() ** 2 * 80 + 0.6:.1f}%",
    "score": lambda random, _: f"0.{300 + int(random.random() * 250)}",
    "score2": lambda random, _: f"0.{560 + int(random.random() * 400)}",
    "fine": lambda random, _: f"0.{int(random.random() * 90_000) + 10_000}",
    "p": lambda random, _: f"0.0{1 + int(random.random() * 48):02}",
    "big": lambda random, _: f"{int(1200 * 600 ** random.random()):,}",
    "small": lambda random, _: str(3 + int(random.random() * 44)),
    "small2": lambda random, _: str(60 + int(random.random() * 90)),
    "year": lambda random, now: str(now - 6 - int(random.random() * 24)),
    "year2": lambda random, now: str(now - 1 - int(random.random() * 4)),
    "sum": lambda random, _: f"{random.getrandbits(256):064x}",
    "code": lambda random, _: f"{random.getrandbits(40):010x}",
    "field": lambda random, _: _pick(words.DISCIPLINES, random),
    "who": lambda random, _: _who(random),
}


@cache
def _parsed(pattern: str) -> tuple[_Part, ...]:
    """Parse a pattern into parts."""
    pieces = _PIECE.findall(pattern)[::-1]
    parts = _parts(pieces)[0]
    if pieces:
        raise ValueError(f"not a pattern: {pattern}")
    return parts


def _parts(pieces: list[str]) -> list[tuple[_Part, ...]]:
    """Take the alternatives up to the next `]` from the end of `pieces`."""
    found: list[list[_Part]] = [[]]
    while pieces:
        piece = pieces.pop()
        if piece == "]":
            break
        if piece == "|":
            found.append([])
        elif piece == "[":
            found[-1].append(_parts(pieces))
        else:
            found[-1].append((piece[1:-1],) if piece[0] == "{" else piece)
    return [tuple(one) for one in found]


def _said(pattern: str, values: Mapping[str, str], random: Random) -> str:
    said: list[str] = []
    _say(_parsed(pattern), values, random, said)
    return "".join(said)


def _say(parts: tuple[_Part, ...], values: Mapping[str, str], random: Random, said: list[str]) -> None:
    for part in parts:
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, tuple):
            said.append(values[part[0]] if part[0] in values else _DRAWN[part[0]](random, int(values["now"])))
        else:
            _say(part[int(random.random() * len(part))], values, random, said)


def _sentence(pattern: str, values: Mapping[str, str], random: Random) -> str:
    text = _said(pattern, values, random)
    return f"{text[0].upper()}{text[1:].removesuffix('.')}."


def _capitalized(title: str, *, each: bool) -> str:
    """Capitalize a title at its beginning and after a colon; each: every word except small ones."""
    made, first = [], True
    for word in title.split(" "):
        raised = first or (each and word not in _SMALL)
        made.append(word[0].upper() + word[1:] if raised else word)
        first = word[-1] in ":?"
    return " ".join(made)


def _pick(choices: Sequence[_T], random: Random) -> _T:
    return choices[int(random.random() * len(choices))]
