"""N-gram language models: estimated here, kept as ARPA text, scored by KenLM where the extra `lm` is installed.

Estimation is interpolated modified Kneser-Ney (Chen and Goodman 1998), as KenLM's `lmplz` does it (Heafield et al. 2013; the wheel
lacks that program): counts of the highest order, numbers of different left neighbours below it, three discounts an order, and unigrams
interpolated with a uniform distribution that gives unknown words their share. A model counts whatever tokens it is given, words or units
(`sentences`). Build it of training transcripts or of other text, never of what it will be scored on.
"""

import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from overture.errors import MissingExtra, OvertureError
from overture.recognise.units import BOUNDARY, Units

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts of counts give none, as lmplz --discount_fallback
Gram = tuple[str, ...]
State = Any  # of a scorer: comparable only with its own


def sentences(texts: Iterable[str], units: Units, level: Literal["words", "units"] = "words") -> Iterator[str]:
    """Texts as the decoder will score them: normalised by the units, and with `level` "units" one token a unit, parted by spaces.

    Raises OvertureError for a text that the units cannot write, at level "units".
    """
    for number, text in enumerate(texts):
        if level == "words":
            yield units.normalise(text)
        else:
            yield " ".join(token(units.spellings[i]) for i in units.encode(text, row=f"text {number}"))


def token(spelling: str) -> str:
    """A unit in a language model over units: what it writes, spaces visible."""
    return spelling.replace(" ", BOUNDARY)


def counts_units(lm: "NGram", units: Units) -> bool:
    """Whether the tokens of the model are units, not words: words hold no mark of a boundary, units that begin words do."""
    marked = [token(s) for s in units.spellings if s.startswith(" ")]
    return any(t in lm for t in marked) if marked else all(s in lm for s in units.spellings[1:])


class NGram:
    """A back-off n-gram model: log10 probabilities and back-off weights by n-gram, shortest order first."""

    def __init__(self, tables: list[dict[Gram, tuple[float, float]]]) -> None:
        self.tables = tables  # order n at position n - 1; (log10 p of the last token, log10 back-off weight)

    @property
    def order(self) -> int:
        return len(self.tables)

    def __contains__(self, word: str) -> bool:
        """Whether the model knows the word, so that it is not scored as unknown."""
        return (word,) in self.tables[0] and word != UNKNOWN

    @cached_property
    def ahead(self) -> dict[str, float] | None:
        """For every beginning of a word, the greatest log10 probability (as a unigram) of a word that begins so; with UNKNOWN.

        A decoder that compares unfinished words needs it. None where the words are not known (`KenLM`).
        """
        return _ahead((gram[0], p) for gram, (p, _) in self.tables[0].items())

    def start(self) -> State:
        """The state at the beginning of a sentence."""
        return (BEGIN,)

    def score(self, state: State, word: str) -> tuple[float, State]:
        """log10 p(word | state) and the state after it. END ends the sentence; unknown words have the probability of UNKNOWN."""
        known = word if (word,) in self.tables[0] else UNKNOWN
        total, context = 0.0, state
        while (found := self.tables[len(context)].get((*context, known))) is None:
            total += self.tables[len(context) - 1].get(context, (0.0, 0.0))[1]
            context = context[1:]
        after = (*context, known)[-(self.order - 1) :]
        while after and after not in self.tables[len(after) - 1]:  # cannot be a context of anything
            after = after[1:]
        return total + found[0], () if known == UNKNOWN else after

    def sentence(self, text: str) -> float:
        """log10 probability of a whole sentence, its end included."""
        state, total = self.start(), 0.0
        for word in (*text.split(), END):
            p, state = self.score(state, word)
            total += p
        return total

    def perplexity(self, texts: Iterable[str]) -> tuple[float, float]:
        """Of `texts`, by tokens and ends of sentences, unknown tokens included; and the share of tokens that are unknown."""
        total, tokens, ends, unknown = 0.0, 0, 0, 0
        for text in texts:
            words = text.split()
            total += self.sentence(text)
            tokens, ends, unknown = tokens + len(words), ends + 1, unknown + sum(word not in self for word in words)
        if not ends:
            raise OvertureError("no text to take the perplexity of")
        return 10 ** (-total / (tokens + ends)), unknown / max(tokens, 1)

    @classmethod
    def estimate(cls, texts: Iterable[str], order: int = 3) -> "NGram":
        """From sentences of tokens parted by white space. Empty ones count for nothing.

        Raises OvertureError when there is no token, or one is spelt like a mark of the model.
        """
        if order < 2:
            raise OvertureError(f"an n-gram model of order {order}: the least is 2")
        padded = [(BEGIN, *words, END) for text in texts if (words := text.split())]
        if not padded:
            raise OvertureError("no text to estimate a language model of")
        if marks := {BEGIN, END, UNKNOWN} & {word for words in padded for word in words[1:-1]}:
            raise OvertureError(f"the text has {marks.pop()!r}, which is a mark of the language model: remove it")
        counts: list[Counter[Gram]] = [Counter() for _ in range(order)]
        for n in range(order):
            counts[n].update(words[i : i + n + 1] for words in padded for i in range(len(words) - n))
        adjusted = [*(_neighbours(counts[n], counts[n + 1]) for n in range(order - 1)), counts[-1]]
        del adjusted[0][(BEGIN,)]  # never predicted

        vocabulary = {*adjusted[0], (UNKNOWN,)}
        lower: dict[Gram, float] = {(): 1 / len(vocabulary)}  # p of the order below: first the uniform distribution
        probabilities: list[dict[Gram, float]] = []
        backoff: dict[Gram, float] = {}  # what an order leaves to the one below, by context
        for n, table in enumerate(adjusted):
            discounts = _discounts(table)
            totals: defaultdict[Gram, int] = defaultdict(int)
            left: defaultdict[Gram, float] = defaultdict(float)
            for gram, count in table.items():
                totals[gram[:-1]] += count
                left[gram[:-1]] += discounts[min(count, 3)]
            weights = {context: left[context] / totals[context] for context in totals}
            backoff |= weights
            here = {
                gram: (count - discounts[min(count, 3)]) / totals[gram[:-1]] + weights[gram[:-1]] * lower[gram[1:]]
                for gram, count in table.items()
            }
            if n == 0:
                here[(UNKNOWN,)] = weights[()] * lower[()]
            probabilities.append(here)
            lower = here
        tables = [
            {gram: (math.log10(p), math.log10(backoff[gram]) if gram in backoff else 0.0) for gram, p in here.items()}
            for here in probabilities
        ]
        tables[0][(BEGIN,)] = (-99.0, math.log10(backoff[(BEGIN,)]))
        return NGram(tables)

    def write(self, path: str | Path) -> None:
        """As ARPA text, written whole or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", encoding="utf8") as out:
            out.write("\\data\\\n")
            out.writelines(f"ngram {n}={len(table)}\n" for n, table in enumerate(self.tables, start=1))
            for n, table in enumerate(self.tables, start=1):
                out.write(f"\n\\{n}-grams:\n")
                for gram, (p, weight) in sorted(table.items()):
                    out.write(f"{p:.7g}\t{' '.join(gram)}" + (f"\t{weight:.7g}\n" if n < self.order else "\n"))
            out.write("\n\\end\\\n")
        partial.replace(path)

    @classmethod
    def read(cls, path: str | Path) -> "NGram":
        """An ARPA file (or, with KenLM, one of its binary files). Scored by KenLM where that is installed.

        Raises OvertureError when the file is none, with the line; MissingExtra for a binary file without KenLM.
        """
        path = Path(path)
        if not path.is_file():
            raise OvertureError(f"no language model {path}: no such file")
        try:
            import kenlm
        except ImportError:
            return cls(_read_arpa(path))
        return KenLM(path, kenlm)


class KenLM(NGram):
    """The same model scored by KenLM, in half the time; it reads its own binary files too."""

    def __init__(self, path: Path, kenlm: Any) -> None:
        config = kenlm.Config()
        config.show_progress = False
        config.arpa_complain = kenlm.ARPALoadComplain.NONE
        try:
            self.model = kenlm.Model(str(path), config)
        except OSError as error:
            raise OvertureError(f"{path} is no language model: {error}") from error
        self.path = path
        self._state = kenlm.State

    @property
    def order(self) -> int:
        return int(self.model.order)

    def __contains__(self, word: str) -> bool:
        return word in self.model

    @cached_property
    def ahead(self) -> dict[str, float] | None:
        """As in `NGram`; None for a binary file, which does not tell its words."""
        if _is_binary(self.path):
            return None
        return _ahead(_unigrams(self.path))

    def start(self) -> State:
        state = self._state()
        self.model.BeginSentenceWrite(state)
        return state

    def score(self, state: State, word: str) -> tuple[float, State]:
        after = self._state()
        return self.model.BaseScore(state, word, after), after

    def write(self, path: str | Path) -> None:
        """A copy of the file it was read from."""
        path = Path(path)
        if path.exists() and path.samefile(self.path):
            return
        partial = path.with_name(f".{path.name}.partial")
        shutil.copyfile(self.path, partial)
        partial.replace(path)


def _neighbours(counts: Counter[Gram], longer: Counter[Gram]) -> Counter[Gram]:
    """How many different tokens stand before each n-gram; one that begins a sentence has none, and keeps its count."""
    found = Counter(gram[1:] for gram in longer)
    found.update({gram: count for gram, count in counts.items() if gram[0] == BEGIN})
    return found


def _discounts(table: Counter[Gram]) -> tuple[float, float, float, float]:
    """What n-grams counted 0, 1, 2, and 3 or more times give away (Chen and Goodman 1998, equation 26)."""
    of = Counter(min(count, 5) for count in table.values())
    if all(of[k] for k in (1, 2, 3, 4)):
        y = of[1] / (of[1] + 2 * of[2])
        found = tuple(k - (k + 1) * y * of[k + 1] / of[k] for k in (1, 2, 3))
        if all(0 < d < k for k, d in enumerate(found, start=1)):
            return (0.0, found[0], found[1], found[2])
    return (0.0, *FALLBACK)


def _ahead(unigrams: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for word, p in unigrams:
        if word == UNKNOWN:
            found[word] = p
        elif word not in (BEGIN, END):
            for i in range(1, len(word) + 1):
                if p > found.get(word[:i], -math.inf):
                    found[word[:i]] = p
    found.setdefault(UNKNOWN, -100.0)
    return found


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"mmap lm "


def _unigrams(path: Path) -> Iterator[tuple[str, float]]:
    """Words and log10 probabilities of an ARPA file that KenLM has read, and so is sound."""
    with path.open(encoding="utf8") as lines:
        for line in lines:
            if line.startswith("\\1-grams:"):
                break
        for line in lines:
            if line.startswith("\\"):
                return
            if parts := line.split():
                yield parts[1], float(parts[0])


def _read_arpa(path: Path) -> list[dict[Gram, tuple[float, float]]]:
    """The tables of an ARPA file. Raises OvertureError with the line that is wrong."""

    def wrong(number: int, why: str) -> OvertureError:
        return OvertureError(f"{path}, line {number}: {why}. Expected a language model in ARPA format.")

    if _is_binary(path):
        raise MissingExtra("lm", f"{path} is a binary file of KenLM; reading it")
    declared: list[int] = []
    tables: list[dict[Gram, tuple[float, float]]] = []
    number, section = 0, ""
    try:
        with path.open(encoding="utf8") as lines:
            for number, raw in enumerate(lines, start=1):
                line = raw.strip("\r\n \t")
                if not line:
                    continue
                if line.startswith("\\") and (line in ("\\data\\", "\\end\\") or line.endswith("-grams:")):
                    section = line
                    if line.endswith("-grams:"):
                        tables.append({})
                        if line != f"\\{len(tables)}-grams:":
                            raise wrong(number, f"{line} where \\{len(tables)}-grams: should be")
                elif section == "\\data\\":
                    declared.append(int(line.rpartition("=")[2]))
                elif section.endswith("-grams:"):
                    parts = line.split()
                    n = len(tables)
                    if len(parts) not in (n + 1, n + 2):
                        raise wrong(number, f"{len(parts)} fields for an n-gram of order {n}")
                    tables[-1][tuple(parts[1 : n + 1])] = (
                        float(parts[0]),
                        float(parts[n + 1]) if len(parts) > n + 1 else 0.0,
                    )
                else:
                    raise wrong(number, f"{line[:40]!r} outside of a section")
    except ValueError as error:  # a number, or UTF-8
        raise wrong(number, str(error)) from error
    found = [len(table) for table in tables]
    if section != "\\end\\" or found != declared:
        raise wrong(number, f"the file ends after {found} n-grams by order, it announced {declared}")
    if len(tables) < 2:
        raise wrong(number, "a model of unigrams only")
    for mark, value in ((UNKNOWN, -100.0), (END, -99.0), (BEGIN, -99.0)):
        tables[0].setdefault((mark,), (value, 0.0))
    return tables
