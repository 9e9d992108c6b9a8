"""overture.data.score.annotate: once, whole or not at all, never a wrong record; then thresholds are SQL."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from overture import jsonfile
from overture.corpora.derive import derive
from overture.data.augment import WaveAugment
from overture.data.score import Ready, scorer
from overture.data.score import annotate as module
from overture.data.score.annotate import annotate, score
from overture.data.score.classifier import QUALITY
from overture.data.score.ngram import NGramPerplexity
from overture.data.score.pii import PersonalData
from overture.data.table import Table, about_corpus, find_corpus
from overture.errors import OvertureError

from .conftest import build

LIKE_MANUALS = replace(QUALITY, positive="source = 'manual'", negative="source = 'spam'")


@pytest.fixture
def corpus(overture_home: object) -> str:
    return build("annotated")


def test_scores_are_written_with_what_made_them_and_once(corpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 50)  # four batches
    before = Table.open(corpus)
    of = {"ngram": NGramPerplexity(where="source = 'manual'", segments=True), "quality": LIKE_MANUALS}
    told: list[tuple[str, int, int]] = []
    done = annotate(corpus, of, progress=lambda *what: told.append(what))
    assert done.made == (*of["ngram"].columns, "quality", "segments") and done.kept == ()
    assert told[:4] == [("ngram", n, len(before)) for n in (50, 100, 150, len(before))]
    after = Table.open(corpus)
    assert (
        after.columns.select(before.columns.column_names).equals(before.columns)
        and after.fingerprint == before.fingerprint
    )
    for key in of:
        for name, values in score(of[key], before).items():
            assert after.columns.column(name).to_pylist() == values.to_pylist()
    stops, parts = (after.columns.column(c).to_pylist() for c in ("segments", "ppl_segments"))
    assert all(len(a) == len(b) and a[-1] == n for a, b, n in zip(stops, parts, after.numpy("length"), strict=True))
    record = about_corpus(find_corpus(corpus))["scores"]
    assert set(record) == {*done.made}
    assert record["ppl"]["settings"]["order"] == 3 and record["ppl"]["sources"]["reference"]["rows"] == 60
    assert record["quality"]["notes"]["auc"] > 0.95
    stamp = (find_corpus(corpus) / "table.parquet").stat().st_mtime_ns
    again = annotate(corpus, of)
    assert again.made == () and set(again.kept) == {*done.made}
    assert (find_corpus(corpus) / "table.parquet").stat().st_mtime_ns == stamp


def test_other_settings_are_told_and_need_replace(corpus: str) -> None:
    annotate(corpus, {"ngram": NGramPerplexity(where="source = 'manual'", segments=True), "pii": PersonalData()})
    before = Table.open(corpus).columns
    other = {"ngram": NGramPerplexity(where="source = 'spam'")}
    with pytest.raises(
        OvertureError, match=r"'ppl' already: made by ngram with .*where \"source = 'manual'\", now .*--replace"
    ):
        annotate(corpus, other)
    assert Table.open(corpus).columns.equals(before)
    done = annotate(corpus, other, replace=True)
    after = Table.open(corpus)
    assert done.made == ("ppl", "ppl_unknown", "ppl_repetition")
    assert after.columns.column("ppl").to_pylist() != before.column("ppl").to_pylist()
    assert "ppl_segments" not in after.columns.column_names  # of the other making
    assert after.columns.column("pii").equals(before.column("pii")) and {
        *about_corpus(find_corpus(corpus))["scores"]
    } >= {"pii", "ppl", "segments"}
    # under another name both can be there
    annotate(corpus, {"ngram": replace(other["ngram"], name="like_manual", where="source = 'manual'")})
    assert {"ppl", "like_manual"} <= {*Table.open(corpus).columns.column_names}


def test_a_column_of_unknown_making_is_not_taken_for_a_score(corpus: str) -> None:
    annotate(corpus, {"pii": PersonalData()})
    path = find_corpus(corpus) / "corpus.json"
    about = json.loads(path.read_text())
    del about["scores"]["pii"]
    jsonfile.write(path, about)
    with pytest.raises(OvertureError, match="'pii' already: nothing says what made it"):
        annotate(corpus, {"pii": PersonalData()})
    assert "pii" in annotate(corpus, {"pii": PersonalData()}, replace=True).made
    with pytest.raises(OvertureError, match="both give the column 'ppl'"):
        annotate(corpus, {"ngram": NGramPerplexity(), "other": NGramPerplexity()})
    with pytest.raises(OvertureError, match="would replace the column 'text', which is the corpus"):
        annotate(corpus, {"ngram": NGramPerplexity(name="text")}, replace=True)


@dataclass(frozen=True, kw_only=True)
class Constant:
    value: float = 1.0
    columns = ("constant",)

    def sources(self, table: Table) -> dict[str, Any]:
        return {}

    def ready(self, table: Table) -> Ready:
        return Ready(lambda rows: {"constant": pa.array([self.value] * len(rows))})


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [0, 1, 2])
def test_killed_at_any_write_it_never_leaves_a_wrong_record(
    corpus: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate(corpus, {"constant": Constant()})
    folder, real = find_corpus(corpus), (jsonfile.write, module.pq.write_table)
    left = [at]

    def killing(write: Any) -> Any:
        def go(*args: Any, **options: Any) -> None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            write(*args, **options)

        return go

    monkeypatch.setattr(module.jsonfile, "write", killing(real[0]))
    monkeypatch.setattr(module.pq, "write_table", killing(real[1]))
    with pytest.raises(Killed):
        annotate(corpus, {"constant": Constant(value=2.0)}, replace=True)
    monkeypatch.undo()
    (value,) = {*Table.open(corpus).columns.column("constant").to_pylist()}
    record = about_corpus(folder).get("scores", {}).get("constant")
    assert record is None or record["settings"]["value"] == value
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []
    annotate(corpus, {"constant": Constant(value=2.0)}, replace=True)
    assert {*Table.open(corpus).columns.column("constant").to_pylist()} == {2.0}
    assert about_corpus(folder)["scores"]["constant"]["settings"]["value"] == 2.0


def test_what_comes_with_overture_is_scored_under_another_name() -> None:
    with pytest.raises(OvertureError, match=r"comes with Overture and is not written to: .*--as embedded-scored"):
        annotate("embedded", {"pii": PersonalData()})
    with pytest.raises(OvertureError, match="comes with Overture"):
        annotate("embedded", {"pii": PersonalData()}, name="embedded")
    assert annotate("embedded", {"pii": PersonalData()}, name="own").made[0] == "pii"
    assert annotate("embedded", {"pii": PersonalData()}, name="own").made == ()
    own = Table.open("own", "pii = 0")
    assert len(own) == len(Table.open("embedded")) and Path(own.row(0)["audio"]).exists()
    with pytest.raises(OvertureError, match=r"'own' already .* is not the rows of 'annotated'"):
        annotate(build("annotated"), {"pii": PersonalData()}, name="own")


def test_recordings_that_are_altered_lose_their_scores() -> None:
    Table.open("embedded", "duration < 0.9 AND speaker = 'bob'").save("bob")
    annotate("bob", {"snr": scorer("snr")})
    derive("bob-noisy", "bob", WaveAugment(speed=(1.0,), mulaw=True, share=1.0))
    noisy = Table.open("bob-noisy")
    assert len(noisy) == len(Table.open("bob")) and "snr" not in noisy.columns.column_names
    # scores of the parent that come later do not make it another corpus
    annotate("bob", {"length": scorer("length")})
    assert derive("bob-noisy", "bob", WaveAugment(speed=(1.0,), mulaw=True, share=1.0))["rows"] == len(noisy)


@pytest.fixture(scope="module")
def scored(overture_home: object) -> Table:
    corpus = build("scored")
    annotate(corpus, {"quality": LIKE_MANUALS, "ngram": NGramPerplexity(where="source = 'manual'")})
    return Table.open(corpus)


def test_thresholds_and_their_inverse_are_sql(scored: Table) -> None:
    # keep share by threshold is monotone, and recomputed of the raw score
    kept = [len(scored.where(f"quality >= {t}")) for t in (0.0, 0.1, 0.3, 0.5, 0.9)]
    assert kept[0] == len(scored) and kept == sorted(kept, reverse=True) and kept[-1] < kept[0]
    high, low = scored.where("quality >= 0.5"), scored.where("quality < 0.5")
    assert low.numpy("quality").max() < 0.5 <= high.numpy("quality").min()
    assert sorted(np.concatenate([high.rows, low.rows])) == list(range(len(scored)))
    # a share instead of a number: the worst tenth goes
    tenth = scored.where("quality > (SELECT quantile_cont(quality, 0.1) FROM rows)")
    assert len(tenth) == pytest.approx(0.9 * len(scored), abs=1)


def test_the_filters_of_the_guide_are_sql(scored: Table) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "data-program.md").read_text(encoding="utf8")
    filters = re.findall(
        r"^\| .* \| `(.*)` \|$", guide.split("## Filters are SQL")[1].split("How much")[0], flags=re.MULTILINE
    )
    assert filters.pop(0) == "--where" and len(filters) == 10
    columns = scored.columns.append_column("domain", scored.columns.column("source"))
    columns = columns.append_column("pep8", columns.column("ppl")).append_column("snr", columns.column("ppl"))
    known = Table(columns.append_column("speech", columns.column("quality")), name="known", root=Path())
    kept = {where: len(known.where(where)) for where in filters}
    nothing_to_leave_out = {"source <> 'books'", "NOT (label = 'library' AND domain = 'manual')", "pep8 IS NOT NULL"}
    assert all(0 < n < len(known) for where, n in kept.items() if where not in nothing_to_leave_out), kept
    assert all(n > 0 for n in kept.values())


def test_cuts_by_age_and_leaving_one_out_are_sql(scored: Table) -> None:
    until, times = scored.where("time < '2010'"), scored.numpy("time")
    assert sorted(until.rows) == [i for i, t in enumerate(times) if t is not None and int(t[:4]) <= 2009]
    assert len(until) == 90 and len(scored.where("time >= '2010' OR time IS NULL")) == len(scored) - 90
    assert len(scored.where("time >= '2005' AND time < '2010'")) == 45
    without = scored.where("source <> 'spam'")
    assert len(without) == len(scored) - 60 and "spam" not in without.numpy("source")
    # rows of reference left out, boilerplate left out
    fit = scored.where("NOT (source = 'manual') AND ppl_repetition < 0.5 AND kind IS DISTINCT FROM 'code'")
    assert "loop" in scored.numpy("id") and "loop" not in fit.numpy("id") and "manual" not in fit.numpy("source")
