"""Reading a claim's or a comparison's JSON: arms, differences, and the verdict in plain words, all computed from the numbers in it.

A claim rests on the comparisons that it names in `expected`; those of `expected_also` stand beside and decide nothing.
`difference` in the JSON is the mean of `better` minus the mean of `worse`, in units of the metric: below zero where a lower-is-better claim holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overture.errors import OvertureError, near
from overture.report.words import counted, decimals_for, finite, fixed, listed, number, p_value

VERDICTS = {"holds": "The claim holds.", "does not hold": "The claim does not hold.", "undecided": "Undecided."}
# What stands beside a score under a short name in the JSON
IN_FULL = {"eer": "equal error rate", "eer_of_recordings": "equal error rate of recordings", "wer": "word error rate"}
REAL, CHANCE, REVERSED, UNTESTED = "real", "could be chance", "the other way round", "no interval"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm's result in one metric."""

    name: str
    colour: int  # by the order of the arms in the JSON: the same in all figures of a page
    seeds: tuple[float, ...]
    failed: int  # seeds without a finite result
    mean: float | None
    low: float | None  # of the 95 % interval; None if there is none, as with a single seed
    high: float | None

    @property
    def seeds_text(self) -> str:
        return f"{len(self.seeds)}" + (f" ({self.failed} failed)" if self.failed else "")

    def text(self, decimals: int) -> str:
        interval = "" if self.low is None else f" [{fixed(self.low, decimals)}, {fixed(self.high, decimals)}]"
        return fixed(self.mean, decimals) + interval


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One comparison of two arms: `value` = mean of `better` - mean of `worse`."""

    better: str
    worse: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    reading: str  # REAL, CHANCE, REVERSED or UNTESTED
    detectable: float | None  # the least difference that would have shown in four of five such studies


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far apart two groups are in one arm: 200 (m_a - m_b) / (m_a + m_b), in per cent."""

    arm: str
    between: tuple[str, str, str]  # the column, a, b
    scores: tuple[float, float]  # m_a, m_b
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """An arm of which a health rule stopped a run or more: it has no result."""

    name: str
    colour: int
    text: str  # "stopped at update 40: vanished rank (seed 2)"
    advice: str  # of the rule, for the first run


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One metric: its arms, best first, and their differences."""

    metric: str
    task: str  # empty if the result names none
    higher_is_better: bool
    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    stopped: tuple[Stopped, ...]
    outside: tuple[str, ...]  # "yamnet 0.52 [0.47, 0.57]": references that no arm is
    beside: tuple[
        str, ...
    ]  # "ge2e: equal error rate 0.12, real time 0.31": what else is told of an arm's answers, means over seeds
    of_task: str  # the task itself, where `task` also says how many labels
    label_minutes: float | None
    label_rows: int | None
    gaps: tuple[Gap, ...]
    savings: tuple[str, ...]  # "AKI 38 % [30, 45]": of FLOPs, until an arm knows what `reach` knows in the end
    reach: str

    @property
    def decimals(self) -> int:
        """As many as show a tenth of the smallest interval, or of the spread of the seeds where there is none."""
        widths = [
            arm.high - arm.low
            for arm in self.arms
            if arm.low is not None and arm.high is not None and arm.high > arm.low
        ]
        values = [v for arm in self.arms for v in (*arm.seeds, arm.mean) if finite(v)]
        return decimals_for((min(widths) if widths else (max(values) - min(values) if values else 0) / 2) / 5)

    @property
    def title(self) -> str:
        """The metric and the task, which some metrics name themselves."""
        task = self.task.removeprefix(self.of_task).lstrip(", ") if self.metric.startswith(self.of_task) else self.task
        return self.metric[:1].upper() + self.metric[1:] + (f", {task}" if task else "")

    @property
    def direction(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def difference(self, better: str, worse: str) -> Difference | None:
        return next((d for d in self.differences if (d.better, d.worse) == (better, worse)), None)


def need(result: Mapping[str, Any], field: str) -> Any:
    """A field of the JSON, or an OvertureError that names it."""
    if field not in result:
        raise OvertureError(
            f"this result lacks {field!r}; it has {', '.join(map(repr, result))}. Was it written by 'check' or 'compare'?"
        )
    return result[field]


def measured(result: Mapping[str, Any]) -> Measured:
    """The main metric of a result."""
    return _measure(need(result, "metric"), bool(need(result, "higher_is_better")), result, result)


def also_measured(result: Mapping[str, Any]) -> list[Measured]:
    """The other metrics, by their name or their task's; each may say its own `higher_is_better`, else it goes the way of the main one."""
    main = bool(need(result, "higher_is_better"))
    return [
        _measure(part.get("metric", name), bool(part.get("higher_is_better", main)), part, result)
        for name, part in result.get("also", {}).items()
    ]


def colours(result: Mapping[str, Any]) -> dict[str, int]:
    """A number for each arm, by their order in the JSON, those that were stopped last: the same in all figures of a page."""
    names = dict.fromkeys([*need(result, "arms"), *(n for p in result.get("also", {}).values() for n in p["arms"])])
    return {name: number for number, name in enumerate(dict.fromkeys([*names, *result.get("stopped", {})]))}


def controls(result: Mapping[str, Any], main: Measured) -> list[str]:
    """The arms to be beaten, best first: those that were not pre-trained, by the kinds that the result records.

    Results from before kinds were recorded: in a comparison those without a run, in a claim those only ever named `worse`.
    """
    if "kinds" in result:
        return [arm.name for arm in main.arms if result["kinds"].get(arm.name, "trained") != "trained"]
    if result.get("kind") == "comparison":
        trained = set(result.get("runs", {})) | set(result.get("cost_by_arm", {}))
        return [arm.name for arm in main.arms if arm.name not in trained] if trained else []
    better, worse = {d.better for d in main.differences}, {d.worse for d in main.differences}
    return [arm.name for arm in main.arms if arm.name in worse - better]


def verdict(result: Mapping[str, Any]) -> tuple[str, str, str]:
    """The verdict as (tone, headline, explanation); tone is "good", "bad" or "open"."""
    main = measured(result)
    if result.get("kind") == "comparison":
        return _verdict_of_comparison(result, main)
    word = need(result, "verdict")
    if word not in VERDICTS:
        raise OvertureError(
            f"verdict {word!r} is none of {', '.join(map(repr, VERDICTS))}. {near(str(word), VERDICTS)}"
        )
    decides, beside = _asked(result, main)
    words = [_of_what_decides(main, decides), _of_what_stands_beside(beside)]
    seeds = sorted({len(arm.seeds) for arm in main.arms if arm.seeds})
    if seeds:
        words.append(
            f"Measured with {seeds[0] if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'} {'seed' if seeds == [1] else 'seeds'} an arm."
        )
    needless = [s for s in main.stopped if not any(s.name in pair for pair, d in decides if d is None)]
    words.append(_of_stopped(needless))
    tone = {"holds": "good", "does not hold": "bad", "undecided": "open"}[word]
    return tone, VERDICTS[word], " ".join(w for w in words if w)


Pair = tuple[str, str]


def _asked(
    result: Mapping[str, Any], main: Measured
) -> tuple[list[tuple[Pair, Difference | None]], list[Difference | None]]:
    """What the claim rests on, and what stands beside; None for what was not compared, since an arm was stopped.

    Results from before `expected` was recorded: as the recipe's claim has it today. Raises OvertureError where that does not fit.
    """
    if "expected" in result:
        expected, beside = result["expected"], result.get("expected_also", ())
    else:
        from overture import recipes

        claim = recipes.claim(need(result, "recipe"))
        expected, beside = claim.expected, claim.expected_also
    parts = {part.task: part for part in (*also_measured(result), main)}
    ill = {s.name for s in main.stopped}

    def found(task: str, better: str, worse: str) -> Difference | None:
        difference = parts[task].difference(better, worse) if task in parts else None
        if difference is None and not {better, worse} & ill:
            raise OvertureError(
                f"this result of {result['recipe']!r} does not compare {better!r} with {worse!r}, which its claim expects: "
                f"was the claim changed since? 'overture check {result['recipe']}' runs it as it is"
            )
        return difference

    return (
        [((b, w), found(main.task, b, w)) for b, w in expected],
        [found(task, b, w) for task, b, w in beside],
    )


def _of_what_decides(main: Measured, asked: list[tuple[Pair, Difference | None]]) -> str:
    """How many of the differences that decide were found, and the least sure of them; which could not be measured, and why."""
    there = sorted((d for _, d in asked if d is not None), key=_least_sure_first)
    total, real = len(asked), sum(d.reading == REAL for d in there)
    if total == 1 and there:
        return f"The difference that the claim rests on was {'' if real else 'not '}found: {sentence(main, there[0])}"
    count = {total: "Both" if total == 2 else f"All {total}", 0: f"None of the {total}"}
    words = []
    if there:
        many, were = count.get(real, f"{real} of the {total}"), "was" if real == 1 else "were"
        least = sentence(main, there[0])
        words = [f"{many} differences that the claim rests on {were} found; the least sure: {least}"]
    ill = {s.name: s for s in main.stopped}
    for (better, worse), difference in asked:
        if difference is None:
            why = listed(f"{name} was {ill[name].text}" for name in (better, worse) if name in ill)
            words.append(f"The claim rests on {better} against {worse}, which were not compared: {why}.")
    return " ".join(words)


def _of_what_stands_beside(asked: list[Difference | None]) -> str:
    if not asked:
        return ""
    real, lacking = sum(d is not None and d.reading == REAL for d in asked), sum(d is None for d in asked)
    decide, were = "decides" if len(asked) == 1 else "decide", "was" if real == 1 else "were"
    words = f"{real} of {counted(len(asked), 'further expected difference')}, which {decide} nothing, {were} found"
    return f"{words}; {lacking} could not be measured." if lacking else f"{words}."


def _of_stopped(arms: Sequence[Stopped]) -> str:
    """Which arms fell ill."""
    return f"Not compared: {'; '.join(f'{s.name}, {s.text}' for s in arms)}." if arms else ""


def sentence(main: Measured, d: Difference) -> str:
    """One comparison in words: who reaches what, by how much, how sure."""
    digits = main.decimals
    better, worse = main.arm(d.better), main.arm(d.worse)
    both = f"{d.better} reaches {_a(main.metric)} {main.metric} of {fixed(better.mean, digits)}, {d.worse} {fixed(worse.mean, digits)}"
    if d.value is None:
        return f"{both}; their difference was not measured."
    way = "higher" if d.value > 0 else "lower"
    size = f"{both}: {way} by {fixed(abs(d.value), digits)}"
    if d.low is None or d.high is None:
        return f"{size}, without an interval, so chance cannot be told from effect."
    low, high = (d.low, d.high) if d.value > 0 else (-d.high, -d.low)
    sure = f"95\N{NO-BREAK SPACE}% interval {fixed(low, digits)} to {fixed(high, digits)}" + (
        f", {p_value(d.p)}" if finite(d.p) else ""
    )
    ends = {REAL: ".", CHANCE: ", which could be chance.", REVERSED: ", against what was expected.", UNTESTED: "."}
    return f"{size} ({sure}){ends[d.reading]}"


def _verdict_of_comparison(result: Mapping[str, Any], main: Measured) -> tuple[str, str, str]:
    best, real = need(result, "best"), bool(need(result, "best_is_real"))
    if best is None or not main.arms:
        return "open", "No arm has a result.", "Every run failed or was stopped; the list of runs below says why."
    if best not in [arm.name for arm in main.arms]:
        raise OvertureError(
            f"best is {best!r}, which is no arm of this result. {near(str(best), [a.name for a in main.arms])}"
        )
    others = [d for d in main.differences if d.better == best]
    closest = min(others, key=_least_sure_first, default=None)
    detail = (
        sentence(main, closest)
        if closest
        else f"{best} reaches {_a(main.metric)} {main.metric} of {main.arm(best).text(main.decimals)}."
    )
    ill = f" {_of_stopped(main.stopped)}" if main.stopped else ""
    if real:
        return "good", f"{best} is best, beyond chance.", detail + ill
    if len(main.arms) == 1:
        return "open", f"{best} is the only arm with a result.", detail + ill
    return (
        "open",
        f"{best} has the best mean, but the lead could be chance.",
        f"{detail} More seeds or a larger budget would tell.{ill}",
    )


def _least_sure_first(d: Difference) -> tuple[int, float]:
    return [REVERSED, UNTESTED, CHANCE, REAL].index(d.reading), -(d.p if d.p is not None else 0.0)


def _measure(metric: str, higher_is_better: bool, part: Mapping[str, Any], result: Mapping[str, Any]) -> Measured:
    arms, colour = [], colours(result)
    for name, values in part["arms"].items():
        low, high = _interval(values.get("ci95"))
        given = values.get("seeds", ())
        seeds = tuple(float(v) for v in given if finite(v))
        failed = len(given) - len(seeds)
        arms.append(
            Arm(
                name=name,
                colour=colour[name],
                seeds=seeds,
                failed=failed,
                mean=_finite(values.get("mean")),
                low=low,
                high=high,
            )
        )
    arms.sort(
        key=lambda arm: (arm.mean is None, 0.0 if arm.mean is None else -arm.mean if higher_is_better else arm.mean)
    )
    known = [arm.name for arm in arms]
    differences = []
    for item in part.get("comparisons", ()):
        for side in ("better", "worse"):
            if item[side] not in known:
                raise OvertureError(
                    f"a comparison in {metric!r} names the arm {item[side]!r}, which has no result. {near(item[side], known)}"
                )
        low, high = _interval(item.get("ci95"))
        value = _finite(item.get("difference"))
        differences.append(
            Difference(
                better=item["better"],
                worse=item["worse"],
                value=value,
                low=low,
                high=high,
                p=_finite(item.get("p")),
                reading=_reading(value, low, high, higher_is_better),
                detectable=_finite(item.get("detectable")),
            )
        )
    return Measured(
        metric=metric,
        task=str(part.get("task", "")),
        outside=tuple(
            f"{name} {fixed(found['value'], 3)}"
            + (f" [{fixed(found['ci95'][0], 3)}, {fixed(found['ci95'][1], 3)}]" if found.get("ci95") else "")
            for name, found in result.get("outside", {}).get(part.get("task"), {}).items()
        ),
        beside=tuple(_beside(name, found) for name, found in part.get("probes", {}).items() if _scores(found)),
        of_task=str(part.get("of_task", part.get("task", ""))),
        label_minutes=part.get("label_minutes"),
        label_rows=part.get("label_rows"),
        higher_is_better=higher_is_better,
        gaps=tuple(_gap(name, found) for name, found in part.get("gaps", {}).items()),
        savings=tuple(_saving(name, found) for name, found in part.get("savings", {}).get("arms", {}).items()),
        reach=str(part.get("savings", {}).get("reach", "")),
        arms=tuple(arms),
        differences=tuple(differences),
        stopped=tuple(
            Stopped(name=name, colour=colour[name], text=_stops(runs), advice=str(runs[0]["message"]))
            for name, runs in result.get("stopped", {}).items()
        ),
    )


def _scores(seeds: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Of what stands beside a score in the JSON, what is a score itself, seed by seed."""
    names = [n for n, found in seeds[0].items() if isinstance(found, Mapping) and finite(found.get("value"))]
    return {n: [s[n]["value"] for s in seeds if n in s] for n in names}


def _beside(arm: str, seeds: Sequence[Mapping[str, Any]]) -> str:
    means = {IN_FULL.get(n, n.replace("_", " ")): sum(v) / len(v) for n, v in _scores(seeds).items()}
    return f"{arm}: {', '.join(f'{name} {fixed(mean, 2)}' for name, mean in means.items())}"


def _gap(arm: str, found: Mapping[str, Any]) -> Gap:
    a, b = found["between"]
    low, high = _interval(found["ci95"])
    scores = float(found["groups"][a]), float(found["groups"][b])
    return Gap(arm=arm, between=(found["column"], a, b), scores=scores, value=float(found["mean"]), low=low, high=high)


def _saving(arm: str, found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return f"{arm} does not come there with every seed"
    interval = f" [{', '.join(fixed(100 * end, 0) for end in found['ci95'])}]" if found["ci95"] else ""
    return f"{arm} {fixed(100 * found['mean'], 0)} %{interval}"


def _stops(runs: Sequence[Mapping[str, Any]]) -> str:
    """`stopped at update 40: vanished rank (seed 0); at update 1,200: not finite (seed 2)`."""
    return "stopped " + "; ".join(f"at update {number(r['update'])}: {r['cause']} (seed {r['seed']})" for r in runs)


def _reading(value: float | None, low: float | None, high: float | None, higher_is_better: bool) -> str:
    if value is None or low is None or high is None:
        return UNTESTED
    if low <= 0 <= high:
        return CHANCE
    return REAL if (low > 0) == higher_is_better else REVERSED


def _interval(ci95: Any) -> tuple[float | None, float | None]:
    if ci95 is None or len(ci95) != 2 or not all(finite(v) for v in ci95):
        return None, None
    return float(ci95[0]), float(ci95[1])


def _finite(value: Any) -> float | None:
    return float(value) if finite(value) else None


def _a(noun: str) -> str:
    return "an" if noun[:1].lower() in "aeiou" else "a"
