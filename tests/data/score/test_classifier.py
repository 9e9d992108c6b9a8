"""overture.data.score.classifier: one polarity, a judge that was not trained, segments."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from overture.data.score.annotate import score
from overture.data.score.classifier import QUALITY, TOXICITY, _tenth
from overture.data.score.text import Segments
from overture.data.table import Table
from overture.errors import OvertureError

LIKE_MANUALS = replace(QUALITY, positive="source = 'manual'", negative="source = 'spam'")
RUDE = replace(TOXICITY, positive="label = 'rude'", negative="label = 'fine'", segments=True)


def test_one_is_like_the_positive_rows_whatever_the_name(notes: Table) -> None:
    source, label = notes.numpy("source"), notes.numpy("label")
    quality = np.array(score(LIKE_MANUALS, notes)["quality"].to_pylist())
    assert quality[source == "manual"].min() > 0.5 > quality[source == "spam"].max()
    toxicity = np.array(score(RUDE, notes)["toxicity"].to_pylist())
    assert toxicity[label == "rude"].mean() > 0.8 and toxicity[label == "fine"].mean() < 0.2
    swapped = replace(LIKE_MANUALS, positive=LIKE_MANUALS.negative, negative=LIKE_MANUALS.positive)
    assert np.array(score(swapped, notes)["quality"].to_pylist()) == pytest.approx(1 - quality, abs=1e-3)


def test_rows_that_judge_do_not_train(notes: Table) -> None:
    notes_of = LIKE_MANUALS.ready(notes).notes
    texts = notes.where("source IN ('manual', 'spam')").numpy("text")
    aside = sum(_tenth(t) for t in texts)
    assert notes_of["judged_by"] == aside > 0 and notes_of["trained_on"] == len(texts) - aside
    assert notes_of["auc"] > 0.95
    # of labels that mean nothing it says so: what judges was not seen
    luck = replace(
        LIKE_MANUALS, positive="hash(id) % 2 = 0 AND source = 'spam'", negative="hash(id) % 2 = 1 AND source = 'spam'"
    )
    assert abs(luck.ready(notes).notes["auc"] - 0.5) < 0.45


def test_segments_are_scored_each_for_itself(notes: Table) -> None:
    found = score(RUDE, notes)
    of = RUDE.ready(notes)
    at = 130
    parts = found["toxicity_segments"][at].as_py()
    stops = score(Segments(), notes)["segments"][at].as_py()
    assert len(parts) == len(stops)
    text = notes.numpy("text")[at]
    first = Table(pa.table({"id": ["x"], "text": [text[: stops[0]]]}), name="one", root=notes.root)
    assert of.score(first)["toxicity"][0].as_py() == pytest.approx(parts[0], abs=1e-5)


def test_heaps_that_are_none_are_told(notes: Table) -> None:
    for changes, said in (
        ({"positive": ""}, r'--set "quality\.positive='),
        ({"negative": "source = 'nothing'"}, "quality.negative: 0 texts are too few"),
        (
            {"negative": "source IN ('manual', 'spam')"},
            "60 rows of 'score-notes' are positive and negative, such as 'manual0'",
        ),
        ({"negative": "sourc = 'x'"}, "there is no column 'sourc'"),
        ({"reference": "score-note"}, "Did you mean 'score-notes'"),
    ):
        with pytest.raises(OvertureError, match=said):
            replace(LIKE_MANUALS, **changes).ready(notes)  # type: ignore[arg-type]
