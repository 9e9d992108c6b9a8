"""overture compare on a corpus of text."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from overture.tasks import finetune_classes

from ..tasks.texts import documents, kept, reads
from .conftest import Typed


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_compare_on_text(overture: Callable[..., Typed], elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = kept(documents(), "planted-compared")
    few = partial(finetune_classes.finetune, updates=8, rates=(1e-3, 1e-2))
    monkeypatch.setattr(finetune_classes, "finetune", few)
    monkeypatch.setattr("overture.train.speed.matrix_peak", lambda engine, bf16: 1e9)
    monkeypatch.setattr("overture.recipes.get", lambda name: reads("elsewhere"))
    words = (
        "compare",
        "stability-gap:tiny",
        "--data",
        corpus,
        "--budget",
        "5e3tok",
        "--seeds",
        "1",
        "--labels",
        "6rows,20rows",
    )
    answer = overture(*words)
    assert answer.status == 0, answer.err
    assert "best: " in answer.out and "tf-idf" in answer.out
    page = (elsewhere / answer.out.split("report: ")[1].splitlines()[0]).read_text(encoding="utf8")
    assert "labelled rows, label-finetune" in page and "--labels 6rows,20rows --budget 5e3tok" in page
    for more, said in (
        (
            ("--task", "asr"),
            "task 'asr' is for speech, and corpus 'planted-compared' is text: for that there are label-finetune",
        ),
        (("--budget", "2h-audio"), "a run on text has a budget of tokens, as in 1e6tok"),
    ):
        answer = overture(*words, *more)
        assert answer.status == 1 and said in answer.err and "Traceback" not in answer.err
    monkeypatch.undo()
    monkeypatch.chdir(elsewhere)
    answer = overture("finetune", "stability-gap:tiny", "--data", "embedded")
    assert (
        answer.status == 1
        and "stability-gap:tiny reads text, and what is made here are recognisers of speech" in answer.err
    )
    answer = overture("compare", "tera:tiny", "--data", corpus)
    assert answer.status == 1 and f"tera:tiny hears speech, and corpus '{corpus}' is text" in answer.err
