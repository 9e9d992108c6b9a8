"""What a recogniser writes: characters, pieces of words (byte-pair encoding, Sennrich et al. 2016) or phones (espeak-ng).

Units are frozen dataclasses, so they stand in configurations, are fingerprinted with them and go through JSON. They are made from
training transcripts only (`make_units`). Id 0 is the blank of connectionist temporal classification, `len(units)` the size of the head.
Nothing here is particular to a language. espeak-ng and phonemizer are under the GPL and an extra: `pip install 'overture[phones]'`.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol, Self

from overture.config import from_dict
from overture.errors import MissingExtra, OvertureError, near

BLANK = 0  # the id that stands for "no new unit"; the first unit has id 1
BOUNDARY = "\u2581"  # stands for a space where a token may not hold one: in pieces and in language models over units
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u02bc\uff07"), "'")

Kind = Literal["characters", "pieces", "phones"]


class Units(Protocol):
    """Between text and ids."""

    @property
    def spellings(self) -> tuple[str, ...]:
        """What each id writes, the blank "" first; a space at its beginning ends the word before. `len(units)` of them."""

    def __len__(self) -> int:
        """Size of the head: the units and the blank."""

    def normalise(self, text: str) -> str:
        """The text as it is learnt and scored."""

    def encode(self, text: str, *, row: str, drop: bool = False) -> list[int]:
        """Ids of the normalised `text`. `row` is the row's id, for the error.

        Raises OvertureError for what the units cannot write, unless `drop` leaves it away (to watch a loss on held-out
        rows; references for scoring are never encoded, so what the units lack is an error there).
        """

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without blanks and repeats, white space collapsed: the words of `words`, joined by spaces."""

    def words(self, ids: Sequence[int]) -> list[tuple[int, int, str]]:
        """Each word of `decode(ids)` with the position of its first id and the position after its last: (first, end, word)."""


def normalise(text: str) -> str:
    """A transcript as it is learnt and scored: NFC, lower case, letters, their marks and apostrophes, single spaces.

    Everything else (punctuation, digits, symbols) becomes a space; invisible format characters (soft hyphen, zero-width
    joiners) vanish, and typographic apostrophes become '. Digits go because a digit does not say how it is read: write
    numbers out, or leave such rows away (--where "NOT regexp_matches(text, '[0-9]')").
    """
    lowered = unicodedata.normalize("NFC", text).lower().translate(_APOSTROPHES)
    kept = []
    for c in unicodedata.normalize("NFC", lowered):
        category = unicodedata.category(c)
        if category[0] in "LM" or c == "'":
            kept.append(c)
        elif category != "Cf":
            kept.append(" ")
    return " ".join("".join(kept).split())


class _Spelt:
    """What all units share: from ids to text, by the spellings."""

    spellings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.spellings)

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join("".join(self.spellings[i] for i in ids).split())

    def words(self, ids: Sequence[int]) -> list[tuple[int, int, str]]:
        found: list[tuple[int, int, str]] = []
        open_word = False
        for at, i in enumerate(ids):
            spelling = self.spellings[i]
            open_word = open_word and not spelling.startswith(" ")
            if letters := spelling.lstrip():
                first, word = (found[-1][0], found.pop()[2]) if open_word else (at, "")
                found.append((first, at + 1, word + letters))
                open_word = True
        return found


@dataclass(frozen=True)
class Characters(_Spelt):
    """Every character is a unit, the space too; the i-th of `characters` has id i + 1."""

    characters: str

    def __post_init__(self) -> None:
        if not self.characters.strip() or len(set(self.characters)) < len(self.characters):
            raise OvertureError("'characters' must be different characters, at least one of them no space")

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Every character of the normalised training transcripts, sorted by code point.

        Raises OvertureError when no text has a letter.
        """
        found = sorted({c for text in texts for c in normalise(text)})
        if not any(c not in " '" for c in found):
            raise _no_letters()
        return cls("".join(found))

    @cached_property
    def spellings(self) -> tuple[str, ...]:  # type: ignore[override]  # made once from the field
        return ("", *self.characters)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {c: i for i, c in enumerate(self.characters, start=1)}

    def normalise(self, text: str) -> str:
        return normalise(text)

    def encode(self, text: str, *, row: str, drop: bool = False) -> list[int]:
        kept = _known(normalise(text), self._ids, row=row, drop=drop)
        return [self._ids[c] for c in kept]


@dataclass(frozen=True)
class Pieces(_Spelt):
    """Pieces of words by byte-pair encoding; the i-th of `vocabulary` has id i + 1. A piece that begins a word begins with U+2581."""

    vocabulary: tuple[
        str, ...
    ]  # every character that occurs in a piece is a piece itself, so any text of these can be written
    merges: tuple[str, ...]  # "LEFT RIGHT", in the order in which they are tried

    def __post_init__(self) -> None:
        known = set(self.vocabulary)
        if not known or len(known) < len(self.vocabulary) or any(not p or p != "".join(p.split()) for p in known):
            raise OvertureError("'vocabulary' must be different pieces without spaces")
        if missing := sorted({c for piece in known for c in piece} - known):
            raise OvertureError(
                f"'vocabulary' lacks {missing[0]!r} as a piece of its own: some texts could not be written"
            )
        for merge in self.merges:
            left, _, right = merge.partition(" ")
            if not {left, right, left + right} <= known:
                raise OvertureError(f"'merges' has {merge!r}, whose pieces are not all in 'vocabulary'")

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 200) -> Self:
        """At most `size` pieces, the most frequent pairs of the normalised training transcripts merged first, each seen twice or more.

        Raises OvertureError when no text has a letter or `size` is too small for the characters.
        """
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import Metaspace
        from tokenizers.trainers import BpeTrainer

        clean = [normalise(text) for text in texts]
        characters = len({*"".join(clean), BOUNDARY} - {" "})
        if not any(c not in " '" for text in clean for c in text):
            raise _no_letters()
        if size < characters:
            raise OvertureError(
                f"{size} pieces are too few: the training transcripts have {characters} characters, the mark of a word's "
                "beginning among them. Ask for more pieces, or take units 'characters'."
            )
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer = Metaspace()
        trainer = BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False, special_tokens=[])
        tokenizer.train_from_iterator(clean, trainer)
        model = json.loads(tokenizer.to_str())["model"]
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
        return cls(tuple(pieces), tuple(" ".join(pair) for pair in model["merges"]))

    @cached_property
    def spellings(self) -> tuple[str, ...]:  # type: ignore[override]  # made once from the fields
        return ("", *(piece.replace(BOUNDARY, " ") for piece in self.vocabulary))

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import Metaspace

        vocabulary = {piece: i for i, piece in enumerate(self.vocabulary, start=1)}
        tokenizer = Tokenizer(
            BPE(vocab=vocabulary, merges=[(m.partition(" ")[0], m.partition(" ")[2]) for m in self.merges])
        )
        tokenizer.pre_tokenizer = Metaspace()
        return tokenizer

    def normalise(self, text: str) -> str:
        return normalise(text)

    def encode(self, text: str, *, row: str, drop: bool = False) -> list[int]:
        kept = _known(normalise(text), {*self.vocabulary, " "}, row=row, drop=drop)
        ids: list[int] = self._tokenizer.encode(" ".join(kept.split())).ids
        return ids


@dataclass(frozen=True)
class Phones(_Spelt):
    """Phones of the International Phonetic Alphabet as espeak-ng reads the text in `language`, without stress; the i-th of `symbols` has id i + 1.

    Words leave no mark in the sequence: the text of phones is every phone a word of its own, so the word error rate of
    normalised texts is the phone error rate, and word times are phone times. Unlike that of other units, `normalise` must see
    a text only once: phones are no text to read.
    """

    symbols: tuple[str, ...]
    language: str  # espeak-ng's name, such as 'en-us', 'cs', 'vi'

    def __post_init__(self) -> None:
        known = set(self.symbols)
        if not known or len(known) < len(self.symbols) or any(not p or p != "".join(p.split()) for p in known):
            raise OvertureError("'symbols' must be different phones without spaces")

    @classmethod
    def of(cls, texts: Iterable[str], language: str) -> Self:
        """Every phone of the training transcripts, sorted.

        Raises OvertureError when espeak-ng does not speak the language, or reads nothing; MissingExtra without the extra.
        """
        found = sorted({phone for text in texts for phone in phonemise(text, language)})
        if not found:
            raise _no_letters()
        return cls(tuple(found), language)

    @cached_property
    def spellings(self) -> tuple[str, ...]:  # type: ignore[override]  # made once from the field
        return ("", *(f" {phone}" for phone in self.symbols))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {phone: i for i, phone in enumerate(self.symbols, start=1)}

    def normalise(self, text: str) -> str:
        return " ".join(phonemise(text, self.language))

    def encode(self, text: str, *, row: str, drop: bool = False) -> list[int]:
        phones = phonemise(text, self.language)
        for phone in phones:
            if phone not in self._ids and not drop:
                raise OvertureError(
                    f"row {row!r}: the transcript is read with the phone {phone!r}, which the training transcripts lack. "
                    "Correct the transcript, leave the row away, or make the units with it."
                )
        return [self._ids[phone] for phone in phones if phone in self._ids]


def make_units(
    kind: Kind, texts: Iterable[str], *, size: int = 200, language: str | None = None
) -> Characters | Pieces | Phones:
    """Units from *training* transcripts. `size` is the most pieces that 'pieces' may have, `language` espeak-ng's name for 'phones'.

    Raises OvertureError on an unknown kind, transcripts without letters, and where `Pieces.train` and `Phones.of` say so.
    """
    if kind == "characters":
        return Characters.of(texts)
    if kind == "pieces":
        return Pieces.train(texts, size)
    if kind == "phones":
        if not language:
            raise OvertureError("units 'phones' need a language that espeak-ng reads, such as en-us, cs or vi")
        return Phones.of(texts, language)
    raise OvertureError(f"no units {kind!r}. {near(str(kind), ('characters', 'pieces', 'phones'))}")


def read_units(values: Mapping[str, Any], *, where: str) -> Characters | Pieces | Phones:
    """Units from what `config.to_dict` made of them, the kind told by the fields. `where` names the file and field, for errors.

    Raises OvertureError when they are none, or damaged.
    """
    examples: tuple[Characters | Pieces | Phones, ...] = (Characters("a"), Pieces(("a",), ()), Phones(("a",), "en-us"))
    for example in examples:
        if isinstance(values, Mapping) and set(values) == {f.name for f in fields(example)}:
            try:
                return from_dict(example, values, where=where)
            except OvertureError as error:
                raise error if str(error).startswith(where) else OvertureError(f"{where}: {error}") from error
    raise OvertureError(
        f"{where}: no units. Expected an object with 'characters', with 'vocabulary' and 'merges', or with 'symbols' and 'language'."
    )


def phonemise(text: str, language: str) -> list[str]:
    """The phones of a text, normalised and then read by espeak-ng.

    Raises OvertureError when espeak-ng does not speak the language; MissingExtra when it is not installed.
    """
    clean = normalise(text)
    if not clean:
        return []
    backend, separator = _espeak(language)
    spoken: list[str] = backend.phonemize([clean], separator=separator, strip=True)
    return " ".join(spoken).replace("|", " ").split()


@lru_cache(maxsize=8)
def _espeak(language: str) -> tuple[Any, Any]:
    """espeak-ng in a language, once for all texts, and how its phones are to be parted."""
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
        from phonemizer.separator import Separator
    except ImportError as error:
        raise MissingExtra("phones", "reading text as phones") from error
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    languages = EspeakBackend.supported_languages()
    if language not in languages:
        raise OvertureError(f"espeak-ng does not speak {language!r}. {near(language, languages)}")
    backend = EspeakBackend(language, with_stress=False, language_switch="remove-flags")
    return backend, Separator(phone=" ", word="|", syllable="")


def _known(text: str, known: Mapping[str, int] | set[str], *, row: str, drop: bool) -> str:
    """`text` without the characters that are not `known`; an error for those unless `drop`."""
    for c in text:
        if c not in known and not drop:
            name = unicodedata.name(c, f"U+{ord(c):04X}")
            raise OvertureError(
                f"row {row!r}: the transcript has {c!r} ({name}), which the alphabet of the training transcripts "
                "lacks. Correct the transcript, leave the row away, or build the alphabet with it."
            )
    return "".join(c for c in text if c in known)


def _no_letters() -> OvertureError:
    return OvertureError(
        "no alphabet: the training transcripts have no letters. Check the text column and the training rows."
    )
