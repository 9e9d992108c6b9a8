"""overture.tasks.tfidf: the control of text knows what the training rows say, chooses on the development rows, and draws nothing."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from overture.data.table import Table
from overture.errors import OvertureError
from overture.tasks.tfidf import STRENGTHS, classify_texts

from .texts import documents

PARTS = {"train": np.arange(36), "dev": np.arange(36, 48), "test": np.arange(48, 60)}


def test_planted_words_are_found_and_nothing_is_drawn() -> None:
    table = documents()
    result = classify_texts(table, target="label", **PARTS)
    assert (
        result.value >= 0.9
        and set(result.dev) == set(STRENGTHS)
        and result.dev[result.rate] == max(result.dev.values())
    )
    assert result.rate == min(
        c for c in STRENGTHS if result.dev[c] == result.dev[result.rate]
    )  # of equals, the one that is held back most
    assert result.predictions.column("id").to_pylist() == [f"d{i}" for i in range(48, 60)]
    again = classify_texts(table, target="label", **PARTS)
    assert again.predictions.equals(result.predictions) and again.dev == result.dev


def test_labels_of_dev_choose_and_labels_of_test_are_not_looked_at() -> None:
    table = documents()
    at = table.columns.column_names.index("label")
    labels = table.numpy("label").copy()
    labels[48:] = np.where(labels[48:] == "garden", "kitchen", "garden")
    turned = Table(table.columns.set_column(at, "label", pa.array(labels)), name="turned", root=Path())
    one, other = (classify_texts(t, target="label", **PARTS) for t in (table, turned))
    assert one.predictions.column("hypothesis").equals(other.predictions.column("hypothesis"))
    assert other.value == pytest.approx(1 - one.value)


def test_words_without_spaces_and_of_one_letter_are_words() -> None:
    """Vocabulary is Unicode's words, one letter too; a document without any is told by nothing, and is no error."""
    texts = ["a a a", "b b b", "日本 語", "日本 語 !", "…", "a b"] * 4
    labels = ["x", "y", "z", "z", "x", "y"] * 4
    table = Table(
        pa.table({"id": [str(i) for i in range(24)], "text": texts, "label": labels}), name="odd", root=Path()
    )
    result = classify_texts(table, target="label", train=np.arange(12), dev=np.arange(12, 18), test=np.arange(18, 24))
    said = result.predictions.column("hypothesis").to_pylist()
    assert [said[i] for i in (0, 1, 2, 3)] == ["x", "y", "z", "z"]


def test_what_a_user_can_get_wrong() -> None:
    table = documents()
    with pytest.raises(OvertureError, match="nothing to tell apart"):
        classify_texts(table, target="label", **PARTS | {"train": np.arange(0, 36, 2)})
    with pytest.raises(OvertureError, match="twice in train, dev and test"):
        classify_texts(table, target="label", **PARTS | {"dev": np.arange(30, 40)})
