"""Reading a claim's or a comparison's JSON: arms, differences, and the verdict in plain words, all computed from the numbers in it.

`difference` in the JSON is the mean of `better` minus the mean of `worse`, in units of the metric: below zero where a lower-is-better claim holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overture.errors import OvertureError, near
from overture.report.words import decimals_for, finite, fixed, p_value

VERDICTS = {"holds": "The claim holds.", "does not hold": "The claim does not hold.", "undecided": "Undecided."}
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


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One metric: its arms, best first, and their differences."""

    metric: str
    task: str  # empty if the result names none
    higher_is_better: bool
    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]

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
        return self.metric[:1].upper() + self.metric[1:] + (f", {self.task}" if self.task else "")

    @property
    def direction(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)


def need(result: Mapping[str, Any], field: str) -> Any:
    """A field of the JSON, or an OvertureError that names it."""
    if field not in result:
        raise OvertureError(
            f"this result lacks {field!r}; it has {', '.join(map(repr, result))}. Was it written by 'check' or 'compare'?"
        )
    return result[field]


def measured(result: Mapping[str, Any]) -> Measured:
    """The main metric of a result."""
    return _measure(need(result, "metric"), bool(need(result, "higher_is_better")), result, list(need(result, "arms")))


def also_measured(result: Mapping[str, Any]) -> list[Measured]:
    """The other metrics, by their name or their task's; each may say its own `higher_is_better`, else it goes the way of the main one."""
    main, order = bool(need(result, "higher_is_better")), list(need(result, "arms"))
    return [
        _measure(part.get("metric", name), bool(part.get("higher_is_better", main)), part, order)
        for name, part in result.get("also", {}).items()
    ]


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
    counts = {
        reading: sum(d.reading == reading for d in main.differences) for reading in (REAL, CHANCE, REVERSED, UNTESTED)
    }
    total = len(main.differences)
    words = []
    if total > 1:
        found = {total: "Both" if total == 2 else f"All {total}", 0: f"None of {total}"}.get(
            counts[REAL], f"{counts[REAL]} of {total}"
        )
        words = [f"{found} expected differences {'was' if counts[REAL] == 1 else 'were'} found; the least sure:"]
    words += [sentence(main, d) for d in sorted(main.differences, key=_least_sure_first)[:1]]
    seeds = sorted({len(arm.seeds) for arm in main.arms if arm.seeds})
    if seeds:
        words.append(
            f"Measured with {seeds[0] if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'} {'seed' if seeds == [1] else 'seeds'} an arm."
        )
    return {"holds": "good", "does not hold": "bad", "undecided": "open"}[word], VERDICTS[word], " ".join(words)


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
    if real:
        return "good", f"{best} is best, beyond chance.", detail
    return (
        "open",
        f"{best} has the best mean, but the lead could be chance.",
        f"{detail} More seeds or a larger budget would tell.",
    )


def _least_sure_first(d: Difference) -> tuple[int, float]:
    return [REVERSED, UNTESTED, CHANCE, REAL].index(d.reading), -(d.p if d.p is not None else 0.0)


def _measure(metric: str, higher_is_better: bool, part: Mapping[str, Any], order: list[str]) -> Measured:
    arms = []
    for name, values in part["arms"].items():
        low, high = _interval(values.get("ci95"))
        colour = order.index(name) if name in order else len(order)
        given = values.get("seeds", ())
        seeds = tuple(float(v) for v in given if finite(v))
        failed = len(given) - len(seeds)
        arms.append(
            Arm(
                name=name,
                colour=colour,
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
            )
        )
    return Measured(
        metric=metric,
        task=str(part.get("task", "")),
        higher_is_better=higher_is_better,
        arms=tuple(arms),
        differences=tuple(differences),
    )


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
