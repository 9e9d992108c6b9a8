"""Where a result comes from, as it stands in its JSON: rows and licences, runs, what they have heard and cost, the commit."""

import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from overture import jsonfile
from overture.data.table import Table
from overture.pretraining import Pretraining, Trained
from overture.trials import Labelled
from overture.verdicts import Score


def of_data(pretraining: Pretraining, trials: Sequence[Labelled]) -> dict[str, Any]:
    """Which rows were there, which of them arms were trained on, how each trial divides its own, and under which licences they come."""
    whole, view = pretraining.table, Table.open(pretraining.corpus)
    others = {t.table.name: t.table for t in trials if t.table.name != whole.name}
    licences = {
        str(v)
        for table in (whole, *others.values())
        if "licence" in table.columns.column_names
        for v in table.numpy("licence")
    }
    splits = []
    for name, trial in zip(pretraining.study.names, trials):
        table, parts = trial.table, trial.split
        splits.append(
            {
                "task": name,
                **({"corpus": table.name, "fingerprint": table.fingerprint} if table.name in others else {}),
                "rule": parts.rule,
                "parts": parts.counts,
                "left_out": parts.left_out,
                "label_minutes": trial.trial.label_minutes,
                **({"label_rows": trial.trial.label_rows} if table.is_text else {}),
            }
        )
    return {
        "corpus": whole.name,
        "where": pretraining.study.where,
        **_extent(whole),
        "pretraining": _extent(view),
        "splits": splits,
        "licences": sorted(licences),
    }


def of_trainings(
    pretraining: Pretraining, trained: dict[str, list[Trained]], stopped: dict[str, Any]
) -> dict[str, Any]:
    """The runs of each arm, what they have heard and what they cost. A run that several arms share is paid for once."""
    home, study = pretraining.home, pretraining.study
    folders = {arm: [[home / run.folder_name for run in one.runs] for one in found] for arm, found in trained.items()}
    once = {
        run.fingerprint: cost for found in trained.values() for one in found for run, cost in zip(one.runs, one.costs)
    }
    return {
        "runs": {arm: [chain[-1].name for chain in chains] for arm, chains in folders.items()},
        "stages": {
            arm: [[f.name for f in chain[:-1]] for chain in chains]
            for arm, chains in folders.items()
            if len(chains[0]) > 1
        },
        "heard": {arm: [_heard(folder) for folder in chains[0]] for arm, chains in folders.items()},
        "moved": {
            arm.name: far
            for arm in study.arms
            if arm.kind == "trained" and arm.stages and arm.name not in stopped
            if None not in (far := [pretraining.moved(arm, seed) for seed in study.seeds])
        },
        "pretraining_watch": {arm: [_last_watched(chain[-1]) for chain in chains] for arm, chains in folders.items()},
        "cost_by_arm": {
            arm: {k: float(np.mean([one.cost[k] for one in found])) for k in found[0].cost}
            for arm, found in trained.items()
            if arm not in stopped
        },
        "cost": {
            "seconds": sum(c["seconds"] for c in once.values()),
            "updates": int(sum(c["updates"] for c in once.values())),
            "device": _device(),
        },
    }


def of_audio(scores: list[dict[str, list[Score]]]) -> dict[str, str]:
    """Of each arm that was judged by what it said: the folder under home that holds recordings of its first seed, of the first such trial."""
    return {
        arm: found[0].detail["audio"]
        for table in scores[::-1]
        for arm, found in table.items()
        if "audio" in found[0].detail
    }


def of_code() -> str | None:
    """The commit of this checkout, with '+' when it has changes; None for an installed package."""
    here = Path(__file__).parent
    found = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--abbrev=12", "--dirty=+"], capture_output=True, text=True
    )
    return found.stdout.strip() or None if found.returncode == 0 else None


def _heard(folder: Path) -> dict[str, Any]:
    """What a run was trained on, in rows, hours or characters and, where it was matched or mixed by a column, by the values of that."""
    said = jsonfile.read_object(folder / "run.json")
    return {
        "corpus": said["config"]["data"]["corpus"],
        **{k: said["data"][k] for k in ("rows", "hours", "characters", "composition") if k in said["data"]},
    }


def _extent(table: Table) -> dict[str, Any]:
    size = {"characters": table.characters} if table.is_text else {"hours": table.hours}
    return {"rows": len(table), **size, "fingerprint": table.fingerprint}


def _last_watched(folder: Path) -> dict[str, float | None]:
    """The watched numbers of a run's last logged update (None: not finite)."""
    from overture.train.track import read_metrics

    watched = [r["watch"] for r in read_metrics(folder) if r["kind"] == "update"]
    return {n: v if math.isfinite(v) else None for n, v in watched[-1].items()} if watched else {}


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{os.cpu_count()} CPU cores"
