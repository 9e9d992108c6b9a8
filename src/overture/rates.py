"""The rate of each arm of a claim that is tuned: tried with the first seed, chosen on development rows, and then the rate of all seeds.

A baseline gets what ours gets: rates as many, chosen by the same rule. Test rows are not looked at.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from overture.study import Arm, Study

if TYPE_CHECKING:
    from overture.laboratory import Laboratory


def chosen(study: Study, laboratory: "Callable[[], Laboratory]") -> tuple[Study, dict[str, Any]]:
    """`study` with each arm at the best of its `rates`, and by arm what was tried, as it goes into the result."""
    if not any(arm.rates for arm in study.arms):
        return study, {}
    room = laboratory()
    tried = {arm.name: _tried(arm, room) for arm in study.arms if arm.rates}
    arms = tuple(arm.at_rate(tried[arm.name]["chosen"]) if arm.rates else arm for arm in study.arms)
    return replace(study, arms=arms), tried


def _tried(arm: Arm, room: "Laboratory") -> dict[str, Any]:
    """Each rate with the arm's score on the development rows of the first trial; None for one at which a health rule stopped it.

    Where that is all of them, the first is `chosen`, and the study reports it as stopped.
    """
    seed, higher = room.study.seeds[0], room.trials[0].task.higher_is_better
    dev: dict[float, float | None] = {}
    seconds = 0.0
    for rate in arm.rates:
        one = replace(arm.at_rate(rate), name=f"{arm.name} at {rate:g}")
        found = room.pretraining.train(one, seed)
        seconds += found.costs[-1]["seconds"]
        dev[rate] = None if found.stopped else room.judge(one, seed, 0, on="dev").value
    healthy = [(value if higher else -value, rate) for rate, value in dev.items() if value is not None]
    best = max(healthy)[1] if healthy else arm.rates[0]
    return {"chosen": best, "dev": {f"{r:g}": v for r, v in dev.items()}, "seed": seed, "seconds": seconds}
