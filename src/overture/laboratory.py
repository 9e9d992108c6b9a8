"""Where a study is conducted: split, pre-train, judge, compare, step by step and resumable.

Fairness is built in: the rows that any trial is scored or tuned on are taken out of pre-training; all arms share splits,
probes and learning-rate sweeps; arms are compared seed by seed and utterance by utterance, and the interval of a difference
spans both that over seeds and that over utterances. An arm whose pre-training a health rule has stopped, with whichever seed,
is reported as stopped and takes part in no mean and no comparison.

`trials` makes the labelled rows ready, `pretraining` trains the arms, `judging` judges each, `verdicts` says what the scores mean, `provenance`
where they come from.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.parquet as pq

from overture import ahead, jsonfile, judging, provenance, rates
from overture.config import fingerprint
from overture.data.split import values_of
from overture.data.table import Table, find_corpus
from overture.errors import OvertureError
from overture.pretraining import Pretraining, Trained
from overture.report import sounds
from overture.run import Run
from overture.steps import Step
from overture.study import Arm, Claim, Study
from overture.tasks import METRICS
from overture.trials import Labelled, Rows
from overture.verdicts import Pairs, Score, measured, verdict, verdict_on

if TYPE_CHECKING:
    from overture.tasks.metrics import GroupRow
    from overture.tasks.probe import ProbeResult

Tell = Callable[[dict[str, Any]], None]


class Laboratory:
    """Conducts a study under a folder; every finished piece is kept, so the same study goes on where it was."""

    def __init__(self, study: Study, home: Path, tell: Tell) -> None:
        self.study, self.home, self.tell = study, home, tell
        for arm in study.arms:
            _check_finetune_model(arm)
            for trial in study.trials:
                if judging.plays(arm, trial.definition):
                    judging.check(arm, trial.definition)
        table = Table.open(study.corpus, study.where)
        self.trials = [Labelled(trial, table, tell) for trial in study.trials]
        self.pretraining = Pretraining(study, [trial.held for trial in self.trials], home, tell)

    def judge(self, arm: Arm, seed: int, number: int, on: Literal["dev", "test"] = "test") -> Score:
        """Probe one arm with one seed on trial `number`, unless that has been done. `on`: the part that it is scored on, of `dev` each other row;
        a probe is tuned on those between."""
        trial, run = self.trials[number], self.pretraining.own(arm, seed)
        task = trial.task
        if task.features == "finetune" and arm.kind != "input":
            tuned = arm.finetune_model
            encoder: Any = [arm.kind, run.fingerprint, tuned and type(tuned).__name__, tuned]
        elif arm.kind in ("trained", "start"):
            encoder = [arm.kind, run.fingerprint]
        elif arm.kind == "input" and run.on_text:
            encoder = [arm.kind]
        else:
            encoder = [arm.kind, run.loop.precision, run.model if arm.kind == "untrained" else None]
        if task.features in ("written", "way"):
            encoder.append(arm.control)
        if trial.trial.vocoder is not None:
            encoder.append(trial.trial.vocoder)
        if arm.steps is not None:
            encoder.append({"steps": arm.steps})
        if trial.trial.rates:
            encoder.append({"rates": trial.trial.rates})
        table, rows = trial.packed(arm.also if task.features == "finetune" else None)
        if on == "dev":
            rows = {**rows, "dev": rows["dev"][::2], "test": rows["dev"][1::2]}
        made_of = {
            "task": task.name,
            "labels": trial.trial.label_minutes if trial.trial.label_rows is None else trial.trial.labels,
            **trial.mark(table, rows),
            "frontend": judging.frontend_of(arm, task),
            "encoder": encoder,
            "seed": seed,
            "format": judging.FORMAT,
        }
        step = Step("judge", made_of, lambda folder: self._probe(folder, arm, run, seed, trial, table, rows))
        self.tell({"kind": "stage", "text": f"{self.study.names[number]}: {arm.name}, seed {seed}"})
        folder = step.perform(self.home / "judged")
        detail = jsonfile.read_object(folder / "result.json")
        if (folder / sounds.FOLDER / sounds.LIST).exists():
            detail["audio"] = str(folder.relative_to(self.home))
        predictions = pq.read_table(folder / "predictions.parquet")
        events = predictions.column(METRICS[task.metric].counted).to_numpy()
        gap = trial.trial.gap
        groups = None if gap is None else values_of(table.take(rows["test"]), gap[0])
        return Score(detail["value"], events, predictions.column("total").to_numpy(), detail, groups)

    def _probe(self, folder: Path, arm: Arm, run: Run, seed: int, trial: Labelled, table: Table, rows: Rows) -> None:
        from overture.tasks.made import Synthesised

        result = judging.judge(
            arm, run, seed, trial, table, rows,
            weights=self.pretraining.weights(arm, seed), cache=folder / "features", home=self.home, tell=self.tell,
        )  # fmt: skip
        result.write_predictions(folder / "predictions.parquet")
        if isinstance(result, Synthesised):
            sounds.write(folder, result.shown, result.shown_rate)
        record: dict[str, Any] = {
            "metric": result.metric,
            "value": result.value,
            "interval": result.interval,
            "groups": [
                {"column": g.column, "value": g.group, "n": g.utterances, "metric": g.value, "ci95": g.interval}
                for g in [*result.by_group, *_groups(trial.trial.by, result, table)]
            ],
            "rate": result.rate,
            "rate_at_edge": result.rate_at_edge and len(result.dev) > 2,
            "dev": result.dev,
            "layer_weights": result.layer_weights,
            "seconds": result.seconds,
            **(
                {"labelled_rows": len(rows["train"])}
                if table.is_text
                else {"labelled_minutes": float(table.numpy("duration")[rows["train"]].sum()) / 60}
            ),
            "left_out": len(result.infeasible),
        }
        record |= judging.beside(result)
        jsonfile.write(folder / "result.json", record)
        shutil.rmtree(folder / "features", ignore_errors=True)  # large, and soon made again

    def _outside(self) -> dict[str, dict[str, Any]]:
        """{trial: {reference: its score}}: networks that no arm is, on the arms' own rows. They decide nothing."""
        return {
            self.study.names[i]: {name: self._reference(name, i) for name in trial.outside}
            for i, trial in enumerate(self.study.trials)
            if trial.outside
        }

    def _reference(self, name: str, number: int) -> dict[str, Any]:
        from overture.tasks import outside

        trial = self.trials[number]
        table, rows = trial.packed()
        if trial.task.metric not in ("accuracy", "hter"):  # it learns nothing here, and no threshold is taken
            table, rows = table.take(rows["test"]), {"test": np.arange(len(rows["test"]))}
        made_of = {
            "reference": name,
            "wheels": outside.wheels(name),
            "task": trial.task.name,
            **trial.mark(table, rows),
        }
        run = self.study.arms[0].run
        if trial.task.features == "spoken":  # its language model reads what the reference writes
            run = run.settled()
            made_of["run"] = fingerprint([run.model, run.data.sample])

        def probe(folder: Path) -> None:
            given: dict[str, Any] = {"metric": trial.task.metric, "run": run, "task": trial.task, "tell": self.tell}
            found = outside.reference(name, table, trial.task.target, rows, seed=0, **given)
            found.write_predictions(folder / "predictions.parquet")
            record = {"value": found.value, "ci95": found.interval, "rate": found.rate}
            jsonfile.write(folder / "result.json", record)

        self.tell({"kind": "stage", "text": f"{self.study.names[number]}: {name}, a reference from outside"})
        folder = Step("outside", made_of, probe).perform(self.home / "judged")
        return jsonfile.read_object(folder / "result.json")

    def gather(self) -> tuple[list[dict[str, list[Score]]], dict[str, list[Trained]], dict[str, list[dict[str, Any]]]]:
        """Train and judge whatever has not been: the scores of each trial by arm, the trainings and the illnesses by arm, seed after seed."""
        scores: list[dict[str, list[Score]]] = [{} for _ in self.trials]
        trained: dict[str, list[Trained]] = {}
        stopped: dict[str, list[dict[str, Any]]] = {}
        for seed in self.study.seeds:  # seed by seed: a study that is stopped has whole comparisons
            for arm in self.study.arms:
                if arm.kind == "trained" or arm.stages:
                    found = self.pretraining.train(arm, seed)
                    trained.setdefault(arm.name, []).append(found)
                    if found.stopped:
                        stopped.setdefault(arm.name, []).append({"seed": seed, **found.stopped})
                        self._tell_stopped(stopped, arm, self.home / found.runs[-1].folder_name)
                if arm.name in stopped:
                    continue
                for i, trial in enumerate(self.trials):
                    if not judging.plays(arm, trial.task):
                        continue
                    scores[i].setdefault(arm.name, []).append(self.judge(arm, seed, i))
        return scores, trained, stopped

    def conduct(self, pairs: Pairs) -> dict[str, Any]:
        """Everything, and the tables of it: arms, comparisons, cost, data. `pairs` says which arms of a task to compare."""
        outside = self._outside()
        scores, trained, stopped = self.gather()
        tables = []
        for i, name in enumerate(self.study.names):
            healthy = {arm: found for arm, found in scores[i].items() if arm not in stopped}
            tables.append(measured(i, name, self.study.trials[i], healthy, pairs, stopped))
        return {
            **tables[0],
            "also": dict(zip(self.study.names[1:], tables[1:], strict=True)),
            "outside": outside,
            "stopped": stopped,
            "kinds": {a.name: a.kind for a in self.study.arms},
            "audio": provenance.of_audio(scores),
            "data": provenance.of_data(self.pretraining, self.trials),
            **provenance.of_trainings(self.pretraining, trained, stopped),
            "commit": provenance.of_code(),
        }

    def _tell_stopped(self, stopped: dict[str, list[dict[str, Any]]], arm: Arm, folder: Path) -> None:
        """Say that a run was stopped. Raises OvertureError when no pre-trained arm without such a run is left."""
        last = stopped[arm.name][-1]
        text = f"{arm.name} takes part in no comparison: stopped at update {last['update']} with seed {last['seed']}: {last['cause']}."
        self.tell({"kind": "note", "text": f"{text} To train it again, delete {folder}"})
        trained = [a.name for a in self.study.arms if a.kind in ("trained", "start")]
        if all(name in stopped for name in trained):
            first = [(name, stopped[name][0]) for name in trained]
            said = "; ".join(
                f"{name} stopped at update {s['update']} with seed {s['seed']}: {s['cause']}: {s['message']}"
                for name, s in first
            )
            raise OvertureError(
                f"a health rule stopped the pre-training of {'the only arm' if len(trained) == 1 else 'every arm'}, "
                f"so there is nothing to compare: {said}"
            )


def check(claim: Claim, home: Path, tell: Tell, processes: int = 1) -> dict[str, Any]:
    """Run a claim: its result with the computed verdict, as it goes into `results/NAME.json`. `processes`: that work on its seeds side by side."""
    names = claim.study.names
    pairs = [(names[0], better, worse) for better, worse in claim.expected] + list(claim.expected_also)
    if unknown := {t for t, _, _ in pairs} - set(names):
        raise ValueError(f"the claim expects something of {unknown}, its trials are {names}")
    _look_for(claim)
    study, tried = rates.chosen(claim.study, lambda: Laboratory(claim.study, home, tell))
    if processes > 1:
        ahead.gather(study, home, tell, processes)
    result = Laboratory(study, home, tell).conduct(lambda i, _: [(b, w) for t, b, w in pairs if t == names[i]])
    for task, part in result["also"].items():
        asked = [(b, w) for t, b, w in pairs if t == task]
        if asked:
            part["verdict"] = verdict_on(asked, part, result["stopped"])
    return {
        "recipe": claim.recipe,
        "claim": claim.text,
        "verdict": verdict_on(claim.expected, result, result["stopped"]),
        "expected": [list(pair) for pair in claim.expected],
        "expected_also": [list(pair) for pair in claim.expected_also],
        **result,
        "rates": tried,
        "deviations": list(claim.deviations),
    }


def _look_for(claim: Claim) -> None:
    """Raises OvertureError saying how to make the corpora of a claim, before any work, where one of them is not here."""
    study = claim.study
    runs = [run for arm in study.arms for run in arm.earlier]
    names = {study.corpus, *(t.corpus for t in study.trials if t.corpus), *(run.data.corpus for run in runs)}
    for name in sorted(names):
        try:
            find_corpus(name)
        except OvertureError as error:
            ways = claim.corpora or (f"overture data get {' '.join(sorted(names - {'embedded'}))}",)
            raise OvertureError(
                f"{error}\nWhat this claim is checked on is made by:\n" + "\n".join(f"  {way}" for way in ways)
            ) from error


def compare(study: Study, home: Path, tell: Tell, *, budget: str) -> dict[str, Any]:
    """Run a comparison: its tables, and which arm is best and whether its lead over each other arm is real."""

    def best_against_rest(number: int, arms: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
        up = study.trials[number].definition.higher_is_better
        names = sorted(arms, key=lambda a: arms[a]["mean"], reverse=up)
        return [(names[0], name) for name in names[1:]]

    result = Laboratory(study, home, tell).conduct(best_against_rest)
    best = result["comparisons"][0]["better"] if result["comparisons"] else next(iter(result["arms"]))
    return {
        "kind": "comparison",
        "budget": budget,
        "best": best,
        "best_is_real": bool(result["comparisons"])
        and verdict(result["comparisons"], result["higher_is_better"]) == "holds",
        **result,
    }


def _groups(by: str | None, result: "ProbeResult", table: Table) -> "list[GroupRow]":
    """The score by the values of a column, where the trial asks for that."""
    if by is None:
        return []
    from overture.tasks.metrics import by_group

    values = dict(zip(map(str, table.numpy("id")), table.numpy(by)))
    return by_group(result.counts, {by: [values[i] for i in result.predictions.column("id").to_pylist()]})


def _check_finetune_model(arm: Arm) -> None:
    """Raises OvertureError when an arm's pre-trained weights are not exactly those of the network that is to be fine-tuned."""
    if arm.finetune_model is None or arm.kind != "trained":
        return
    import torch

    with torch.device("meta"):
        trained, tuned = (
            {n: tuple(v.shape) for n, v in spec.build(arm.run.frontend).state_dict().items()}
            for spec in (arm.run.model, arm.finetune_model)
        )
    wrong = {
        "without pre-trained weights": sorted(tuned.keys() - trained.keys()),
        "pre-trained and left over": sorted(trained.keys() - tuned.keys()),
        "of another size": sorted(n for n in trained.keys() & tuned.keys() if trained[n] != tuned[n]),
    }
    said = [f"{what}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for what, names in wrong.items() if names]
    if said:
        raise OvertureError(f"arm {arm.name!r} cannot be fine-tuned in another network than its own: {'; '.join(said)}")
