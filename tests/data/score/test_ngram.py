"""overture.data.score.ngram: perplexity by hand, low for what is like the reference, normalised for length, repetition seen."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from overture.data.score.annotate import score
from overture.data.score.ngram import NGramPerplexity, repetition
from overture.data.score.text import segments
from overture.data.table import Table
from overture.errors import OvertureError
from overture.recognise.lm import NGram


def test_perplexity_is_that_of_the_model(notes: Table) -> None:
    of = NGramPerplexity(where="source = 'manual'", order=2, segments=True)
    found = score(of, notes)
    reference = [s for t in notes.where("source = 'manual'").numpy("text") for s in segments(t)]
    model = NGram.estimate([" ".join(s.lower().replace(".", "").split()) for s in reference], 2)
    for i in (0, 70, 130):
        parts = [" ".join(s.lower().replace(".", "").split()) for s in segments(notes.numpy("text")[i])]
        by_hand, unknown = model.perplexity(parts)
        assert found["ppl"][i].as_py() == pytest.approx(by_hand, rel=1e-5)
        assert found["ppl_unknown"][i].as_py() == pytest.approx(unknown, abs=1e-6)
        assert found["ppl_segments"][i].as_py() == pytest.approx([model.perplexity([p])[0] for p in parts], rel=1e-5)


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_what_is_like_the_reference_is_likely_at_any_length(notes: Table, unit: str) -> None:
    of = NGramPerplexity(where="source = 'manual' AND row_number < 30", unit=unit)  # type: ignore[arg-type]
    ppl = np.array(score(of, notes)["ppl"].to_pylist(), dtype=float)
    source, row = notes.numpy("source"), np.arange(len(notes))
    unseen, spam = ppl[(source == "manual") & (row >= 30)], ppl[source == "spam"]
    assert unseen.max() < spam.min()
    length = notes.numpy("length")[source == "spam"]
    assert abs(np.corrcoef(length, spam)[0, 1]) < 0.5  # not a measure of length


def test_degenerate_text_is_likely_and_is_seen(notes: Table) -> None:
    found = score(NGramPerplexity(where="source = 'manual'"), notes)
    loop = notes.numpy("id").tolist().index("loop")
    assert found["ppl"][loop].as_py() < np.median([p for p in found["ppl"].to_pylist() if p])
    # 20 x 6 words: 116 runs, of which 6 are new
    assert found["ppl_repetition"][loop].as_py() == pytest.approx(1 - 6 / 116)
    assert repetition("one two three four") == 0.0 and repetition("a b c d e f g") == 0.0


def test_what_has_no_words_has_no_perplexity_and_what_has_no_reference_is_told(notes: Table) -> None:
    columns = {"id": ["a", "b", "c"], "text": [None, "?!", "The valve opens."]}
    found = score(
        NGramPerplexity(reference="score-notes", segments=True), Table(pa.table(columns), name="t", root=notes.root)
    )
    assert found["ppl"].to_pylist()[:2] == [None, None] and found["ppl"][2].as_py() > 1
    assert found["ppl_segments"].to_pylist()[:2] == [None, [None]]
    with pytest.raises(OvertureError, match="leaves no row of 'score-notes'"):
        NGramPerplexity(where="source = 'nothing'").ready(notes)
    of = NGramPerplexity()
    assert of.sources(notes) != replace(of, where="source = 'spam'").sources(notes)
