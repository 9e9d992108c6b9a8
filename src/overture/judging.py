"""How one arm is judged on one trial: the part of `tasks` that its task asks for, on the weights that it has."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overture.data.features import LogMel
from overture.data.source import Cached
from overture.data.table import Table
from overture.run import Run
from overture.study import Arm
from overture.tasks import Task, suits
from overture.trials import Labelled
from overture.verdicts import first_answers, sides, word_errors

if TYPE_CHECKING:
    from overture.tasks.probe import ProbeResult

Tell = Callable[[dict[str, Any]], None]
FORMAT = 7  # of what is kept; raised where the same question gets another answer, as where sweeps came to go on beyond their ends


def frontend_of(arm: Arm, task: Task) -> Any:
    """What turns recordings, or texts, into an arm's input. A control on pooled features is not normalised by utterance: the mean
    over an utterance of features with mean zero is zero, and the control would be a straw man."""
    if arm.kind != "input":
        return arm.run.frontend
    if task.features == "copied":
        return arm.run.model.mel  # type: ignore[attr-defined]  # of a vocoder, see `check`
    front = arm.input_frontend
    whole = task.features in ("pooled", "verified")
    return replace(front, normalise=False) if whole and isinstance(front, LogMel) else front


def plays(arm: Arm, task: Task) -> bool:
    """Whether an arm can be judged so: a front end alone has no weights to tune, and writes nothing; words can be counted, and frames become
    waves by Griffin-Lim. Without training nothing can be said."""
    if arm.kind != "input":
        return task.features != "synthesised" or arm.kind != "untrained"
    if task.features in ("copied", "synthesised"):
        return True
    if task.features == "spoken":
        return False
    return (task.features == "finetune") == (task.reads == "text")


def check(arm: Arm, task: Task) -> None:
    """Raises OvertureError for an arm that makes no such waves as `task` judges, and see `tasks.suits`."""
    suits(task, arm.run)
    if task.features in ("copied", "synthesised"):
        from overture.tasks.makers import mel_of

        mel_of(arm.run, task)


def judge(
    arm: Arm,
    run: Run,
    seed: int,
    trial: Labelled,
    table: Table,
    rows: dict[str, Any],
    *,
    weights: Path | None,
    cache: Path,
    home: Path,
    tell: Tell,
) -> "ProbeResult":
    """What the task of `trial` finds on `rows` (train, dev, test) of `table`.

    `run`: the arm's own; `weights`: the folder that has them, None for a control without; `cache`: for features; `home`: of all runs.
    """
    if arm.kind == "input" and table.is_text:
        from overture.tasks import remembered, tfidf

        controls: dict[str, Callable[..., ProbeResult]] = {
            "accuracy": tfidf.classify_texts,
            "map": tfidf.rank_texts,
            "f1": remembered.tag_texts,
        }
        return controls[trial.task.metric](table, target=trial.task.target, **rows)
    if trial.task.features == "finetune":
        return _finetuned(arm, run, seed, trial, table, rows, weights, home, tell)
    if trial.task.features in ("copied", "synthesised"):
        return _made(arm, run, seed, trial, table, rows["test"], weights, home, tell)
    encoder = _encoder(arm, run, seed, trial.task, weights, home)
    if trial.task.features == "choice":
        from overture.tasks import choice

        return choice.judge(encoder, run, table, rows["test"], tell)
    if trial.task.features == "spoken":
        from overture.tasks import spoken

        return spoken.judge(trial.task, encoder, run, table, rows["test"], tell)
    if trial.task.features == "masked":
        from overture.tasks import masked

        folder = weights if arm.kind == "trained" else None
        return masked.judge(trial.task, encoder, run, folder, table, dev=rows["dev"], test=rows["test"])
    if trial.task.features in ("written", "way"):
        return _language_model(encoder, arm, run, seed, trial, table, rows, weights)
    return _probed(encoder, arm, run, seed, trial, table, rows, cache, tell)


def beside(result: "ProbeResult") -> dict[str, Any]:
    """What is told beside a score: other metrics of the same answers."""
    from overture.tasks.made import Synthesised
    from overture.tasks.spoken import nats_by_condition
    from overture.tasks.trajectory import Followed
    from overture.tasks.verification import Verified
    from overture.tasks.written import diversity, nats_per_token

    found: dict[str, Any] = {}
    if isinstance(result, Synthesised):
        found |= result.others
    if result.metric == "cer":
        found["wer"] = word_errors(result.predictions)
    elif result.metric == "map":
        found |= first_answers(result.predictions)
    elif result.metric == "f1":
        found |= sides(result.predictions)
    elif result.metric == "bits":
        found["nats_per_token"] = nats_per_token(result.predictions)
    elif result.metric == "score":
        found |= diversity(result.predictions)
    elif result.metric == "closure":
        found |= nats_by_condition(result.predictions)
    if "correct_text" in result.predictions.column_names:
        found["given_text"] = float(result.predictions.column("correct_text").to_numpy().mean())
    if isinstance(result, Verified):
        found["eer"] = {"value": result.eer, "interval": result.eer_interval}
    if isinstance(result, Followed):
        found["trajectory"] = [vars(point) for point in result.trajectory]
    return found


def _finetuned(
    arm: Arm,
    run: Run,
    seed: int,
    trial: Labelled,
    table: Table,
    rows: dict[str, Any],
    weights: Path | None,
    home: Path,
    tell: Tell,
) -> "ProbeResult":
    from overture.tasks import finetune_classes, finetune_ctc, finetune_frames, finetune_rank, finetune_tokens

    by_metric: dict[str, Callable[..., ProbeResult]] = {
        "accuracy": finetune_classes.finetune,
        "cer": finetune_ctc.finetune,
        "wer": finetune_frames.finetune,
        "map": finetune_rank.finetune,
        "f1": finetune_tokens.finetune,
    }
    tuned = replace(run, model=arm.finetune_model or run.model)
    start = None if weights is None else os.path.relpath(weights, home)
    task, given = trial.task, {"rates": trial.trial.rates} if trial.trial.rates else {}
    return by_metric[task.metric](
        tuned, start, table, target=task.target, **rows, home=home, tell=tell, seed=seed, **given
    )


def _encoder(arm: Arm, run: Run, seed: int, task: Task, weights: Path | None, home: Path) -> Any:
    """The arm's network with its weights; of a control of kind `input`, its front end alone."""
    import torch

    from overture.models.start import load
    from overture.tasks.controls import InputEncoder
    from overture.train.state import checkpoints, load_weights

    if arm.kind == "input":
        frontend = frontend_of(arm, task)
        return InputEncoder(frontend.dim, frontend.frame_rate)
    torch.manual_seed(seed)
    encoder: Any = run.model.build(run.frontend)
    if arm.kind == "start":
        load(run, encoder, home)
    elif weights is not None:
        load_weights(checkpoints(weights)[-1], encoder)
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu")


def _made(
    arm: Arm,
    run: Run,
    seed: int,
    trial: Labelled,
    table: Table,
    test: Any,
    weights: Path | None,
    home: Path,
    tell: Tell,
) -> "ProbeResult":
    from time import perf_counter

    from overture.tasks import made, makers

    task, began, mel = trial.task, perf_counter(), makers.mel_of(run, trial.task)
    asked = made.chosen(task, table, test, tell)
    vocoder = trial.trial.vocoder if task.features == "synthesised" and arm.kind != "input" else None
    rate, how = mel.rate, [arm.kind, mel if arm.kind == "input" else run.model, run.fingerprint if weights else None]

    def make(one: made.Asked) -> Any:
        return maker()(one)

    @cache
    def maker() -> makers.Make:
        if arm.kind == "input":
            return makers.griffin_lim(mel, table, seed)
        if task.features == "copied":
            return makers.copies(_encoder(arm, run, seed, task, weights, home), table)
        assert weights is not None
        return makers.speech(weights, home / vocoder if vocoder else None, table, seed, tell, steps=arm.steps)

    made_of = {
        "format": FORMAT,
        "task": task.features,
        "how": how,
        "vocoder": vocoder,
        "seed": seed,
        "table": table.fingerprint,
    }
    if arm.steps is not None:
        made_of["steps"] = arm.steps
    waves = made.waves(make, rate, asked, made_of, home / "judged")
    return made.score(task, table, asked, waves, rate, began)


def _language_model(
    model: Any, arm: Arm, run: Run, seed: int, trial: Labelled, table: Table, rows: dict[str, Any], weights: Path | None
) -> "ProbeResult":
    from overture.tasks import trajectory, written

    if trial.task.features == "written":
        return written.judge(trial.task, model, run, table, rows["test"], control=arm.control, seed=seed)
    folder = weights if arm.kind == "trained" else None
    given: dict[str, Any] = {"dev": rows["dev"], "test": rows["test"], "by": trial.trial.by, "control": arm.control}
    return trajectory.worst(trial.task, model, run, folder, table, **given)


def _probed(
    encoder: Any,
    arm: Arm,
    run: Run,
    seed: int,
    trial: Labelled,
    table: Table,
    rows: dict[str, Any],
    cache: Path,
    tell: Tell,
) -> "ProbeResult":
    import torch

    from overture.tasks import align, features, verification
    from overture.tasks.classify import classify
    from overture.tasks.classify_frames import classify_frames
    from overture.tasks.transcribe import transcribe
    from overture.train.engine import Engine

    task = trial.task
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = Cached.open(table, frontend_of(arm, task))  # once for all arms and seeds
    given: dict[str, Any] = {"cache": cache, "fingerprint": "all", "device": device}
    with torch.autocast(device.type, torch.bfloat16, enabled=Engine(0, 1, device).bf16(run.loop.precision)):
        if task.features == "pooled":
            pooled = features.pooled(encoder, source, table, **given)
        elif task.features == "verified":
            voices = verification.vectors(encoder, source, table, **given)
        else:
            states = features.frames(encoder, source, table, max_rate=50.0, **given)
    if task.features == "pooled":
        return classify(pooled, table, target=task.target, **rows, seed=seed, device=device)
    if task.features == "verified":
        held = {part: rows[part] for part in ("dev", "test")}
        return verification.verify(voices, table, target=task.target, **held, seed=seed, tell=tell)
    if task.features == "aligned":
        ids = zip(table.numpy("id"), states.lengths)
        labels = [align.frame_labels(trial.alignments[i], int(n), states.frame_rate) for i, n in ids]
        return classify_frames(states, table, labels=labels, **rows, seed=seed, device=device)
    return transcribe(states, table, target=task.target, **rows, seed=seed, device=device)
