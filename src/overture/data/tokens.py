"""Tokens: what text is to a network. The tokenizer as part of a run.

A tokenizer is an artifact: trained by the `tokenizers` library on the texts of a corpus and kept under the fingerprint of what made it, or taken as
published, from a folder with `tokenizer.json`. Special tokens have the same ids in all that are trained here, so a network can be built (and
counted) before there is a tokenizer. Blocks are named tokens behind the vocabulary, for objectives that speak in tokens of their own.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from overture.config import LATER, fingerprint
from overture.errors import OvertureError

if TYPE_CHECKING:  # a `Run` holds `Tokens`, and must stay light
    from tokenizers import Tokenizer

    from overture.data.table import Table

PAD, UNKNOWN, CLS, SEP, MASK, END = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|endoftext|>")
ROLES = (
    "pad_token",
    "unk_token",
    "cls_token",
    "sep_token",
    "mask_token",
    "eos_token",
)  # of these, as transformers calls them
BEGIN = "bos_token"  # of a published tokenizer alone
FILE = "tokenizer.json"
TRAINED_ON = 20_000_000  # characters at most; rows at even distances beyond


@dataclass(frozen=True)
class Special:
    """Ids that mean something to objectives."""

    pad: int = 0
    unknown: int = 1
    cls: int = 2
    sep: int = 3
    mask: int = 4
    end: int = 5  # of a document
    begin: int = 5  # what a decoder is told first
    blocks: tuple[tuple[str, int], ...] = ()  # named tokens

    def block(self, name: str) -> int:
        """The id of a named token. Raises OvertureError where the run's tokens have none of that name."""
        found = dict(self.blocks)
        if name not in found:
            raise OvertureError(f"the tokens have no block {name!r} (they have {list(found)}): set frontend.blocks")
        return found[name]

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them: no corruption may make or take one."""
        return tuple(
            sorted(
                {
                    self.pad,
                    self.unknown,
                    self.cls,
                    self.sep,
                    self.mask,
                    self.end,
                    self.begin,
                    *dict(self.blocks).values(),
                }
            )
        )


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """How text becomes ids: the front end of a run on text."""

    kind: Literal["bpe", "unigram", "wordpiece"] = "bpe"  # bpe: of bytes, so nothing is unknown
    vocabulary: int = 8192  # ids that the network has, with special ones and blocks; a small corpus may fill fewer
    corpus: str | None = None  # whose texts it is trained on; None: the run's own
    published: str | None = (
        None  # a folder with tokenizer.json, or an installed model, that is taken as it is, and gives `vocabulary`
    )
    blocks: tuple[str, ...] = ()  # named tokens that are added
    kept: str | None = field(
        default=None, metadata=LATER
    )  # a tokenizer that was trained before, by the name that `keep` gave it

    @property
    def special(self) -> Special:
        """Raises OvertureError for a published tokenizer that is not there."""
        if self.published is None:
            return Special(blocks=tuple((b, len(SPECIAL) + i) for i, b in enumerate(self.blocks)))
        tokenizer, roles = _taken(self)
        ids: dict[str, Any] = {role: tokenizer.token_to_id(roles[role]) for role in ROLES if roles.get(role)}
        end = ids.get("eos_token", ids.get("sep_token"))
        if end is None:
            raise OvertureError(f"{self.published}: its tokenizer_config.json names neither eos_token nor sep_token")
        pad = ids.get("pad_token", end)
        names = ("unk_token", "cls_token", "sep_token", "mask_token")
        unknown, cls, sep, mask = (ids.get(name, -1) for name in names)  # -1: it has none, and what needs one says so
        begin: Any = tokenizer.token_to_id(roles[BEGIN]) if roles.get(BEGIN) else end
        blocks: Any = tuple((b, tokenizer.token_to_id(b)) for b in self.blocks)
        return Special(pad, unknown, cls, sep, mask, end, begin, blocks)

    def tokenizer(self, table: "Table | None" = None) -> "Tokenizer":
        """Trained on `table` (or `corpus`) now, or taken from where it was kept.

        Raises OvertureError, see `train` and `special`, and where there is no text to train one on.
        """
        if self.published is not None:
            return _taken(self)[0]
        if self.kept is not None:
            return _of_name(self.kept)
        from overture.data.table import Table

        of = table if self.corpus is None else Table.open(self.corpus)
        if of is None:
            raise OvertureError(
                "the tokens have nothing to be trained on: name a corpus of text (tokens.corpus) or a folder (tokens.published)"
            )
        return _kept(self, of)

    def settled(self, table: "Table") -> "Tokens":
        """The same with the tokenizer that they come to on `table` named, so that they cut any other table as they cut this one."""
        if self.published is not None or self.kept is not None:
            return self
        return replace(self, kept=keep(self.tokenizer(table)))

    @property
    def folder(self) -> Path:
        """Where `published` is. Raises OvertureError for a model that is not installed."""
        from overture.models import sources

        named = str(self.published)
        return sources.find(named) if named in sources.SOURCES else Path(named)


@lru_cache(maxsize=8)  # of a published model it can be tens of megabytes, and every batch asks for its special tokens
def _taken(tokens: Tokens) -> "tuple[Tokenizer, dict[str, str]]":
    """The tokenizer of `tokens.published` with its blocks, and what its special tokens are called by role."""
    from tokenizers import Tokenizer

    folder = tokens.folder
    try:
        tokenizer = Tokenizer.from_file(str(folder / FILE))
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf8"))
    except Exception as error:  # tokenizers raises nothing finer
        raise OvertureError(
            f"frontend.published={tokens.published!r}: no tokenizer.json and tokenizer_config.json that can be read there ({error})"
        ) from error
    roles = {k: v["content"] if isinstance(v, dict) else v for k, v in said.items() if k in (*ROLES, BEGIN) and v}
    tokenizer.no_truncation()  # examples are cut and padded here
    tokenizer.no_padding()
    tokenizer.add_special_tokens(list(tokens.blocks))
    if (have := tokenizer.get_vocab_size()) > tokens.vocabulary:
        raise OvertureError(f"{folder} has {have:,} tokens with its blocks: set frontend.vocabulary={have} or higher")
    return tokenizer, roles


def train(tokens: Tokens, texts: "Iterator[str]") -> "Tokenizer":
    """A tokenizer of `tokens.vocabulary` ids at most: special ones first, then blocks, then what was learnt.

    Line ends are tokens of their own, so a line of a program or a paragraph begins with a token. Raises OvertureError where the vocabulary
    is too small to hold what it has to begin with.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    known: dict[str, Any] = {
        "vocab_size": tokens.vocabulary,
        "special_tokens": [*SPECIAL, *tokens.blocks],
        "show_progress": False,
    }
    least = len(SPECIAL) + len(tokens.blocks) + 256
    if tokens.vocabulary < least:
        raise OvertureError(
            f"frontend.vocabulary={tokens.vocabulary} is less than special tokens, blocks and bytes need: {least}"
        )
    lines = pre_tokenizers.Split(Regex(r"\n"), "isolated")
    trainer: Any
    if tokens.kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(**known, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    elif tokens.kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.Metaspace()])
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(**known, unk_token=UNKNOWN)
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(**known)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _kept(tokens: Tokens, table: "Table") -> "Tokenizer":
    """The tokenizer that `tokens` come to on `table`, from its artifact, trained if there is none."""
    from tokenizers import Tokenizer

    made_of = {
        "kind": tokens.kind,
        "vocabulary": tokens.vocabulary,
        "blocks": tokens.blocks,
        "table": table.fingerprint,
        "format": 1,
    }
    path = _folder() / fingerprint(made_of) / FILE
    if not path.exists():
        if not table.is_text:
            raise OvertureError(f"corpus {table.name!r} is speech; what is trained on it cannot read text")
        texts = table.columns.column("text")
        every = max(1, -(-table.characters // TRAINED_ON))
        _save(train(tokens, (texts[i].as_py() for i in range(0, len(table), every))), path)
    return Tokenizer.from_file(str(path))


def keep(tokenizer: "Tokenizer") -> str:
    """Keep a tokenizer under the fingerprint of all it says; returns that."""
    name = fingerprint(tokenizer.to_str())
    _save(tokenizer, _folder() / name / FILE)
    return name


def _of_name(name: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    path = _folder() / name / FILE
    if not path.exists():
        raise OvertureError(
            f"frontend.kept={name!r}: there is no {path}. The folder of every run that has that tokenizer holds its {FILE}: copy one there."
        )
    return Tokenizer.from_file(str(path))


def _folder() -> Path:
    from overture.data.table import corpora_home

    return corpora_home().parent / "tokenizers"


def _save(tokenizer: "Tokenizer", path: Path) -> None:
    """Written whole, once."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}")
    tokenizer.save(str(part))
    part.rename(path)
