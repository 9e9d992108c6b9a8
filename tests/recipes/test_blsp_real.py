"""The traps of BLSP's sheet that are about published models, on Whisper base and Gemma 3 270M themselves where they are installed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.batch import Batch
from overture.data.sample import Respond
from overture.data.score.continuation import Continuation
from overture.data.states import _loaded
from overture.data.table import Table
from overture.models import sources
from overture.models.speech_text import SpeechTextModel
from overture.objectives.answers import Answers
from overture.recipes import get
from overture.recipes.blsp import ADAPTER, GO_ON
from overture.run import Run
from overture.tasks.metrics import wer
from overture.tasks.spoken import Listener

NAMES = ("whisper-base", "gemma-3-270m")
HOME = sources.home()  # the user's own: tests have another
pytestmark = pytest.mark.skipif(
    not all(map(sources.complete, NAMES)), reason=f"{' and '.join(NAMES)} are not installed"
)
TOKENS = 10  # of a continuation here


@dataclass(frozen=True)
class Real:
    run: Run
    model: SpeechTextModel
    table: Table  # three utterances with what the language model itself says of them, written together

    def batch(self, *rows: int) -> Batch:
        from overture.train.samples import continuous, spoken

        listener = Listener.of(self.model, self.run, self.table)
        render = continuous(self.run, listener.source)
        parts = [render(GO_ON(self.table.row(r), r)) for r in rows]
        return spoken(parts, listener.source, self.run.frontend)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    home = tmp_path_factory.mktemp("real")
    (home / "models").symlink_to(HOME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERTURE_HOME", str(home))
        rows = Table.open("embedded", "language = 'en-US' AND duration BETWEEN 1 AND 4 AND length(text) >= 20")
        rows = rows.take(np.argsort(rows.numpy("duration"))[[0, len(rows) // 2, -1]])
        columns = rows.columns
        for name, values in Continuation(tokens=TOKENS).ready(rows).score(rows).items():
            columns = columns.append_column(name, pa.array(values))
        run = get("blsp").settled()
        torch.manual_seed(0)
        model = run.model.build(run.frontend)
        yield Real(run, model, Table(columns, name=rows.name, root=rows.root, rows=rows.rows))


def test_targets_are_what_it_says_itself_of_the_text_as_it_is_asked_in_training(real: Real) -> None:
    """Written in a batch with a stop; asked again one by one with the sample's own prompt, they are the same, and no transcripts."""
    rows = [real.table.row(i) for i in range(3)]
    written = [str(row["continuation"]) for row in rows]
    listener = Listener.of(real.model, real.run, real.table)
    for row, own in zip(rows, written):
        (again,) = listener.answers([GO_ON.like("text").prompt(row, 0)], tokens=TOKENS)
        assert own and again.startswith(own)
        assert row["continuation_ended"] or again == own
    assert wer([str(row["text"]) for row in rows], written).value > 0.7


def test_a_sample_costs_the_same_in_any_batch(real: Real) -> None:
    """Utterances of different lengths, under instructions of different lengths."""
    listener = Listener.of(real.model, real.run, real.table)
    asked: list[Respond] = [GO_ON, replace(GO_ON, instruction="Somebody said: "), GO_ON]
    samples = [program(real.table.row(i), i) for i, program in enumerate(asked)]
    together = listener.costs(samples)
    np.testing.assert_allclose(together, [listener.costs([s])[0] for s in samples], rtol=1e-4)


def digest(module: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for value in module.state_dict().values():
        found.update(value.numpy().tobytes())
    return found.hexdigest()


def test_the_adapter_learns_through_models_that_stay(real: Real) -> None:
    audio = real.run.frontend.audio
    learns = {n: p for n, p in real.model.named_parameters() if p.requires_grad and n.startswith(ADAPTER[1:])}
    assert len(learns) == len(list(real.model.adapter.parameters()))
    before = digest(real.model.lm)
    optimizer = torch.optim.AdamW(learns.values(), lr=1e-3)
    loss = Answers()(real.model, real.batch(0), None)  # type: ignore[arg-type]
    loss.sum.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in learns.values())
    assert all(p.grad is None for p in real.model.lm.parameters())
    optimizer.step()
    assert digest(real.model.lm) == before
    encoder, _, _ = _loaded(Path(audio.folder), audio.weights)
    assert encoder.mark == audio.weights and not any(p.requires_grad for p in encoder.parameters())
