"""Where a study is conducted: split, pre-train, judge, compare, step by step and resumable.

Fairness is built in: the rows that any trial is scored or tuned on are taken out of pre-training; all arms share splits,
probes and learning-rate sweeps; arms are compared seed by seed and utterance by utterance, and the interval of a difference
spans both that over seeds and that over utterances. An arm whose pre-training a health rule has stopped, with whichever seed,
is reported as stopped and takes part in no mean and no comparison.
"""

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from overture import outcome
from overture.config import fingerprint
from overture.data.features import LogMel
from overture.data.source import Cached
from overture.data.split import PARTS, Split, same_recordings, split, take_minutes
from overture.data.table import FINGERPRINTED, Table
from overture.errors import OvertureError
from overture.run import Frontend, Run
from overture.steps import Step
from overture.study import Arm, Claim, Study, Trial
from overture.tasks import Task
from overture.verdicts import Score, bounded, compare_arms, verdict, verdict_on, within, word_errors

if TYPE_CHECKING:
    from overture.tasks.align import Alignment
    from overture.tasks.probe import ProbeResult

Tell = Callable[[dict[str, Any]], None]
Pairs = Callable[
    [int, dict[str, dict[str, Any]]], list[tuple[str, str]]
]  # (trial, its arms) -> (better, worse) of them


class Laboratory:
    """Conducts a study under a folder; every finished piece is kept, so the same study goes on where it was."""

    def __init__(self, study: Study, home: Path, tell: Tell) -> None:
        self.study, self.home, self.tell = study, home, tell
        self.table = Table.open(study.corpus, study.where)
        for arm in study.arms:
            _check_finetune_model(arm)
        self.alignments: dict[str, dict[str, Alignment]] = {}  # by fingerprint of the table that was aligned
        self.labelled = [self._labelled(trial) for trial in study.trials]
        self.splits = [self._split(trial, table) for trial, table in zip(study.trials, self.labelled)]
        self.corpus = self._pretraining_corpus()

    def _labelled(self, trial: Trial) -> Table:
        task = trial.definition
        whole = self.table if trial.corpus is None else Table.open(trial.corpus)
        absent = [c for c in task.columns if c not in whole.columns.column_names]
        if absent:
            raise OvertureError(
                f"task {trial.task!r} needs the column(s) {', '.join(absent)}, which corpus {whole.name!r} lacks"
            )
        has = " AND ".join(f"{c} IS NOT NULL AND trim(CAST({c} AS VARCHAR)) <> ''" for c in task.columns)
        table = whole.where(f"({has}) AND duration >= 0.2" + (f" AND ({trial.where})" if trial.where else ""))
        if task.closed_set:
            values = table.numpy(task.target)
            names, counts = np.unique(values.astype(str), return_counts=True)
            kept = set(names[counts >= trial.min_count])
            if len(kept) < 2:
                raise OvertureError(
                    f"task {trial.task!r} needs at least two values of {task.target!r} with {trial.min_count} rows or more; "
                    f"corpus {whole.name!r} has {len(kept)}"
                )
            table = table.take(np.flatnonzero([str(v) in kept for v in values]))
        if task.features == "aligned":
            aligned = self._alignments(table)
            table = table.take(np.flatnonzero([i in aligned for i in table.numpy("id")]))
            self.alignments[table.fingerprint] = aligned
        if len(table) == 0:
            raise OvertureError(
                f"no row of corpus {whole.name!r} can be used for task {trial.task!r}: it needs {', '.join(task.columns)}"
            )
        return table

    def _alignments(self, table: Table) -> "dict[str, Alignment]":
        from overture.tasks import align

        found = self.alignments.get(table.fingerprint)
        if found is None:
            self.tell({"kind": "stage", "text": f"aligning phones of {table.hours:.1f} h"})
            found = self.alignments[table.fingerprint] = align.read(align.aligned(table, self.home / "judged"))
        return found

    def _split(self, trial: Trial, table: Table) -> Split:
        """Train, dev and test rows as the task asks; what it asks for only where possible may be given up, and is then said."""
        task = trial.definition
        shared = task.shared[0] if task.shared else None
        wished = [
            c for c in task.disjoint_if_possible if c in table.columns.column_names and len(set(table.numpy(c))) > 1
        ]
        try:
            return split(table, PARTS, by=[*task.disjoint, *wished], stratify=shared, cross="drop")
        except OvertureError as error:
            if not wished:
                raise
            self.tell(
                {"kind": "note", "text": f"{task.name}: parts share values of {', '.join(wished)}, because {error}"}
            )
            return split(table, PARTS, by=task.disjoint, stratify=shared, cross="drop")

    def _pretraining_corpus(self) -> str:
        """The study's corpus without the recordings that a trial is tuned or scored on, as a corpus of its own.

        Raises OvertureError for an arm whose start has heard such a recording.
        """
        held = [
            table.take(np.concatenate([parts.rows[part] for part in ("dev", "test")]))
            for parts, table in zip(self.splits, self.labelled)
        ]
        for arm in self.study.arms:
            self._check_start(arm, held)
        out = same_recordings(self.table, held)
        ids = self.table.numpy("id")
        mark = fingerprint([self.table.fingerprint, sorted(ids[out].tolist())])[:6]
        return self.table.take(np.flatnonzero(~out)).save(f"{self.table.name}~{mark}")

    def _check_start(self, arm: Arm, held: Sequence[Table]) -> None:
        if arm.run.start is None:
            return
        from overture.models.start import heard

        tables, unknown = heard(self.home / arm.run.start)
        for what in unknown:
            self.tell(
                {"kind": "note", "text": f"{arm.name}: whether its start has heard test rows cannot be told: {what}"}
            )
        for table in tables:
            if shared := int(same_recordings(table, held).sum()):
                raise OvertureError(
                    f"arm {arm.name!r} starts from {arm.run.start}, which was trained on {shared} recordings that this study is tuned or scored "
                    f"on (corpus {table.name!r}): leave them out of that run with --where, or choose another start"
                )

    def _used(self, number: int) -> dict[str, np.ndarray]:
        """The rows of each part of trial `number`, of training as many as its labels may last."""
        trial, table, rows = self.study.trials[number], self.labelled[number], self.splits[number].rows
        if trial.label_minutes is None:
            return rows
        target = trial.definition.target if trial.definition.closed_set else None
        return {**rows, "train": take_minutes(table, rows["train"], trial.label_minutes, target)}

    def run_of(self, arm: Arm, seed: int) -> Run:
        """The arm's run on the study's own training rows."""
        return replace(arm.run, seed=seed, data=replace(arm.run.data, corpus=self.corpus, where=None))

    def folder_of(self, arm: Arm, seed: int) -> Path:
        run = self.run_of(arm, seed)
        return self.home / run.folder_name

    def pretrain(self, arm: Arm, seed: int) -> dict[str, Any]:
        """Train one arm with one seed, unless that has been done; what it cost, and under `stopped` when a health rule ended it."""
        from overture.train.engine import Engine
        from overture.train.health import IllRun
        from overture.train.loop import train

        run, folder = self.run_of(arm, seed), self.folder_of(arm, seed)
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
        cost["parameters"] = json.loads((folder / "run.json").read_text(encoding="utf8"))["parameters"]
        return cost

    def _frontend(self, arm: Arm, task: Task) -> Frontend:
        """What turns recordings into an arm's input. A control on pooled features is not normalised by utterance: the mean
        over an utterance of features with mean zero is zero, and the control would be a straw man."""
        if arm.kind != "input":
            return arm.run.frontend
        front = arm.input_frontend
        return replace(front, normalise=False) if task.features == "pooled" and isinstance(front, LogMel) else front

    def judge(self, arm: Arm, seed: int, number: int) -> Score:
        """Probe one arm with one seed on trial `number`, unless that has been done."""
        trial, table = self.study.trials[number], self.labelled[number]
        task, run = trial.definition, self.run_of(arm, seed)
        if task.features == "finetune":
            tuned = arm.finetune_model
            encoder: Any = [arm.kind, run.fingerprint, tuned and type(tuned).__name__, tuned]
        elif arm.kind == "trained":
            encoder = [arm.kind, run.fingerprint]
        else:
            encoder = [arm.kind, run.loop.precision, run.model if arm.kind == "untrained" else None]
        made_of = {
            "task": trial.task,
            "labels": trial.label_minutes,
            "rows": table.fingerprint,
            "split": {part: table.numpy("id")[rows].tolist() for part, rows in self._used(number).items()},
            "frontend": self._frontend(arm, task),
            "encoder": encoder,
            "seed": seed,
            "format": 3,
        }
        if task.target not in FINGERPRINTED:  # what the table's fingerprint does not cover
            made_of["targets"] = fingerprint([str(v) for v in table.numpy(task.target)])
        step = Step("judge", made_of, lambda folder: self._probe(folder, arm, run, seed, number))
        self.tell({"kind": "stage", "text": f"{self.study.names[number]}: {arm.name}, seed {seed}"})
        folder = step.perform(self.home / "judged")
        detail: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf8"))
        predictions = pq.read_table(folder / "predictions.parquet")
        events = (
            predictions.column("correct" if trial.definition.metric == "accuracy" else "errors")
            .to_numpy()
            .astype(np.int64)
        )
        return Score(detail["value"], events, predictions.column("total").to_numpy(), detail)

    def _probe(self, folder: Path, arm: Arm, run: Run, seed: int, number: int) -> None:
        trial, (used, rows) = self.study.trials[number], self._packed(number)
        aligned = self.alignments.get(self.labelled[number].fingerprint, {})
        result = self._result(folder / "features", arm, run, seed, trial.definition, used, rows, aligned)
        result.write_predictions(folder / "predictions.parquet")
        record: dict[str, Any] = {
            "metric": result.metric,
            "value": result.value,
            "interval": result.interval,
            "groups": [
                {"column": g.column, "value": g.group, "n": g.utterances, "metric": g.value, "ci95": g.interval}
                for g in result.by_group
            ],
            "rate": result.rate,
            "rate_at_edge": result.rate_at_edge and len(result.dev) > 2,
            "dev": result.dev,
            "layer_weights": result.layer_weights,
            "seconds": result.seconds,
            "labelled_minutes": float(used.numpy("duration")[rows["train"]].sum()) / 60,
            "left_out": len(result.infeasible),
        }
        if result.metric == "cer":
            record["wer"] = word_errors(result.predictions)
        (folder / "result.json").write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf8")
        shutil.rmtree(folder / "features", ignore_errors=True)  # large, and soon made again

    def _result(
        self,
        cache: Path,
        arm: Arm,
        run: Run,
        seed: int,
        task: Task,
        table: Table,
        rows: dict[str, Any],
        aligned: "dict[str, Alignment]",
    ) -> "ProbeResult":
        """The probe that `task` asks for, on `rows` (train, dev, test) of `table`."""
        import torch

        from overture.tasks import align, features, finetune_classes, finetune_ctc, finetune_frames
        from overture.tasks.classify import classify
        from overture.tasks.classify_frames import classify_frames
        from overture.tasks.controls import InputEncoder
        from overture.tasks.transcribe import transcribe
        from overture.train.engine import Engine
        from overture.train.state import checkpoints, load_weights

        trained = self.folder_of(arm, seed) if arm.kind == "trained" else None
        if task.features == "finetune":
            by_metric: dict[str, Callable[..., ProbeResult]] = {
                "accuracy": finetune_classes.finetune,
                "cer": finetune_ctc.finetune,
                "wer": finetune_frames.finetune,
            }
            tuned = replace(run, model=arm.finetune_model or run.model)
            start = trained.name if trained else None
            return by_metric[task.metric](
                tuned, start, table, target=task.target, **rows, home=self.home, tell=self.tell, seed=seed
            )
        frontend = self._frontend(arm, task)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if arm.kind == "input":
            encoder: Any = InputEncoder(frontend.dim, frontend.frame_rate)
        else:
            torch.manual_seed(seed)
            encoder = run.model.build(run.frontend)
            if trained is not None:
                load_weights(checkpoints(trained)[-1], encoder)
            encoder = encoder.to(device)
        source = Cached.open(table, frontend)  # once for all arms and seeds
        given: dict[str, Any] = {"cache": cache, "fingerprint": "all", "device": device}
        with torch.autocast(device.type, torch.bfloat16, enabled=Engine(0, 1, device).bf16(run.loop.precision)):
            if task.features == "pooled":
                pooled = features.pooled(encoder, source, table, **given)
            else:
                states = features.frames(encoder, source, table, max_rate=50.0, **given)
        if task.features == "pooled":
            return classify(pooled, table, target=task.target, **rows, seed=seed, device=device)
        if task.features == "aligned":
            ids = zip(table.numpy("id"), states.lengths)
            labels = [align.frame_labels(aligned[i], int(n), states.frame_rate) for i, n in ids]
            return classify_frames(states, table, labels=labels, **rows, seed=seed, device=device)
        return transcribe(states, table, target=task.target, **rows, seed=seed, device=device)

    def _packed(self, number: int) -> tuple[Table, dict[str, np.ndarray]]:
        """The rows that trial `number` uses, and which of them are train, dev and test."""
        parts = self._used(number)
        chosen = [parts[part] for part in ("train", "dev", "test")]
        ends = np.cumsum([len(rows) for rows in chosen])
        used = self.labelled[number].take(np.concatenate(chosen))
        return used, dict(zip(("train", "dev", "test"), np.split(np.arange(ends[-1]), ends[:-1])))

    def _outside(self) -> dict[str, dict[str, Any]]:
        """{trial: {reference: its score}}: networks that no arm is, on the arms' own rows. They decide nothing."""
        return {
            self.study.names[i]: {name: self._reference(name, i) for name in trial.outside}
            for i, trial in enumerate(self.study.trials)
            if trial.outside
        }

    def _reference(self, name: str, number: int) -> dict[str, Any]:
        from overture.tasks import outside

        (table, rows), target = self._packed(number), self.study.trials[number].definition.target
        made_of = {
            "reference": name,
            "rows": table.fingerprint,
            "split": {part: table.numpy("id")[chosen].tolist() for part, chosen in rows.items()},
            "targets": fingerprint([str(v) for v in table.numpy(target)]),
        }

        def probe(folder: Path) -> None:
            found = outside.reference(name, table, target, rows, seed=0)
            found.write_predictions(folder / "predictions.parquet")
            record = {"value": found.value, "ci95": found.interval, "rate": found.rate}
            (folder / "result.json").write_text(json.dumps(record, indent=1), encoding="utf8")

        self.tell({"kind": "stage", "text": f"{self.study.names[number]}: {name}, a reference from outside"})
        folder = Step("outside", made_of, probe).perform(self.home / "judged")
        result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf8"))
        return result

    def conduct(self, pairs: Pairs) -> dict[str, Any]:
        """Everything, and the tables of it: arms, comparisons, cost, data. `pairs` says which arms of a task to compare."""
        trials, outside = range(len(self.study.trials)), self._outside()
        scores: list[dict[str, list[Score]]] = [{} for _ in trials]
        costs: dict[str, list[dict[str, Any]]] = {}
        stopped: dict[str, list[dict[str, Any]]] = {}
        for seed in self.study.seeds:  # seed by seed: a study that is stopped has whole comparisons
            for arm in self.study.arms:
                if arm.kind == "trained":
                    cost = self.pretrain(arm, seed)
                    costs.setdefault(arm.name, []).append(cost)
                    if "stopped" in cost:
                        stopped.setdefault(arm.name, []).append({"seed": seed, **cost["stopped"]})
                        self._tell_stopped(stopped, arm, seed)
                if arm.name in stopped:
                    continue
                for i in trials:
                    if arm.kind == "input" and self.study.trials[i].definition.features == "finetune":
                        continue  # a front end has no weights to tune
                    scores[i].setdefault(arm.name, []).append(self.judge(arm, seed, i))
        healthy = [{name: found for name, found in of.items() if name not in stopped} for of in scores]
        measured = [self._measure(i, healthy[i], pairs, stopped) for i in trials]
        return {
            **measured[0],
            "also": dict(zip(self.study.names[1:], measured[1:], strict=True)),
            "outside": outside,
            "stopped": stopped,
            "kinds": {a.name: a.kind for a in self.study.arms},
            "data": self._data(),
            "runs": {
                a.name: [self.folder_of(a, s).name for s in self.study.seeds]
                for a in self.study.arms
                if a.kind == "trained"
            },
            "pretraining_watch": {
                a.name: [_last_watched(self.folder_of(a, s)) for s in self.study.seeds]
                for a in self.study.arms
                if a.kind == "trained"
            },
            "cost_by_arm": {
                a: {k: float(np.mean([c[k] for c in c_])) for k in c_[0]} for a, c_ in costs.items() if a not in stopped
            },
            "cost": {
                "seconds": sum(c["seconds"] for c_ in costs.values() for c in c_),
                "updates": int(sum(c["updates"] for c_ in costs.values() for c in c_)),
                "device": _device(),
            },
            "commit": _commit(),
        }

    def _tell_stopped(self, stopped: dict[str, list[dict[str, Any]]], arm: Arm, seed: int) -> None:
        """Say that a run was stopped. Raises OvertureError when no pre-trained arm without such a run is left."""
        last = stopped[arm.name][-1]
        text = f"{arm.name} takes part in no comparison: stopped at update {last['update']} with seed {seed}: {last['cause']}."
        self.tell({"kind": "note", "text": f"{text} To train it again, delete {self.folder_of(arm, seed)}"})
        trained = [a.name for a in self.study.arms if a.kind == "trained"]
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

    def _measure(
        self, number: int, scores: dict[str, list[Score]], pairs: Pairs, stopped: Collection[str]
    ) -> dict[str, Any]:
        from overture.tasks.metrics import seeds_interval

        task = self.study.trials[number].definition
        names = list(scores)
        arms = {}
        for name in names:
            values = [s.value for s in scores[name]]
            arms[name] = {
                "seeds": values,
                "mean": float(np.mean(values)),
                "ci95": bounded(seeds_interval(values) or within(scores[name][0]), task.metric),
            }
        return {
            "task": self.study.names[number],
            "of_task": task.name,
            "label_minutes": self.study.trials[number].label_minutes,
            "metric": task.metric_name,
            "higher_is_better": task.higher_is_better,
            "arms": arms,
            "comparisons": [
                compare_arms(b, scores[b], w, scores[w])
                for b, w in pairs(number, arms)
                if b not in stopped and w not in stopped
            ],
            "probes": {a: [s.detail for s in scores[a]] for a in names},
            "groups": {a: scores[a][0].detail["groups"] for a in names},
        }

    def _data(self) -> dict[str, Any]:
        view = Table.open(self.corpus)
        others = {t.name: t for t in self.labelled if t.name != self.table.name}
        licences = {
            str(v)
            for table in (self.table, *others.values())
            if "licence" in table.columns.column_names
            for v in table.numpy("licence")
        }
        splits = []
        for name, trial, labelled, parts in zip(self.study.names, self.study.trials, self.labelled, self.splits):
            own = labelled.name not in others
            splits.append(
                {
                    "task": name,
                    **({} if own else {"corpus": labelled.name, "fingerprint": labelled.fingerprint}),
                    "rule": parts.rule,
                    "parts": parts.counts,
                    "left_out": parts.left_out,
                    "label_minutes": trial.label_minutes,
                }
            )
        return {
            "corpus": self.table.name,
            "where": self.study.where,
            "rows": len(self.table),
            "hours": self.table.hours,
            "fingerprint": self.table.fingerprint,
            "pretraining": {"rows": len(view), "hours": view.hours, "fingerprint": view.fingerprint},
            "splits": splits,
            "licences": sorted(licences),
        }


def check(claim: Claim, home: Path, tell: Tell) -> dict[str, Any]:
    """Run a claim: its result with the computed verdict, as it goes into `results/NAME.json`."""
    names = claim.study.names
    pairs = [(names[0], better, worse) for better, worse in claim.expected] + list(claim.expected_also)
    if unknown := {t for t, _, _ in pairs} - set(names):
        raise ValueError(f"the claim expects something of {unknown}, its trials are {names}")
    result = Laboratory(claim.study, home, tell).conduct(lambda i, _: [(b, w) for t, b, w in pairs if t == names[i]])
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
        "deviations": list(claim.deviations),
    }


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


def _last_watched(folder: Path) -> dict[str, float | None]:
    """The watched numbers of a run's last logged update (None: not finite)."""
    from overture.train.track import read_metrics

    watched = [r["watch"] for r in read_metrics(folder) if r["kind"] == "update"]
    return {n: v if math.isfinite(v) else None for n, v in watched[-1].items()} if watched else {}


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


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{os.cpu_count()} CPU cores"


def _commit() -> str | None:
    """The commit of this checkout, with '+' when it has changes; None for an installed package."""
    here = Path(__file__).parent
    found = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--abbrev=12", "--dirty=+"], capture_output=True, text=True
    )
    return found.stdout.strip() or None if found.returncode == 0 else None
