"""What a language model does with what it hears, on a network so small that nothing but the arithmetic can be right."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.sample import Respond
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.speech_text import SpeechTextModel
from overture.recipes import blsp
from overture.run import Run
from overture.tasks import find_task, spoken
from overture.tasks.outside import reference
from overture.tasks.spoken import OPTIONS, Listener, judge, questions
from tests.train.test_samples import RUN


@pytest.fixture(scope="module")
def table() -> Table:
    rows = Table.open("embedded", "duration < 2.5")
    rows = rows.take(np.arange(12))
    said = [f" and then {text}" for text in rows.columns.column("text").to_pylist()]
    return Table(
        rows.columns.append_column("continuation", pa.array(said)), name=rows.name, root=rows.root, rows=rows.rows
    )


@pytest.fixture(scope="module")
def model() -> SpeechTextModel:
    torch.manual_seed(0)
    found: SpeechTextModel = RUN.model.build(RUN.frontend)
    return found.eval()


TEST = np.array([1, 3, 4, 7, 8, 9, 11])


def test_the_gap_is_counted_row_by_row(model: SpeechTextModel, table: Table) -> None:
    found = judge(find_task("gap-closure"), model, RUN, table, TEST)
    columns = {
        n: found.predictions.column(n).to_numpy() for n in found.predictions.column_names if n.startswith("nats")
    }
    np.testing.assert_allclose(found.counts.events, columns["nats_exchanged"] - columns["nats_speech"])
    np.testing.assert_allclose(found.counts.totals, columns["nats_nothing"] - columns["nats_text"])
    assert found.value == pytest.approx(found.counts.events.sum() / found.counts.totals.sum())
    # Each row's cost by itself, from its sample, is what the batch said.
    listener = Listener.of(model, RUN, table)
    program = replace(listener.program, column="continuation")
    alone = listener.costs([program(table.row(4), 4)])
    assert columns["nats_speech"][2] == pytest.approx(alone[0], rel=1e-4)
    assert spoken.nats_by_condition(found.predictions).keys() == columns.keys()


def test_an_adapter_that_says_nothing_closes_nothing(model: SpeechTextModel, table: Table) -> None:
    deaf = RUN.model.build(RUN.frontend)
    deaf.load_state_dict(model.state_dict())
    torch.nn.init.zeros_(deaf.adapter.norm.weight)  # every vector is the same
    found = judge(find_task("gap-closure"), deaf, RUN, table, TEST)
    lengths = {round(float(table.row(int(r))["duration"]), 1) for r in TEST}
    assert len(lengths) > 1  # so the number of vectors still says something
    assert abs(found.counts.events.sum()) < abs(found.counts.totals.sum()) * 0.5


def test_what_is_chosen_is_the_word_that_gains_most(
    model: SpeechTextModel, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions([str(table.row(int(r))["text"]) for r in TEST], [str(table.row(int(r))["id"]) for r in TEST])

    def costs(told: dict[str, float]) -> Callable[..., np.ndarray]:
        def fake(self: Listener, samples: list) -> np.ndarray:  # type: ignore[type-arg]
            heard = any(s.kind == "audio" for s in samples[0])
            right = {(p, words[a]) for p, words, a in asked}
            out = []
            for n, sample in enumerate(samples):
                place = asked[n // OPTIONS][0]
                is_right = (place, str(sample[-1].payload)) in right
                out.append(told["heard" if heard else "other"] * is_right + len(str(sample[-1].payload)))
            return np.array(out, dtype=float)

        return fake

    monkeypatch.setattr(Listener, "costs", costs({"heard": -1.0, "other": 0.0}))
    found = judge(find_task("heard-word"), model, RUN, table, TEST)
    assert found.value == 1.0 and len(found.predictions) == len(asked)
    monkeypatch.setattr(Listener, "costs", costs({"heard": 1.0, "other": 0.0}))
    assert judge(find_task("heard-word"), model, RUN, table, TEST).value == 0.0


def test_questions() -> None:
    texts = ["the castle falls", "the gorilla sings", "a dinosaur roars", "the queen sleeps", "oh no"]
    asked = questions(texts, list("abcde"))
    assert [place for place, _, _ in asked] == [0, 1, 2, 3]  # the last has no word of four letters
    for place, words, right in asked:
        assert len(set(words)) == OPTIONS and words[right] in texts[place].split()
        assert not any(w in texts[place].split() for i, w in enumerate(words) if i != right)
    assert asked == questions(texts, list("abcde"))


def test_echoes_are_counted(model: SpeechTextModel, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [str(table.row(int(r))["text"]) for r in TEST]
    said = [t.upper() + "!" if i % 2 else "something else altogether" for i, t in enumerate(texts)]
    monkeypatch.setattr(Listener, "answers", lambda self, samples, tokens=0: said)
    found = judge(find_task("echo"), model, RUN, table, TEST)
    assert found.counts.events.tolist() == [i % 2 for i in range(len(TEST))]
    again = judge(find_task("repeat"), model, RUN, table, TEST)
    assert again.counts.events[1] == 0 and again.counts.events[0] > 0


def test_answers_are_the_networks(model: SpeechTextModel, table: Table) -> None:
    listener = Listener.of(model, RUN, table)
    rows = [table.row(int(r)) for r in TEST[:3]]
    samples = [listener.program.prompt(row, int(r)) for row, r in zip(rows, TEST)]
    together = listener.answers(samples, tokens=4)
    assert together == [listener.answers([s], tokens=4)[0] for s in samples]


def test_the_prompts_of_other_tasks_are_in_no_training_data() -> None:
    """Of no size, of no arm of the claim."""
    arms = [arm.run for arm in blsp.claim().study.arms]
    row = {**Table.open("embedded").row(0), "continuation": "it is late"}
    for run in (blsp.published(), blsp.default(), blsp.tiny(), *arms):
        assert isinstance(run.data.sample, Respond)
        told = "".join(str(s.payload) for s in run.data.sample.like("text")(row, 0)).lower()
        for asked in (spoken.ASK_WORD, spoken.ASK_REPEAT):
            assert asked.strip(' "').lower() not in told
    texts = Table.open("embedded").columns.column("text").to_pylist()
    for asked in (spoken.ASK_WORD, spoken.ASK_REPEAT):
        assert not any(asked.strip(' "').lower() in str(text).lower() for text in texts)


def test_the_cascade_reads_what_the_recogniser_writes(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim asks for it. Whoever recognises all is worth what the text is; whoever hears always the same closes nothing."""
    gap = blsp.claim().study.trials[0]
    assert gap.task == "gap-closure" and "whisper-base" in gap.outside
    said = [str(table.row(int(r))["text"]) for r in TEST]

    def score(written: list[str]) -> dict[str, np.ndarray]:
        heard = [SimpleNamespace(text=f" {t}") for t in written]
        monkeypatch.setattr("overture.tasks.whisper.transcripts", lambda *_: heard)
        told = {"metric": "closure", "run": RUN, "task": find_task("gap-closure")}
        found = reference("whisper-base", table, "continuation", {"test": TEST}, seed=0, **told)  # type: ignore[arg-type]
        return {n: found.predictions.column(n).to_numpy() for n in found.predictions.column_names if n != "id"}

    right = score(said)
    np.testing.assert_allclose(right["nats_speech"], right["nats_text"], rtol=1e-4)
    same = score(["the same"] * len(TEST))
    np.testing.assert_allclose(same["nats_speech"], same["nats_exchanged"], rtol=1e-4)
    np.testing.assert_allclose(same["nats_text"], right["nats_text"], rtol=1e-4)
    assert (np.abs(same["nats_speech"] - right["nats_speech"]) > 1e-3).any()


def test_a_run_that_does_not_hear(model: SpeechTextModel, table: Table) -> None:
    other: Run = replace(RUN, data=replace(RUN.data, sample=None))
    with pytest.raises(OvertureError, match="does not answer to speech"):
        judge(find_task("echo"), model, other, table, TEST)
