"""overture.data.augment in training: a function of (seed, update, row) alone, within the planned bounds, and never in scoring."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from overture.config import from_dict, override, to_dict
from overture.corpora.add import add
from overture.data.augment import TELEPHONE_BAND, Augmenter, Choice, WaveAugment
from overture.data.draws import Draws
from overture.data.features import LogMel, Waveform
from overture.data.lengths import samples
from overture.data.plan import Position
from overture.data.source import Augmented, Cached, Live, collate
from overture.data.table import Table
from overture.data.waves import power, speed_steps
from overture.errors import OvertureError
from overture.recipes import get
from overture.run import Data, Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import train
from overture.train.state import checkpoints

EVERYTHING: dict[str, Any] = {"reverb": 0.5, "noise": "rumble", "band": TELEPHONE_BAND, "mulaw": True}


@pytest.fixture(scope="module", autouse=True)
def corpora(tmp_path_factory: pytest.TempPathFactory, overture_home: Path) -> None:
    """`rumble`: two recordings of noise, 0.3 s and 10 s, the second with a long pause. `halls`: two impulse responses."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("sounds")
    long = rng.standard_normal(160_000) * 0.1
    long[8_000:150_000] = 0.0
    (folder / "rumble").mkdir()
    sf.write(folder / "rumble" / "long.wav", long, 16_000)
    sf.write(folder / "rumble" / "short.wav", rng.standard_normal(4_800) * 0.1, 16_000)
    add("rumble", folder / "rumble", fill={"licence": "CC0-1.0", "source": "rumble 1"})
    (folder / "halls").mkdir()
    for name, at in (("near", 100), ("far", 900)):
        impulse = np.zeros(4_000)
        impulse[at], impulse[at + 1_600] = 0.9, 0.45
        sf.write(folder / "halls" / f"{name}.wav", impulse, 16_000)
    add("halls", folder / "halls")


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.open("embedded", "duration between 0.5 and 4 and language = 'en'").take(np.arange(40))


@pytest.fixture(scope="module")
def run(table: Table) -> Run:
    """wav2vec 2.0 at its tiny size, with everything that can be done to samples."""
    base = get("wav2vec2:tiny")
    corpus = table.save("few")
    data = Data(corpus=corpus, max_seconds=2.0, augment=WaveAugment(**EVERYTHING))
    return replace(base, data=data, loop=replace(base.loop, updates=4, log_every=1, checkpoint_every=2))


def machine(rank: int = 0, world: int = 1) -> Any:
    return SimpleNamespace(rank=rank, world=world)


def by_row(batches: list[Any]) -> dict[int, np.ndarray]:
    return {int(r): b.x[i, : b.lengths[i]].numpy() for b, real in batches if real for i, r in enumerate(b.rows)}


def same(a: dict[int, np.ndarray], b: dict[int, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[r], b[r]) for r in a)


def test_what_an_utterance_becomes_depends_on_seed_update_and_row_alone(run: Run) -> None:
    training = Training.prepare(run)
    rows = training.plan.updates(0)[0]
    assert len(rows) >= 5
    alone = by_row(training.batches(rows, 7, machine()))
    assert same(alone, by_row(training.batches(rows, 7, machine())))
    assert same(alone, by_row(training.batches(rows[::-1].copy(), 7, machine())))
    two = by_row(training.batches(rows, 7, machine(0, 2))) | by_row(training.batches(rows, 7, machine(1, 2)))
    assert same(alone, two)
    other = [
        by_row(training.batches(rows, 8, machine())),
        by_row(Training.prepare(replace(run, seed=1)).batches(rows, 7, machine())),
        by_row(Training.prepare(replace(run, data=replace(run.data, augment=None))).batches(rows, 7, machine())),
    ]
    for changed in other:
        assert changed.keys() == alone.keys() and not any(np.array_equal(alone[r], changed[r]) for r in alone)


def test_batches_made_ahead_in_threads_and_after_a_restart_are_the_same(run: Run) -> None:
    training = Training.prepare(run)
    stream = training.stream(0, Position(), machine())
    first = [next(stream) for _ in range(6)]
    stream.close()  # type: ignore[attr-defined]
    at = Position()
    for number, (rows, batches) in enumerate(first):
        assert same(by_row(batches), by_row(training.batches(rows, number, machine())))
        if number == 3:
            again = Training.prepare(run).stream(number, at, machine())
            rows_again, batches_again = next(again)
            again.close()  # type: ignore[attr-defined]
            assert np.array_equal(rows, rows_again) and same(by_row(batches), by_row(batches_again))
        at = at.next(training.plan)


def test_no_batch_is_larger_than_planned_and_seconds_are_those_that_were_seen(run: Run) -> None:
    training = Training.prepare(run)
    rate, speeds, kept = run.frontend.rate, set(), 0
    for number, rows in enumerate(training.plan.updates(0)):
        seconds = training.seen(rows, number)
        seen = by_row(training.batches(rows, number, machine()))
        for index, s in zip(rows, seconds):
            steps = len(seen[int(training.examples.table.rows[index])])
            assert abs(steps / rate - s) <= 1 / rate and steps <= samples(run.data.max_seconds, rate)
            assert s <= training.plan.lengths[index] + 1e-9
            whole = training.examples.table.numpy("duration")[index]
            kept += s == run.data.max_seconds
            if s < run.data.max_seconds:
                speeds.add(round(whole / s, 3))
        for batch, _ in training.batches(rows, number, machine()):
            assert batch.x.numel() / rate <= run.plan.micro + len(batch.rows) / rate
    assert speeds == {0.9, 1.0, 1.1} and kept > 0  # each was drawn, and long ones were cropped
    rows = training.plan.largest()
    for batch, _ in training.largest(machine()):
        at = [int(np.flatnonzero(training.examples.table.rows == r)[0]) for r in batch.rows]
        np.testing.assert_allclose(batch.lengths / rate, training.plan.lengths[at], atol=1 / rate)
    plain = Training.prepare(replace(run, data=replace(run.data, augment=None)))
    assert np.array_equal(plain.seen(rows, 0), plain.plan.lengths[rows])


def test_the_shortest_that_a_model_sees_is_min_seconds_at_the_highest_speed(run: Run, table: Table) -> None:
    durations = table.numpy("duration")
    bound = float(np.sort(durations)[5])
    training = Training.prepare(replace(run, data=replace(run.data, min_seconds=bound)))
    assert training.examples.too_short == int((durations / 1.1 < bound).sum()) > int((durations < bound).sum())


def test_scoring_sees_the_recordings_as_they_are(table: Table) -> None:
    clean = Cached.open(table, Waveform())
    source = Augmented(clean, table, Waveform(), WaveAugment(**EVERYTHING | {"share": 1.0}))
    indices = np.array([3, 0, 7])
    scored = collate(source, table.rows, indices, longest=10**6, draws=None)
    assert scored.x.equal(collate(clean, table.rows, indices, longest=10**6, draws=None).x)
    assert np.array_equal(source[3], clean[3])
    trained = collate(source, table.rows, indices, longest=10**6, draws=Draws(0, 0))
    for i, n in enumerate(trained.lengths.tolist()):
        x = trained.x[i, :n].numpy()
        assert abs(float(x.mean())) < 1e-5 and float(x.var()) == pytest.approx(1.0, abs=1e-3)  # as the front end says
        assert not trained.x[i, n:].any()


def test_labels_stay_those_of_the_row(run: Run) -> None:
    from overture.data.batch import Batch

    class Spells:
        column = "text"

        def encode(self, value: str, row: str) -> list[int]:
            return [ord(c) for c in value]

        def __call__(self, model: Any, batch: Batch, draws: Draws) -> Any:
            raise AssertionError("not trained here")

    labelled = replace(run, players=(replace(run.players[0], objective=Spells()),))
    training = Training.prepare(labelled)
    texts = training.examples.table.numpy("text")
    for batch, _ in training.batches(training.plan.updates(0)[0], 3, machine()):
        assert batch.labels is not None and batch.label_lengths is not None
        for row, ids, n in zip(batch.rows.tolist(), batch.labels.tolist(), batch.label_lengths.tolist()):
            text = texts[int(np.flatnonzero(training.examples.table.rows == row)[0])]
            assert "".join(map(chr, ids[:n])) == text


def test_a_killed_run_goes_on_to_the_bit_and_records_what_was_mixed_in(run: Run, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def die(record: dict[str, Any]) -> None:
        if record["kind"] == "checkpoint" and record["update"] == 2:
            raise Killed

    with Engine.start() as engine:
        train(run, tmp_path / "whole", engine=engine)
        with pytest.raises(Killed):
            train(run, tmp_path / "parts", engine=engine, on_record=die)
        outcome = train(run, tmp_path / "parts", engine=engine)
    import safetensors.torch

    ends = [checkpoints(tmp_path / f)[-1] for f in ("whole", "parts")]
    for path in sorted(p.relative_to(ends[0]) for p in ends[0].rglob("*.safetensors")):
        a, b = (safetensors.torch.load_file(end / path) for end in ends)
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    training = Training.prepare(run)
    at, seconds = Position(), 0.0
    for number in range(run.loop.updates):
        seconds += float(training.seen(training.plan.updates(at.epoch)[at.index], number).sum())
        at = at.next(training.plan)
    assert outcome.audio_hours * 3600 == pytest.approx(seconds)
    about = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert about["data"]["mixed_in"] == {"rumble": Table.open("rumble").fingerprint}
    assert "CC0-1.0" in about["data"]["licences"] and "rumble 1" in about["data"]["sources"]
    assert from_dict(run, about["config"]) == run
    about["data"]["mixed_in"]["rumble"] = "0" * 12
    (tmp_path / "parts" / "run.json").write_text(json.dumps(about))
    with Engine.start() as engine, pytest.raises(OvertureError, match=r"corpus 'rumble' .* has changed"):
        train(run, tmp_path / "parts", engine=engine)


def test_spectrograms_are_of_altered_samples_and_cannot_be_stored(table: Table) -> None:
    run = get("tera:tiny")
    few = table.save("few")
    data = Data(corpus=few, max_seconds=2.0, augment=WaveAugment(speed=(0.9, 1.1)))
    with pytest.raises(OvertureError, match=r"LogMel.*data\.cache=false"):
        Training.prepare(replace(run, data=data))
    training = Training.prepare(replace(run, data=replace(data, cache=False)))
    live = Live(table, LogMel())
    source = training.examples.source
    assert isinstance(source, Augmented)
    steps = set()
    for index in range(12):
        wave = live.wave(index)
        speed = source.augmenter.speed(Draws(0, 4).example(int(training.examples.table.rows[index]), 5))
        x = source.altered(index, int(training.examples.table.rows[index]), Draws(0, 4), 10**6)
        assert len(x) == LogMel().steps(speed_steps(len(wave), speed)) and speed in (0.9, 1.1)
        steps.add(len(x) > len(live[index]))
    assert steps == {True, False}


def altered(what: WaveAugment, wave: np.ndarray, rows: int = 40) -> list[tuple[np.ndarray, Choice]]:
    augmenter = Augmenter(what, 16_000)
    return [augmenter(wave, Draws(0, 0).example(row)) for row in range(rows)]


@pytest.fixture(scope="module")
def wave(table: Table) -> np.ndarray:
    return Live(table, Waveform()).wave(0)


def test_shares_ratios_and_what_was_done_are_as_asked(wave: np.ndarray) -> None:
    found = altered(WaveAugment(speed=(1.0,), noise="rumble", snr=(3.0, 9.0), share=0.5, reverb=0.25), wave, 200)
    choices = [c for _, c in found]
    noisy = [c for c in choices if c.snr is not None]
    assert 70 < len(noisy) < 130 and 25 < sum(c.room is not None for c in choices) < 75
    ratios = [c.snr for c in noisy if c.snr is not None]
    assert 3.0 <= min(ratios) < 3.6 and 8.4 < max(ratios) <= 9.0
    assert {name for c in noisy for name in c.noise} == {"long", "short"}
    assert any(len(c.noise) > 1 for c in noisy)  # a short recording is followed by others
    untouched = [x for x, c in found if c == Choice()]
    assert untouched and all(np.array_equal(x, wave) for x in untouched)
    for x, c in found:
        assert len(x) == len(wave) and power(x) == pytest.approx(power(wave), rel=1e-4)
        if c.room is None and c.snr is not None:
            added = x.astype(np.float64) - wave * (x @ wave) / (wave @ wave)
            assert added.any()
    # The noise of an utterance does not depend on its having a room.
    dry = altered(WaveAugment(speed=(1.0,), noise="rumble", snr=(3.0, 9.0), share=0.5), wave, 200)
    assert [(c.noise, c.snr) for _, c in dry] == [(c.noise, c.snr) for c in choices]


def test_a_pause_of_digital_silence_is_not_taken_for_noise(wave: np.ndarray) -> None:
    augmenter = Augmenter(WaveAugment(noise="rumble"), 16_000)
    assert augmenter.noise is not None
    for row in range(60):  # nine of ten places in the long one are silent
        noise, names = augmenter.noise.draw(Draws(0, 0).example(row), 3_000)
        assert len(noise) == 3_000 and noise.any() and len(names) == 1
    augmenter.noise.source.frames = np.zeros(len(augmenter.noise.source.frames), dtype=np.float16)
    with pytest.raises(OvertureError, match=r"'rumble', row .*digital silence"):
        augmenter.noise.draw(Draws(0, 0).example(0), 3_000)


def test_rooms_of_a_corpus_are_used_and_named(wave: np.ndarray) -> None:
    click = np.zeros(8_000, dtype=np.float32)
    click[2_000] = 1.0
    found = altered(WaveAugment(speed=(1.0,), reverb=1.0, impulses="halls"), click, 10)
    assert {c.room for _, c in found} == {"near", "far"}
    for x, _ in found:
        assert int(np.abs(x).argmax()) == 2_000 and x[3_600] / x[2_000] == pytest.approx(0.5, rel=1e-3)
    synthetic = altered(WaveAugment(speed=(1.0,), reverb=1.0), click, 3)
    assert all(c.room is not None and c.room.startswith("synthetic, T60 0.") for _, c in synthetic)


def test_digital_silence_stays_silent() -> None:
    for x, choice in altered(WaveAugment(**EVERYTHING | {"reverb": 1.0, "share": 1.0}), np.zeros(9_000, np.float32), 6):
        assert len(x) == round(9_000 / choice.speed) and not x.any() and choice.snr is None


def test_settings_are_checked_and_set_from_the_command_line(run: Run) -> None:
    for wrong, said in (
        ({"speed": ()}, "speed"),
        ({"speed": (9.0,)}, "between 0.5 and 2"),
        ({"share": 1.5}, "share"),
        ({"reverb": -0.1}, "reverb"),
        ({"impulses": "halls"}, r"needs augment\.reverb"),
        ({"snr": (20.0, 5.0)}, "smaller first"),
        ({"snr": (float("nan"), 5.0)}, "snr"),
        ({"t60": (0.0, 0.5)}, "t60"),
        ({"band": (3400.0, 300.0)}, "band"),
    ):
        with pytest.raises(OvertureError, match=said):
            WaveAugment(**wrong)
    with pytest.raises(OvertureError, match=r"at 8,000 Hz .* below 4000 Hz"):
        Augmenter(WaveAugment(band=(100.0, 4_000.0)), 8_000)
    with pytest.raises(OvertureError, match=r"no corpus 'rumbel'.*'rumble'"):
        Augmenter(WaveAugment(noise="rumbel"), 16_000)
    plain = replace(run, data=Data())
    asked = {"data.augment": '{"noise": "rumble", "snr": [0, 10], "band": [300, 3400], "mulaw": true}'}
    want = WaveAugment(noise="rumble", snr=(0.0, 10.0), band=TELEPHONE_BAND, mulaw=True)
    assert override(plain, asked).data.augment == want
    assert override(override(plain, asked), {"data.augment.share": "1"}).data.augment == replace(want, share=1.0)
    assert from_dict(plain, json.loads(json.dumps(to_dict(run)))) == run
    assert override(run, {"data.augment": "null"}).data.augment is None
    assert override(plain, asked).fingerprint != plain.fingerprint


def test_a_run_stays_light_to_import() -> None:
    heavy = "[m for m in ('torch', 'scipy', 'soxr', 'numpy', 'pyarrow') if m in sys.modules]"
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, overture.run; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"
