"""What a study trains: the runs of each arm, stage by stage, on rows that no trial is tuned or scored on.

An arm of several stages (multilingual first, then the target language) is a chain of runs, each named after the weights it goes
on from, so a stage that two arms share is trained once a seed, and a killed study goes on where it was.
"""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from overture import jsonfile, outcome
from overture.config import fingerprint
from overture.data.split import same_recordings
from overture.data.table import Table
from overture.data.voices import SpeakerVectors
from overture.errors import OvertureError
from overture.run import Run
from overture.study import Arm, Study

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Trained:
    """An arm with one seed: its runs in order, and what each came to (`updates`, `seconds`, ..., `parameters`; `stopped` where it was)."""

    runs: tuple[Run, ...]
    costs: tuple[dict[str, Any], ...]

    @property
    def stopped(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.costs[-1].get("stopped")
        return found

    @property
    def cost(self) -> dict[str, float]:
        """Of all its runs together; `parameters` of the last."""
        last = self.costs[-1]
        return {k: v if k == "parameters" else sum(c[k] for c in self.costs) for k, v in last.items() if k != "stopped"}


class Pretraining:
    """The trainings of a study, under a folder."""

    def __init__(self, study: Study, held: Sequence[Table], home: Path, tell: Tell) -> None:
        """`held`: the rows that trials are tuned and scored on. Raises OvertureError for an arm whose start has heard one of them."""
        self.study, self.held, self.home, self.tell = study, held, home, tell
        self.owned: dict[tuple[str, int], Run] = {}  # by arm and seed
        for arm in study.arms:
            self._check_start(arm)
        self.table = Table.open(study.corpus, study.where)
        self.corpus = self._without_held(self.table)

    def _without_held(self, table: Table) -> str:
        """`table` without the recordings, or texts, of held rows, as a corpus of its own."""
        out = same_recordings(table, self.held)
        ids = table.numpy("id")
        mark = fingerprint([table.fingerprint, sorted(ids[out].tolist())])[:6]
        return table.take(np.flatnonzero(~out)).save(f"{table.name}~{mark}")

    def _own_rows(self, run: Run) -> str:
        """The corpus of an arm's own run: the study's, or the rows of it that the run asks for."""
        where = run.data.where
        if where is None or where == self.study.where:
            return self.corpus
        return self._without_held(self.table.where(where))

    def _check_start(self, arm: Arm) -> None:
        if arm.run.start is None:
            return
        from overture.models.origin import heard

        tables, unknown = heard(self.home / arm.run.start)
        for what in unknown:
            self.tell(
                {"kind": "note", "text": f"{arm.name}: whether its start has heard test rows cannot be told: {what}"}
            )
        for table in tables:
            if shared := int(same_recordings(table, self.held).sum()):
                what = "texts" if table.is_text else "recordings"
                raise OvertureError(
                    f"arm {arm.name!r} starts from {arm.run.start}, which was trained on {shared} {what} that this study is tuned or scored "
                    f"on (corpus {table.name!r}): leave them out of that run with --where, or choose another start"
                )

    def chain(self, arm: Arm, seed: int) -> Iterator[Run]:
        """The runs of an arm in order, its own last: those of its teacher, its speaker encoder and its stages on their own corpora, the last on the
        study's, all without held rows.

        Each is named after the weights it goes on from, so the next can be asked for only when the one before has ended.
        """
        teacher = yield from self._one_after_another(arm.teacher, seed)
        encoder = yield from self._one_after_another((arm.encoder,) if arm.encoder else (), seed)
        last = yield from self._one_after_another(arm.stages, seed)
        own = arm.run
        if encoder is not None:
            voices = SpeakerVectors(encoder=str(self.home / encoder.folder_name))
            own = replace(own, data=replace(own.data, voices=voices))
        own = self._after(last, own, self._own_rows(own), seed)
        if teacher is not None:
            from overture.models.origin import taught_by

            own = taught_by(own, teacher.folder_name, self.home)
        yield own

    def _one_after_another(self, stages: Sequence[Run], seed: int) -> Generator[Run, None, Run | None]:
        """The runs of `stages`, each going on from the one before; the last is returned."""
        last: Run | None = None
        for stage in stages:
            corpus = self._without_held(Table.open(stage.data.corpus, stage.data.where))
            last = self._after(last, stage, corpus, seed)
            yield last
        return last

    def _after(self, last: Run | None, run: Run, corpus: str, seed: int) -> Run:
        run = replace(run, seed=seed, data=replace(run.data, corpus=corpus, where=None)).settled()
        if last is None and (run.start is None or not run.on_text):
            return run
        from overture.models.origin import Origin
        from overture.models.start import continued

        if last is None:  # its ids are those that its start has learnt
            return replace(run, frontend=Origin.open(str(run.start), self.home).tokens(run.frontend))
        return continued(run, last.folder_name, self.home, given=("frontend", "model"))

    def own(self, arm: Arm, seed: int) -> Run:
        """The arm's own run. Raises OvertureError when a stage before it has not been trained."""
        if (arm.name, seed) not in self.owned:
            *_, self.owned[arm.name, seed] = self.chain(arm, seed)
        return self.owned[arm.name, seed]

    def weights(self, arm: Arm, seed: int) -> Path | None:
        """The folder whose weights the arm is judged by: of its own run, or of what that would start from; None for a control without."""
        own = self.own(arm, seed)
        name = {"trained": own.folder_name, "start": own.start}.get(arm.kind)
        return None if name is None else self.home / name

    def train(self, arm: Arm, seed: int) -> Trained:
        """Train an arm with one seed, as far as that has not been done, and up to the run that a health rule stops."""
        runs: list[Run] = []
        costs: list[dict[str, Any]] = []
        for number, run in enumerate(self.chain(arm, seed)):
            if number == len(arm.earlier) and arm.kind != "trained":
                break
            if run in runs:  # its teacher began as it did
                continue
            runs.append(run)
            costs.append(self._train(run, arm, seed))
            if "stopped" in costs[-1]:
                break
        return Trained(runs=tuple(runs), costs=tuple(costs))

    def moved(self, arm: Arm, seed: int) -> float | None:
        """How far its own training took an arm from where it started: L2 distance over the parameters of the encoder, without heads and quantizers
        of pre-training; None for an arm that did not train, or started from nothing, or from a smaller network that was grown: that has no weights
        to compare with."""
        own = self.own(arm, seed)
        if arm.kind != "trained" or own.start is None or own.grow is not None:
            return None
        from overture.models.origin import Origin
        from overture.models.tuned import unused

        encoder = own.model.build(own.frontend)
        idle = {id(p) for p in unused(encoder, own.frontend)}
        before, after = (Origin.open(name, self.home).weights() for name in (own.start, own.folder_name))
        names = [n for n, p in encoder.named_parameters() if id(p) not in idle and n in before]
        same = [n for n in names if before[n].shape == after[n].shape]
        return math.sqrt(sum(float((after[n].double() - before[n].double()).square().sum()) for n in same))

    def _train(self, run: Run, arm: Arm, seed: int) -> dict[str, Any]:
        from overture.train.engine import Engine
        from overture.train.health import IllRun
        from overture.train.loop import train

        folder = self.home / run.folder_name
        cost = outcome.kept(folder) or outcome.stopped(folder)
        if cost is None:
            self.tell({"kind": "stage", "text": f"pre-training {arm.name}, seed {seed}"})
            try:
                with Engine.start() as engine:
                    found = train(run, folder, engine=engine, on_record=self.tell)
            except IllRun:
                outcome.keep_stopped(folder)
            else:
                if not found.finished:
                    raise KeyboardInterrupt
                outcome.keep(found)
            cost = outcome.kept(folder) or outcome.stopped(folder) or {}
        cost["parameters"] = jsonfile.read_object(folder / "run.json")["parameters"]
        return cost
