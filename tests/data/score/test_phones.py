"""overture.data.score.phones: the aligner's phones as two columns, null where there are none."""

from pathlib import Path

import numpy as np
import pytest

from overture.data.phones import PHONES, FramePhones
from overture.data.score import scorer
from overture.data.score.annotate import annotate
from overture.data.table import Table, about_corpus, corpora_home
from overture.errors import OvertureError


def test_phones_become_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pocketsphinx")
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    few = Table.open(
        "embedded", "text IN ('Added.', 'All circuits are busy now.') OR language = 'it-IT' AND duration < 0.4"
    )
    few.columns = few.columns.drop_columns(["phones", "phone_ends"])  # which it has already
    few.save("few")
    done = annotate("few", {"phones": scorer("phones")})
    assert done.made == ("phones", "phone_ends")
    table = Table.open("few")
    rows = FramePhones().rows(table)
    assert 0 < len(rows) < len(table)
    for i in range(len(table)):
        row = table.row(i)
        assert (row["phones"] is None) == (row["phone_ends"] is None) == (i not in rows)
        if row["phones"] is not None:
            assert row["language"] == "en-US" and set(row["phones"]) <= set(PHONES)
            assert len(row["phones"]) == len(row["phone_ends"]) and (np.diff([0, *row["phone_ends"]]) > 0).all()
            assert row["phone_ends"][-1] == pytest.approx(row["duration"], abs=1e-3)
    notes = about_corpus(corpora_home() / "few")["scores"]["phones"]["notes"]
    assert notes["aligned"] == len(rows) and notes["not English"] > 0
    assert sum(notes.values()) == len(table)  # each row is aligned or left out for one reason
    assert annotate("few", {"phones": scorer("phones")}).kept == done.made


def test_text_has_no_phones(notes: Table) -> None:
    pytest.importorskip("pocketsphinx")
    with pytest.raises(OvertureError, match="'score-notes' is text"):
        scorer("phones").ready(notes)
