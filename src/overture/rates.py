"""Sweeps of rates: how far one goes (`beyond`), and the rate of each arm of a claim that is tuned (`chosen`).

An arm's rates are tried with the first seed, chosen on development rows, and the best is then the rate of all seeds. A baseline gets what ours
gets: the same rates, and going on beyond them by the same rule where the best is an outermost one. Test rows are not looked at.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overture.laboratory import Laboratory
    from overture.study import Arm, Study

FURTHER = 2  # rates beyond those of a sweep at most


def beyond(tried: Sequence[float], best: float) -> list[float]:
    """The rate to try next, half a decade (1, 3, 10, ...) beyond the `best` where that is the lowest or the highest of those tried; else none."""
    outward = {max(tried): 1, min(tried): -1}.get(best)
    return [] if outward is None else [float(f"{10 ** ((round(2 * math.log10(best)) + outward) / 2):.0e}")]


def chosen(study: "Study", laboratory: "Callable[[], Laboratory]") -> "tuple[Study, dict[str, Any]]":
    """`study` with each arm at the best of its `rates` and up to `FURTHER` beyond them, and by arm what was tried, as it goes into the result."""
    if not any(arm.rates for arm in study.arms):
        return study, {}
    room = laboratory()
    tried = {arm.name: _tried(arm, room) for arm in study.arms if arm.rates}
    arms = tuple(arm.at_rate(tried[arm.name]["chosen"]) if arm.rates else arm for arm in study.arms)
    return replace(study, arms=arms), tried


def _tried(arm: "Arm", room: "Laboratory") -> dict[str, Any]:
    """Each rate with the arm's score on the development rows of the first trial; None for one at which a health rule stopped it.

    Where that is all of them, the first is `chosen`, and the study reports it as stopped.
    """
    seed, higher = room.study.seeds[0], room.trials[0].task.higher_is_better
    dev: dict[float, float | None] = {}
    seconds = 0.0
    best, waiting = arm.rates[0], list(arm.rates)
    while waiting:
        rate = waiting.pop(0)
        one = replace(arm.at_rate(rate), name=f"{arm.name} at {rate:g}")
        found = room.pretraining.train(one, seed)
        seconds += found.costs[-1]["seconds"]
        dev[rate] = None if found.stopped else room.judge(one, seed, 0, on="dev").value
        healthy = [(value if higher else -value, r) for r, value in dev.items() if value is not None]
        best = max(healthy)[1] if healthy else best
        if healthy and not waiting and len(dev) < len(arm.rates) + FURTHER:
            waiting = beyond(list(dev), best)
    return {"chosen": best, "dev": {f"{r:g}": v for r, v in dev.items()}, "seed": seed, "seconds": seconds}
