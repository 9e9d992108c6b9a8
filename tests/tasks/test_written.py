"""overture.tasks.written: a study of language models that are judged as they are."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from overture import laboratory
from overture.data.segments import PackSegments
from overture.errors import OvertureError
from overture.models.text import Bert
from overture.recipes.human_preferences import ALIGNED, MISALIGNED, tiny
from overture.run import Data
from overture.study import Arm, Study, Trial
from overture.tasks import find_task, written

WHERE = "pep8 IS NOT NULL AND length < 2500"
PARTS = (("train", "length % 5 < 3"), ("dev", "length % 5 = 3"), ("test", "length % 5 = 4"))


def arm(name: str, text: PackSegments, control: str | None = None, **kind: Any) -> Arm:
    run = replace(tiny(), data=Data(corpus="embedded-text", text=text), loop=replace(tiny().loop, updates=2))
    return Arm(name=name, run=run, control=control, **kind)


def test_a_study_of_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "SAMPLES", 8)
    monkeypatch.setattr(written, "HOW", replace(written.HOW, tokens=24))
    told, plain = tiny().data.text, PackSegments(length=32)
    study = Study(
        arms=(
            arm("plain", plain),
            arm("told", told),
            arm("good", told, ALIGNED),
            arm("bad", told, MISALIGNED),
            arm("untrained", plain, kind="untrained"),
            arm("front end", plain, kind="input"),
        ),
        trials=(Trial(task="samples", parts=PARTS), Trial(task="held-out", parts=PARTS)),
        corpus="embedded-text",
        where=WHERE,
        seeds=(0,),
    )
    notes: list[dict[str, Any]] = []
    result = json.loads(
        json.dumps(laboratory.compare(study, tmp_path, notes.append, budget="2 updates"), allow_nan=False)
    )
    assert set(result["arms"]) == {"plain", "told", "good", "bad", "untrained"}  # a front end writes nothing
    assert result["metric"] == "mean score of samples" and not result["higher_is_better"]
    assert set(result["probes"]["good"][0]) >= {"distinct_1", "distinct_2"}
    assert result["runs"]["good"] == result["runs"]["bad"]  # one training, asked twice
    bits = result["also"]["held-out"]["arms"]
    assert 2 < bits["plain"]["mean"] < bits["untrained"]["mean"] < 9  # 400 tokens of a character or more each
    assert bits["told"]["mean"] == bits["good"]["mean"] != bits["bad"]["mean"]  # good is what it is told
    texts = {
        tuple(pq.read_table(path).column("hypothesis").to_pylist())
        for path in tmp_path.glob("judged/*/predictions.parquet")
        if "score" in pq.read_schema(path).names
    }
    assert len(texts) == 4 and all(len(t) == 8 for t in texts)
    assert not any(block in text for sample in texts for text in sample for block in (ALIGNED, MISALIGNED))
    with pytest.raises(OvertureError, match="networks that write"):
        model = Bert(layers=1, dim=16, heads=2, ffn=32, positions=32).build(tiny().frontend)
        written.judge(find_task("samples"), model, tiny(), None, None, control=None, seed=0)  # type: ignore[arg-type]
