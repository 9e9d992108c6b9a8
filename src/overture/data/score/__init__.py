"""Scorers: each looks at the rows of a corpus and gives columns, of documents or of their segments, that selectors then ask in SQL.

This is the index: name -> where its defaults are. A scorer is a frozen dataclass, so that its settings can be named, and `annotate` writes the
raw scores into the corpus, never a decision: thresholds change, scores stay.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from overture.errors import OvertureError, near

if TYPE_CHECKING:
    import pyarrow as pa

    from overture.data.table import Table

SCORERS = {
    "segments": ("text.Segments", "where sentences (of code: lines) end"),
    "length": ("text.Length", "characters and words"),
    "ngram": (
        "ngram.NGramPerplexity",
        "perplexity under an n-gram model of reference rows; repetition; unknown tokens",
    ),
    "quality": (
        "classifier.QUALITY",
        "probability of being like the rows named positive, not like those named negative",
    ),
    "toxicity": ("classifier.TOXICITY", "the same of a labelled column: probability of being toxic"),
    "lexicon": ("lexicon.Lexicon", "share of the words that are in a list of yours"),
    "pii": ("pii.PersonalData", "e-mail and IP addresses, telephone numbers, URLs with a password: hits a character"),
    "pep8": ("pep8.Pep8", "of Python code: violations of PEP 8 a character [extra: code]"),
    "language": ("language.Language", "language, by character n-grams, and its probability [extra: language]"),
    "continuation": (
        "continuation.Continuation",
        "of transcripts: what a language model goes on with, and whether that came to an end",
    ),
    "phones": ("phones.Phones", "of English recordings: which phones are said, and when [extra: align]"),
    "snr": ("speech.SpeechToNoise", "of recordings: dB of speech over noise, and share of frames above the noise"),
}  # name -> default instance or class in this package, one line


@dataclass(frozen=True)
class Ready:
    """A scorer whose models are estimated and whose files are read."""

    score: "Callable[[Table], dict[str, pa.Array]]"  # some rows -> its columns of them, null where there is nothing to score
    notes: dict[str, Any] = field(default_factory=dict)  # what getting ready told, for corpus.json
    rows: int | None = None  # to be scored at a time, where that takes long; None: as many as is usual


class Scorer(Protocol):
    """A frozen dataclass of settings."""

    @property
    def columns(self) -> tuple[str, ...]: ...  # that it gives

    def sources(
        self, table: "Table"
    ) -> dict[str, Any]: ...  # what decides the scores beside its settings: rows of reference, files, versions

    def ready(
        self, table: "Table"
    ) -> Ready: ...  # for the rows of a corpus. Raises OvertureError for what cannot be scored


def scorer(name: str) -> Scorer:
    """The scorer `name` with its defaults. Raises OvertureError, with near names, when there is none."""
    if name not in SCORERS:
        raise OvertureError(f"no scorer {name!r}. {near(name, SCORERS)}")
    module, _, attribute = SCORERS[name][0].partition(".")
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found() if isinstance(found, type) else found  # type: ignore[no-any-return]
