"""overture.pretraining: what is trained before an arm's own run, and whom it may hear."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from overture.data.grid import Grid
from overture.data.table import Table
from overture.data.voices import SpeakerVectors
from overture.models.origin import Origin
from overture.pretraining import Pretraining
from overture.recipes import get
from overture.run import Grow
from overture.study import Arm, Study, Trial
from overture.trials import Labelled

ENGLISH = "language = 'en' and duration between 0.6 and 4"


def untold(record: dict[str, Any]) -> None: ...


def test_an_arm_is_told_voices_by_an_encoder_that_was_trained_before_it(tmp_path: Path) -> None:
    """Of SV2TTS's sheet: neither the encoder nor the synthesiser hears voices that are judged as unheard; both say whom they have heard."""
    few = "language = 'en' and duration between 0.5 and 1 and speaker in ('joe', 'bob', 'bud')"
    voices = get("ge2e:tiny")
    voices = replace(
        voices,
        data=replace(voices.data, where=few, grid=Grid(values=2, rows=2)),
        loop=replace(voices.loop, updates=1),
    )
    run = get("sv2tts:tiny")
    said = "phones is not null and duration between 0.5 and 2"
    run = replace(
        run,
        data=replace(run.data, where=said, voices=SpeakerVectors()),
        model=replace(run.model, voice=16),  # type: ignore[type-var]
        loop=replace(run.loop, updates=1),
    )
    arm = Arm(name="told", run=run, encoder=voices)
    parts = (("train", "speaker = 'joe'"), ("dev", "speaker = 'chief'"), ("test", "speaker = 'bud'"))
    trial = Trial(task="copy-synthesis", where="duration < 1.5", parts=parts)
    studied = Study(corpus="embedded", where=ENGLISH, arms=(arm,), trials=(trial,), seeds=(0,))
    labelled = Labelled(trial, Table.open("embedded", ENGLISH), untold)
    pretraining = Pretraining(studied, [labelled.held], tmp_path, untold)
    found = pretraining.train(arm, 0)
    first, own = found.runs
    assert own.data.voices == SpeakerVectors(encoder=str(tmp_path / first.folder_name)).settled()
    for heard in (first, own):
        table = Table.open(heard.data.corpus)
        assert len(table) and not {"bud", "chief"} & set(table.numpy("speaker"))
    about = json.loads((tmp_path / own.folder_name / "run.json").read_text())
    assert about["voices"]["of"]["recipe"] == "ge2e" and about["voices"]["heard"][0]["corpus"] == first.data.corpus
    assert Origin.open(own.folder_name, tmp_path).heard[1] == about["voices"]["heard"][0]


def test_how_far_weights_moved_is_not_told_of_what_was_grown(tmp_path: Path) -> None:
    """Nothing of the smaller network has the larger one's shapes, so a distance to it would be 0, or of what did not grow alone."""
    large = get("bert2bert:tiny")
    large = replace(large, loop=replace(large.loop, updates=1))
    small = replace(large, model=replace(large.model, dim=16, heads=1, ffn=32))  # type: ignore[type-var]
    grown = Arm(name="grown", run=replace(large, grow=Grow(method="copy")), stages=(small,))
    on = Arm(name="on", run=large, stages=(large,))
    text = Study(corpus="embedded-text", arms=(grown, on), trials=(Trial(task="held-out-masked"),), seeds=(0,))
    labelled = Labelled(text.trials[0], Table.open("embedded-text"), untold)
    pretraining = Pretraining(text, [labelled.held], tmp_path, untold)
    for arm in (grown, on):
        pretraining.train(arm, 0)
    far = pretraining.moved(on, 0)
    assert pretraining.moved(grown, 0) is None and far is not None and far > 0


def test_voices_may_be_heard_where_a_trial_says_so_but_no_row_of_it() -> None:
    parts = (("train", "speaker = 'joe'"), ("dev", "speaker = 'chief'"), ("test", "speaker = 'bud' and duration < 1"))
    table = Table.open("embedded", ENGLISH)
    held = {}
    for heard in (False, True):
        trial = Trial(task="copy-synthesis", parts=parts, heard=heard)
        held[heard] = set(Labelled(trial, table, untold).held.numpy("id"))
    assert held[True] < held[False]
    assert {len(table.where(f"speaker = 'bud' and {s}")) for s in ("duration < 1", "duration >= 1")}.isdisjoint({0})
    assert not held[True] & set(table.where("speaker = 'bud' and duration >= 1").numpy("id"))
    with pytest.raises(ValueError, match="it does not matter whether they have been heard"):
        Trial(task="asr", heard=True)
