"""Made-up English-like prose for sample networks, as compressible as real abstracts and cheap to generate.

Words follow Zipf's law, and phrases and figures recur as they do in abstracts. The text has no meaning.
The shares below were fitted to 785 titles and abstracts of Semantic Scholar's: gzip -6 makes 2.87 to 1 of
those and 2.89 to 1 of sample papers; ISA-L's level 1 is 18 % larger than gzip on those, 16 % on these.
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from random import Random

#: The most frequent first; the tail of the vocabulary is made of syllables.
_COMMON = (
    "the of and to in a is that for with we as on are by this from be an which can our it these or has not have "
    "their at was between more than using based such also how but both its into been show used most two other "
    "new through while where they will each one when under only over may some many all about then there "
    "results method approach model data show study problem propose analysis algorithm performance system paper "
    "learning network information methods models different set time large number research work however known "
    "present given high structure process function general order well several first important provide found "
    "proposed use applications theory develop knowledge effects evidence human quality design experiments "
    "domain task training features distribution random linear local global error complexity efficient novel "
    "framework techniques existing significant properties state space user users language text images graph "
    "graphs nodes citation citations papers authors community communities science scientific literature "
    "measure measures ranking similarity clusters clustering classification prediction estimation sampling "
    "inference optimization bounds convergence probability variables parameters matrix vector kernel gradient "
    "deep neural networks layers attention memory sequence sequences translation recognition segmentation "
    "retrieval search query queries index database databases storage transactions concurrency parallel "
    "distributed computing hardware software code programs verification proof logic semantics types "
    "security privacy protocol protocols communication channel signal signals noise frequency control feedback "
    "robot robots motion planning agents environment policy reward decision decisions market markets economic "
    "social behavior behaviour cognitive perception brain cells cell protein proteins gene genes expression "
    "molecular binding sequence disease patients clinical treatment risk health population populations species "
    "climate energy temperature pressure surface materials quantum electron photon magnetic field fields phase "
    "transition temperature dynamics dynamic equilibrium stability nonlinear simulation simulations numerical "
    "experimental empirical theoretical statistical bayesian stochastic deterministic discrete continuous "
    "robust sparse dense hierarchical recursive adaptive online supervised unsupervised interactive automatic "
    "significantly previously recently often directly respectively effectively substantially typically "
    "increase decrease improve improves reduce reduces achieve achieves outperforms compare compared evaluate "
    "evaluation demonstrate investigate examine describe discuss introduce address require requires allow "
    "allows enable enables combine combining extend extends apply applied consider derive obtain observed "
    "accuracy precision recall baseline benchmark benchmarks corpus annotation dataset datasets survey review "
    "challenge challenges limitation limitations future direction directions open question questions answer "
    "recent advances trade-off state-of-the-art end-to-end real-world large-scale low-rank high-dimensional"
)
_ONSETS = "b c d d f g h l l m m n n p p r r s s t t v w br cl cr dr fl gr pl pr qu sp st th tr"
_VOWELS = "a a a e e e e i i i o o o u u ea io"
_CODAS = ("", "", "", "", "", "", "l", "m", "n", "n", "r", "r", "s", "t", "x", "nd", "nt", "st", "ct")
_ENDINGS = "al ation ed er es ic ing ion ism ity ive ly ment ous s s"

_VOCABULARY = 20_000
_PHRASES = 8_000
_PHRASE_SHARE = 0.15
_FIGURE_SHARE = 0.02
_COMMA_SHARE = 0.05
_ZIPF = 0.95


class Prose:
    """A long text that is cut into titles, sentences and abstracts; the same for the same seed and size.

    Args:
        seed: seed of the random numbers.
        size: the minimum length in characters, which limits the pieces too.
    """

    def __init__(self, seed: int, size: int = 8_000_000) -> None:
        self._random = Random(f"prose {seed}")  # noqa: S311  # made up, not secret
        self._words = self._vocabulary()
        sentences = self._sentences(size)
        self.text = " ".join(sentences)
        self._starts = list(accumulate((len(one) + 1 for one in sentences), initial=0))

    def passage(self, at: float, length: int) -> str:
        """Return complete sentences of about `length` characters from the position `at` (0 to 1); at least one."""
        first = int(at * (bisect_left(self._starts, len(self.text) - length) or 1))
        begin = self._starts[first]
        last = max(bisect_right(self._starts, begin + length) - 1, first + 1)
        return self.text[begin : self._starts[last] - 1]

    def title(self, at: float, length: int) -> str:
        """Return the beginning of a sentence at the position `at` (0 to 1), of at most `length` characters."""
        begin = self._starts[int(at * (len(self._starts) - 2))]
        end = self.text.find(". ", begin, begin + length)
        cut = end if end >= 0 else self.text.rfind(" ", begin, begin + length)
        return self.text[begin:cut].rstrip(",")

    def name(self, at: float) -> str:
        """Return a surname, from the rare words, at the position `at` (0 to 1)."""
        rare = len(self._words) // 4
        return self._words[rare + int(at * (len(self._words) - rare))].capitalize()

    def _vocabulary(self) -> list[str]:
        onsets, vowels, endings = _ONSETS.split(), _VOWELS.split(), ["", "", *_ENDINGS.split()]
        made: dict[str, None] = dict.fromkeys(_COMMON.split())
        while len(made) < _VOCABULARY:
            syllables = 1 + int(self._random.random() * 2.6)
            stem = "".join(
                self._pick(onsets) + self._pick(vowels) + self._pick(_CODAS) for _ in range(syllables)
            )
            made[stem + self._pick(endings)] = None
        return list(made)

    def _pick(self, choices: tuple[str, ...] | list[str]) -> str:
        return choices[int(self._random.random() * len(choices))]

    def _zipf(self, choices: list[str], count: int) -> list[str]:
        weights = list(accumulate(1 / (rank + 2.7) ** _ZIPF for rank in range(len(choices))))
        return self._random.choices(choices, cum_weights=weights, k=count)

    def _sentences(self, size: int) -> list[str]:
        lengths = self._random.choices((2, 3, 4, 5, 6), k=_PHRASES)
        words = iter(self._zipf(self._words, sum(lengths)))
        phrases = [" ".join(next(words) for _ in range(length)) for length in lengths]
        sentences: list[str] = []
        written = 0
        while written < size:
            for one in self._batch(phrases):
                sentences.append(one)
                written += len(one) + 1
        return sentences

    def _batch(self, phrases: list[str]) -> list[str]:
        """Return some thousand sentences: random draws are cheap in bulk."""
        words = self._zipf(self._words, 64_000)
        recurring = self._zipf(phrases, 64_000)
        dice = [self._random.random() for _ in words]
        pieces = [self._piece(*one) for one in zip(words, recurring, dice, strict=True)]
        sentences = []
        begin = 0
        while begin < len(pieces) - 24:
            end = begin + 9 + int(self._random.random() * 14)
            one = " ".join(pieces[begin:end]).rstrip(",")
            sentences.append(f"{one[0].upper()}{one[1:]}.")
            begin = end
        return sentences

    @staticmethod
    def _piece(word: str, phrase: str, die: float) -> str:
        if die < _FIGURE_SHARE:
            return f"{die / _FIGURE_SHARE * 100:.1f}%"
        if die < _FIGURE_SHARE + _PHRASE_SHARE:
            return phrase
        return f"{word}," if die > 1 - _COMMA_SHARE else word
