"""Record the reference curves of law 8: `python -m tests.laws.record_curves [RECIPE...]`, after a change that is meant to move them.

The band of an update spans five seeds, widened by half their range on both sides and by 2 % of the loss.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from overture.recipes import INDEX, get
from overture.train.engine import Engine
from overture.train.loop import train
from overture.train.track import read_metrics


def record(recipe: str) -> None:
    curves = []
    for seed in range(5):
        with tempfile.TemporaryDirectory() as folder, Engine.start() as engine:
            train(replace(get(f"{recipe}:tiny"), seed=seed), Path(folder), engine=engine)
            curves.append({r["update"]: r["loss"] for r in read_metrics(Path(folder)) if r["kind"] == "update"})
    updates = sorted(curves[0])
    low, high = [], []
    for update in updates:
        values = [c[update] for c in curves]
        slack = 0.5 * (max(values) - min(values)) + 0.02 * max(values)
        low.append(round(min(values) - slack, 5))
        high.append(round(max(values) + slack, 5))
    out = Path(__file__).parent / "curves" / f"{recipe}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"update": updates, "low": low, "high": high}) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(INDEX):
        record(name)
