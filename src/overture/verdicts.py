"""From the scores of arms to what may be said of them: means with intervals, paired differences, verdicts. All computed, nothing typed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from overture.study import Trial

Pairs = Callable[
    [int, dict[str, dict[str, Any]]], list[tuple[str, str]]
]  # (trial, its arms) -> (better, worse) of them


@dataclass(frozen=True)
class Score:
    """One arm with one seed on one trial."""

    value: float
    events: np.ndarray  # (N,) per test utterance
    totals: np.ndarray
    detail: dict[str, Any]
    groups: np.ndarray | None = None  # (N,) text, what the trial's gap is measured between


def measured(
    number: int, name: str, trial: Trial, scores: dict[str, list[Score]], pairs: Pairs, stopped: Collection[str]
) -> dict[str, Any]:
    """The table of one trial: the mean of each arm over seeds with its interval, and the comparisons that `pairs` asks for."""
    from overture.tasks.metrics import seeds_interval

    task = trial.definition
    # There, each counts its own frames, the spans that it found, or what the text is worth to its own language model.
    if task.features != "aligned" and task.metric not in ("f1", "closure"):
        for arm, found in scores.items():
            first = next(iter(scores.values()))[0].totals
            if any(not np.array_equal(s.totals, first) for s in found):
                raise ValueError(f"{name}: {arm} was scored on other references than {next(iter(scores))}")
    arms = {}
    for arm, found in scores.items():
        values = [s.value for s in found]
        interval = bounded(seeds_interval(values) or within(found[0]), task.metric)
        arms[arm] = {"seeds": values, "mean": float(np.mean(values)), "ci95": interval}
    return {
        "task": name,
        "of_task": task.name,
        "label_minutes": trial.label_minutes,
        **({} if trial.label_rows is None else {"label_rows": trial.label_rows}),
        "metric": task.metric_name,
        "higher_is_better": task.higher_is_better,
        "arms": arms,
        "comparisons": [
            compare_arms(b, scores[b], w, scores[w])
            for b, w in pairs(number, arms)
            if b not in stopped and w not in stopped
        ],
        "probes": {arm: [s.detail for s in found] for arm, found in scores.items()},
        "groups": {arm: found[0].detail["groups"] for arm, found in scores.items()},
        **({"gaps": {arm: relative_gap(trial.gap, found) for arm, found in scores.items()}} if trial.gap else {}),
        **({"savings": {"reach": trial.reach, "arms": savings(trial.reach, scores)}} if trial.reach in scores else {}),
    }


def relative_gap(between: tuple[str, str, str], scores: Sequence[Score]) -> dict[str, Any]:
    """How far apart two groups a and b are: 200 (m_a - m_b) / (m_a + m_b), in per cent (Boito et al. 2022), m of all errors over all words.

    Above 0: the metric is larger for a, which is worse for a where it counts errors and better where it counts right answers.
    `groups` has m of both, for a gap between two bad scores is small. The interval spans that over seeds and that over utterances, drawn
    within each group.
    """
    from overture.tasks.metrics import seeds_interval

    column, *values = between
    groups = np.asarray(scores[0].groups)
    parts = [[(s.events[groups == v], s.totals[groups == v]) for v in values] for s in scores]

    def gap(a: Any, b: Any) -> Any:
        return 200 * (a - b) / (a + b)

    means = np.array([[events.sum() / totals.sum() for events, totals in part] for part in parts])  # (S, 2)
    found = [float(gap(a, b)) for a, b in means]
    rng = np.random.default_rng(0)
    drawn = []
    for g in range(2):
        events, totals = (np.sum([part[g][i] for part in parts], axis=0) for i in range(2))
        rows = rng.integers(len(events), size=(1000, len(events)))
        drawn.append(events[rows].sum(axis=1) / totals[rows].sum(axis=1))
    over_utterances = np.percentile(gap(*drawn), [2.5, 97.5])
    ends = [over_utterances, *([o] if (o := seeds_interval(found)) else [])]
    return {
        "column": column,
        "between": values,
        "seeds": found,
        "mean": float(np.mean(found)),
        "ci95": [float(min(low for low, _ in ends)), float(max(high for _, high in ends))],
        "groups": dict(zip(values, means.mean(axis=0).tolist())),
        "utterances": {v: int((groups == v).sum()) for v in values},
    }


def savings(reach: str, scores: Mapping[str, Sequence[Score]]) -> dict[str, dict[str, Any]]:
    """What share of its FLOPs an arm of those followed on their way saves until it knows as much of the development rows as `reach` in the
    end: 1 - FLOPs / FLOPs of `reach` (Chen et al. 2022, table 1). Seed by seed; None for one that does not come there, and then for the mean.

    FLOPs are of all training since a network was fresh or grew. Between two updates that were looked at the score is taken to be linear in them.
    """
    from overture.tasks.metrics import seeds_interval

    ends = [s.detail["trajectory"][-1] for s in scores[reach]]
    found: dict[str, dict[str, Any]] = {}
    for arm, own in scores.items():
        if any(len(s.detail.get("trajectory", ())) < 2 for s in own):
            continue
        spent = [flops_to(end["value"], s.detail["trajectory"]) for end, s in zip(ends, own)]
        seeds = [None if f is None else 1 - f / end["flops"] for end, f in zip(ends, spent)]
        known = [s for s in seeds if s is not None]
        whole = len(known) == len(seeds)
        interval, mean = (seeds_interval(known), float(np.mean(known))) if whole else (None, None)
        found[arm] = {"seeds": seeds, "mean": mean, "ci95": interval and list(interval)}
    return found


def flops_to(value: float, way: Sequence[Mapping[str, Any]]) -> float | None:
    """The FLOPs at which the points of a `way` first come down to `value`; None where they do not."""
    for before, after in zip([None, *way], way):
        if after["value"] <= value:
            if before is None:
                return float(after["flops"])
            share = (before["value"] - value) / (before["value"] - after["value"])
            return float(before["flops"] + share * (after["flops"] - before["flops"]))
    return None


def compare_arms(better: str, of_better: Sequence[Score], worse: str, of_worse: Sequence[Score]) -> dict[str, Any]:
    """Two arms on the same utterances and seeds. `better` and `worse` are expectations, the numbers may say otherwise.

    `difference` is better minus worse in the metric's own units. `ci95_seeds` is over paired seeds (t; None with one seed),
    `ci95_utterances` over utterances with the seeds pooled (bootstrap); `ci95` spans both, and `p` is the larger of the two.
    `detectable`: the least true difference that such a study would call real in four of five repetitions, as its interval is that wide.
    """
    from scipy import stats

    from overture.tasks.metrics import Counts, paired_bootstrap, seeds_interval

    differences = np.array([x.value - y.value for x, y in zip(of_better, of_worse)])
    pooled = [
        Counts(np.sum([s.events for s in scores], axis=0), np.sum([s.totals for s in scores], axis=0))
        for scores in (of_better, of_worse)
    ]
    over_utterances = paired_bootstrap(pooled[0], pooled[1])
    over_seeds = seeds_interval(differences.tolist())
    p = over_utterances.p
    if over_seeds is not None and differences.std(ddof=1) > 1e-12:  # equal but for rounding is no spread to test by
        p = max(p, float(stats.ttest_1samp(differences, 0.0).pvalue))
    intervals = [i for i in (over_seeds, over_utterances.interval) if i is not None]
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    return {
        "better": better,
        "worse": worse,
        "difference": float(differences.mean()),
        "ci95": [low, high],
        "detectable": (high - low) / 2 * (1 + stats.norm.ppf(0.8) / stats.norm.ppf(0.975)),
        "ci95_seeds": over_seeds and list(over_seeds),
        "ci95_utterances": list(over_utterances.interval),
        "p": p,
    }


def verdict(
    comparisons: Sequence[dict[str, Any]], higher_is_better: bool
) -> Literal["holds", "does not hold", "undecided"]:
    """Holds when each difference goes the expected way and its interval excludes zero; does not hold when one goes the other way
    and its interval excludes zero; else undecided."""
    sign = 1 if higher_is_better else -1
    ends = [sorted(sign * end for end in c["ci95"]) for c in comparisons]
    if all(low > 0 for low, _ in ends):
        return "holds"
    return "does not hold" if any(high < 0 for _, high in ends) else "undecided"


def verdict_on(pairs: Sequence[tuple[str, str]], part: dict[str, Any], stopped: Collection[str]) -> str:
    """The verdict of the comparisons of `pairs`; undecided where one was not made, since an arm of it was stopped."""
    if any(arm in stopped for pair in pairs for arm in pair):
        return "undecided"
    found = {(c["better"], c["worse"]): c for c in part["comparisons"]}
    return verdict([found[pair] for pair in pairs], part["higher_is_better"])


def word_errors(predictions: pa.Table) -> dict[str, Any]:
    """Word error rate of the same transcripts, with its interval over utterances."""
    from overture.tasks.metrics import bootstrap, wer

    counts = wer(predictions.column("reference").to_pylist(), predictions.column("hypothesis").to_pylist())
    return {"value": counts.value, "interval": bootstrap(counts.events, counts.totals)}


def first_answers(predictions: pa.Table) -> dict[str, Any]:
    """Of the same rankings where their first right answer stands: the mean reciprocal rank, and how often it is the first of all (P@1)."""
    from overture.tasks.metrics import bootstrap

    ranks = np.array([line.index("1") + 1 for line in predictions.column("reference").to_pylist()])
    found = {}
    for name, worth in (("mrr", 1 / ranks), ("p_at_1", (ranks == 1).astype(float))):
        found[name] = {"value": float(worth.mean()), "interval": bootstrap(worth, np.ones(len(worth)))}
    return found


def sides(predictions: pa.Table) -> dict[str, Any]:
    """Of the same spans the share of those said that are right (precision), and of those that are there that were said (recall)."""
    from overture.tasks.metrics import bootstrap

    right = predictions.column("twice_right").to_numpy() / 2
    found = {}
    for name, side in (("precision", "hypothesis"), ("recall", "reference")):
        totals = np.array([len(line.split()) for line in predictions.column(side).to_pylist()])
        value = float(right.sum() / totals.sum()) if totals.sum() else None  # nothing was said
        found[name] = {"value": value, "interval": bootstrap(right, totals)}
    return found


def bounded(interval: Sequence[float] | None, metric: str) -> list[float] | None:
    """An interval within what the metric can be; a t interval over few seeds knows no bounds."""
    if interval is None:
        return None
    most = 1.0 if metric in ("accuracy", "map", "f1", "share", "hter", "similarity") else float("inf")
    least = -float("inf") if metric == "closure" else 0.0
    return [min(max(end, least), most) for end in interval]


def within(score: Score) -> list[float] | None:
    from overture.tasks.metrics import bootstrap

    interval = bootstrap(score.events, score.totals)
    return list(interval) if interval else None
