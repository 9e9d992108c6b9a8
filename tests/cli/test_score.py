"""`overture data score`: what a person types and sees."""

from collections.abc import Callable
from pathlib import Path

import pytest

from overture.data.table import Table, about_corpus, find_corpus

from ..data.score.conftest import build
from .conftest import Typed

Overture = Callable[..., Typed]


@pytest.fixture
def corpus(overture_home: Path) -> str:
    return build("told")


def test_a_corpus_is_scored_and_then_asked(overture: Overture, corpus: str) -> None:
    words = ("data", "score", corpus, "--with", "length,ngram", "--set", "ngram.where=source = 'manual'", "--segments")
    answer = overture(*words)
    assert answer.status == 0, answer.err
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    table = Table.open(corpus)
    assert lines[0] == f"told: {len(table)} rows"
    shown = next(line for line in lines if line.startswith("characters ")).split()
    assert [shown[1], shown[5]] == [f"{table.numpy('length').min()}", f"{table.numpy('length').max()}"]
    assert any(line.startswith("ppl_segments 0") for line in lines)
    assert any(line.startswith("ngram: reference tokens ") for line in lines)
    assert {"segments", "ppl_segments"} <= set(about_corpus(find_corpus(corpus))["scores"])
    again = overture(*words)
    assert again.status == 0 and "scored before" in again.out
    other = overture("data", "score", corpus, "--with", "ngram")
    assert other.status == 1 and "--replace" in other.err and "where \"source = 'manual'\", now None" in other.err
    assert overture("data", "score", corpus, "--with", "ngram", "--replace").status == 0
    assert "ppl_segments" not in Table.open(corpus).columns.column_names


def test_recordings_that_come_with_overture_are_scored_as_a_corpus_of_ones_own(overture: Overture, corpus: str) -> None:
    answer = overture("data", "score", "embedded", "--with", "length", "--as", "mine")
    assert answer.status == 0 and Table.open("mine", "words > 5").numpy("words").min() == 6
    by_path = overture("data", "score", find_corpus("mine"), "--with", "pii")
    assert by_path.status == 0 and "pii_email" in by_path.out


def test_what_is_wrong_is_told(overture: Overture, corpus: str) -> None:
    for words, said in (
        ((corpus,), "name a scorer with --with:"),
        ((corpus, "--with", "ngrm"), "Did you mean 'ngram'"),
        ((corpus, "--with", "snr"), "'told' is text"),
        ((corpus, "--with", "length", "--segments"), "none of length scores segments"),
        ((corpus, "--with", "ngram", "--set", "ngram.ordr=2"), "no field 'ordr'. Did you mean 'order'"),
        ((corpus, "--with", "ngram", "--set", "pii.segments=true"), "'pii' is not among those of --with (ngram)"),
        ((corpus, "--with", "ngram", "--set", "order=2"), "write SCORER.FIELD=VALUE"),
        (("embedded", "--with", "length"), "--as embedded-scored"),
        (("tld", "--with", "length"), "Did you mean 'told'"),
    ):
        answer = overture("data", "score", *words)
        assert answer.status == 1 and said in answer.err and "Traceback" not in answer.err, answer.err
    assert "scores" not in about_corpus(find_corpus(corpus))
