"""CTC on frozen frames: it finds a planted alignment, and says what it left out."""

import numpy as np
import pytest

from overture.errors import OvertureError
from overture.tasks.features import Frames
from overture.tasks.transcribe import transcribe

from .conftest import SPOKEN, table

WORDS = ("anna", "otto", "lea", "mal", "tal", "not")


def spoken(n=60, states=3, dim=12, layer=1, noise=0.3, seed=0):
    """Utterances of toy words, each character two frames and now and then a blank one; only one state carries them."""
    rng = np.random.default_rng(seed)
    letters = sorted(set("".join(WORDS) + " "))
    codes = rng.normal(size=(len(letters) + 1, dim)) * 2
    packed, texts = [], []
    for _ in range(n):
        text = " ".join(rng.choice(WORDS, size=rng.integers(1, 4)))
        path = []
        for c in text:
            path += [letters.index(c) + 1] * 2 + [0] * (1 + int(rng.integers(2)))
        x = rng.normal(size=(len(path), states, dim)) * noise
        x[:, layer] += codes[path]
        packed.append((x * np.array([30, 1, 0.1])[:states, None]).astype(np.float16))
        texts.append(text)
    lengths = np.array([len(p) for p in packed])
    starts = np.cumsum(lengths) - lengths
    rows = table(n, text=texts, speaker=[f"s{i % 2}" for i in range(n)])
    return Frames(np.concatenate(packed), starts, lengths, 50.0, 1), rows


def test_ctc_learns_a_planted_alignment():
    frames, rows = spoken()
    result = transcribe(frames, rows, **SPOKEN)
    assert result.metric == "cer" and result.value < 0.02 and np.argmax(result.layer_weights) == 1
    assert result.infeasible == [] and result.dev[result.rate] == min(result.dev.values())
    back = result.predictions.to_pylist()
    assert [p["reference"] for p in back] == [rows.row(i)["text"] for i in SPOKEN["test"]]
    assert sum(p["errors"] for p in back) / sum(p["total"] for p in back) == result.value
    again = transcribe(frames, rows, **SPOKEN)
    assert again.layer_weights == result.layer_weights and again.predictions.equals(result.predictions)


def test_ctc_says_what_it_left_out_and_scores_every_test_row():
    frames, rows = spoken()
    texts = list(rows.numpy("text"))
    texts[3] = "a" * 400
    texts[41] = "l" * 400
    texts[50] = "anna ж"  # a letter training never saw
    texts[51] = ""
    result = transcribe(frames, table(60, text=texts), **SPOKEN)
    assert [r.id for r in result.infeasible] == ["u3", "u41"] and result.infeasible[0].needed == 799
    back = result.predictions.to_pylist()
    assert len(back) == 12 and back[2]["reference"] == "anna ж" and back[2]["errors"] >= 1
    assert back[3]["total"] == 0 and back[3]["errors"] == len(back[3]["hypothesis"]) > 0


def test_ctc_at_a_frame_rate_too_low():
    frames, rows = spoken()
    short = Frames(frames.packed, frames.starts, np.full(60, 2), 2.0, 25)
    with pytest.raises(OvertureError, match=r"all 40 training rows have too few frames at 2 Hz"):
        transcribe(short, rows, **SPOKEN)
