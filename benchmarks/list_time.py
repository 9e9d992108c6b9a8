"""How long `overture list` takes, as a person waits for it.

COMMAND   python benchmarks/list_time.py
RUNTIME   30 seconds

The whole process from start to exit, its output thrown away, against `python -c pass`, the least that any Python program costs. Turns alternate.
The target is 0.3 s; nothing heavy may be imported for it (law 10).
"""

import sys
from pathlib import Path

from common import finish, machine, parser, run_process, summary, versions

ROUNDS = 21


def main() -> None:
    args = parser(__doc__).parse_args()
    about = machine()
    program = Path(sys.executable).with_name("overture")
    if not program.exists():
        raise SystemExit(
            f"no command 'overture' beside {Path(sys.executable).name}: install this project first (pip install -e .)"
        )
    commands = {"ours": [str(program), "list"], "peer": [sys.executable, "-c", "pass"]}
    costs: dict[str, list[float]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    rounds = 3 if args.quick else ROUNDS
    for number in range(-2, rounds):  # two that do not count: files come from the disk
        for name, command in commands.items():
            cost = run_process(command)
            if number >= 0:
                costs[name].append(cost.seconds)
                cpu[name].append(cost.cpu)
    sides = {n: {"seconds": summary(costs[n]), "cpu_seconds": summary(cpu[n])} for n in commands}
    result = {
        "work": "`overture list` as a whole process",
        "ours": sides["ours"],
        "peer": {"name": "python -c pass", **sides["peer"]},
        "ratio": sides["peer"]["seconds"]["median"] / sides["ours"]["seconds"]["median"],
        "runs": rounds,
        "machine": about,
        "versions": versions("typer", "rich"),
        "notes": ["The ratio is below 1 by nature: the peer does nothing. What counts is the median, against 0.3 s."],
    }
    finish("list_time", result, quick=args.quick)


if __name__ == "__main__":
    main()
