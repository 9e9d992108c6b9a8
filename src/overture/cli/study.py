"""The verbs about several runs: check a claim, compare recipes."""

import math
import re
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overture import jsonfile
from overture.config import fingerprint
from overture.errors import OvertureError, near
from overture.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from overture.run import Run
    from overture.study import Arm

MEASURED = {
    "h-audio": ("audio seconds per update", 1 / 3600),
    "tok": ("tokens per update", 1.0),
}  # by the unit of a budget
FEWEST = 10  # updates of a run in a comparison
EVEN = 1.25  # how far from the others', and from its budget, a run's time may be, as a factor
TIMES, UPDATES = 5, 5  # short measurements of a recipe's speed, and the updates of one
BUDGET = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)(s|m|h|h-audio|tok|flop)")


def check(
    recipe: Annotated[str, typer.Argument(help="NAME of a recipe, or NAME:OTHER where it has a second claim.")],
    out: Annotated[Path, typer.Option(help="Folder of the result's JSON and page.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    processes: Annotated[
        int, typer.Option(min=1, help="Seeds that are worked on side by side, each with its share of the cores.")
    ] = 1,
) -> None:
    """Run a recipe's claim, the paper's comparison in small.

    All arms and seeds, intervals, a computed verdict. Killed, the same command goes on.
    """
    from rich.console import Console

    from overture import recipes
    from overture.cli.progress import Live
    from overture.laboratory import check as conduct
    from overture.report import comparison_table, write_comparison_report
    from overture.report.sounds import of_result

    console = Console()
    with Live(console) as live:
        result = conduct(recipes.claim(recipe), runs, live.record, processes)
    folders = {arm: [runs / name for name in found] for arm, found in result["runs"].items()}
    out.mkdir(parents=True, exist_ok=True)
    stem = recipe.replace(":", "-")
    path = out / f"{stem}.json"
    jsonfile.write(path, result)
    console.print(comparison_table(result))
    console.print(
        f"{recipe}: the claim {result['verdict']}" if result["verdict"] != "undecided" else f"{recipe}: undecided"
    )
    _print_stopped(console, result)
    console.print(f"result: {path}", soft_wrap=True)
    page = write_comparison_report(result, folders, runs / f"{stem}-claim.html", of_result(result, runs))
    console.print(f"report: {page}", soft_wrap=True)


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="START...",
            help="Recipes (NAME or NAME:SIZE, and +TRANSFORM to train one under it, as in w2v-bert+sltrain), which are trained; run folders "
            "and transformers checkpoints, which are taken as they are.",
        ),
    ],
    data: Annotated[str, typer.Option(help="Corpus: a name or a folder.")] = "embedded",
    where: Annotated[str | None, typer.Option(help="SQL: which rows.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(TASKS)}; the first decides. Default: speaker-id, of text label-finetune."),
    ] = None,
    budget: Annotated[
        str, typer.Option(help="A run's share: 90s, 30m, 2h of training, 5h-audio, 1e6tok of text, or 1e15flop.")
    ] = "10m",
    seeds: Annotated[int, typer.Option(min=1, help="Runs a recipe.")] = 3,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labelled speech to learn the task from, as in 15m, or rows, as in 50rows; several amounts, as in 15m,5m,60m, give a "
            "learning curve (the first decides). Default: all."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
) -> None:
    """Same budget, your corpus and task: which recipe, or which checkpoint, is best?

    And is the difference real? Controls stand beside them: the front ends alone (log-mel; of text, tf-idf), and each network untrained.
    A checkpoint that has heard the test recordings, or read the test texts, is refused.
    A budget of time is turned into updates by timing a few of them, so let nothing else run meanwhile.
    """
    from dataclasses import replace

    from rich.console import Console

    from overture.cli.progress import Live
    from overture.data.table import Table
    from overture.laboratory import compare as conduct
    from overture.models.origin import Origin, weights_fingerprint
    from overture.report import comparison_table, write_comparison_report
    from overture.report.sounds import of_result
    from overture.study import Arm, Study, Trial
    from overture.tasks import find_task, fits, suits

    amount, unit = parse_budget(budget)
    amounts: list[dict[str, Any]] = [{}] if labels is None else parse_labels(labels)
    text = Table.open(data, where).is_text
    tasks = list(dict.fromkeys(task or ["label-finetune" if text else "speaker-id"]))
    for named in tasks:  # a slip is said before anything is measured
        fits(find_task(named), text, data)
    console = Console()
    arms: list[Arm] = []
    with Live(console) as live:
        runs_of: dict[str, Run] = {}
        for name in dict.fromkeys(names):
            run, start = _entrant(name, runs)
            if run.on_text != text:
                raise OvertureError(
                    f"{name} {'reads text' if run.on_text else 'hears speech'}, and corpus {data!r} is {'text' if text else 'speech'}"
                )
            for named in tasks:
                suits(find_task(named), run)
            runs_of[name] = replace(run, data=replace(run.data, corpus=data, where=where), start=start).settled()
        trained = {name: run for name, run in runs_of.items() if run.start is None}
        if trained:
            live.record({"kind": "stage", "text": f"how many updates are {budget}? ({', '.join(trained)})"})
        measured = speeds_of(trained, runs, times=TIMES if unit == "s" else 1)
        for name, run in runs_of.items():
            if name in measured:
                updates = updates_for(measured[name], amount, unit)
                live.record({"kind": "stage", "text": f"{name}: {in_words(measured[name], updates, budget, unit)}"})
                if updates < FEWEST:
                    live.record({"kind": "note", "text": f"{budget} pays for {updates} updates; {FEWEST} are made"})
                run = replace(run, loop=replace(run.loop, updates=max(FEWEST, updates)))
            else:
                run = replace(run, start_weights=weights_fingerprint(Origin.open(str(run.start), runs).weights()))
            control = Arm(name=control_name(name, run, arms), run=run, kind="input")
            if not any(a.kind == "input" and a.input_frontend == control.input_frontend for a in arms):
                arms.append(control)
            fresh = Arm(
                name=f"{_without_transform(name)}, untrained",
                run=replace(run, start=None, start_weights=None, transform=None),
                kind="untrained",
            )
            if all(a.name != fresh.name for a in arms):  # a recipe under several transforms has one
                arms.append(fresh)
            arms.append(Arm(name=name, run=run, kind="trained" if name in measured else "start"))
        study = Study(
            arms=tuple(arms),
            trials=tuple(Trial(task=t, **amount) for t in tasks for amount in amounts),
            corpus=data,
            where=where,
            seeds=tuple(range(seeds)),
        )
        result = conduct(study, runs, live.record, budget=budget) | {"calibration": measured}
    seconds = {arm: cost["seconds"] for arm, cost in result["cost_by_arm"].items() if arm in measured}
    result["deviations"] = uneven(seconds, amount, budget) if unit == "s" else []
    folders = {arm: [runs / name for name in found] for arm, found in result["runs"].items()}
    recipe_names = "-".join(dict.fromkeys(Path(n).name.replace(":", "-") for n in names))
    stem = f"compare-{recipe_names}-{fingerprint([study, budget])[:6]}"
    path = runs / f"{stem}.json"
    jsonfile.write(path, result)
    console.print(comparison_table(result))
    sure = "and its lead over every other is real" if result["best_is_real"] else "but its lead could be chance"
    console.print(f"best: {result['best']}, {sure}")
    _print_stopped(console, result)
    for text in result["deviations"]:
        console.print(f"[yellow]note[/yellow] {text}", soft_wrap=True)
    console.print(f"result: {path}", soft_wrap=True)
    page = write_comparison_report(result, folders, path.with_suffix(".html"), of_result(result, runs))
    console.print(f"report: {page}", soft_wrap=True)


def _without_transform(name: str) -> str:
    """`w2v-bert` of `w2v-bert+sltrain`; a folder's name may hold what it likes."""
    return name if Path(name).exists() else name.partition("+")[0]


def _entrant(name: str, runs: Path) -> tuple["Run", str | None]:
    """What a comparison is told by one name: a run, and what it starts from as `Run.start` says it.

    Raises OvertureError as `started` does, for a transform that is none, and for one of what is not trained.
    """
    from dataclasses import replace

    from overture.cli.start import started
    from overture.models import transforms

    recipe = _without_transform(name)
    run, start, _ = started(recipe, runs)
    if recipe == name:
        return run, start
    if start is not None:
        raise OvertureError(f"{name}: {recipe} is taken as it is, and a transform is of what is trained: name a recipe")
    return replace(run, transform=transforms.find(name.removeprefix(f"{recipe}+"))), None


def uneven(seconds: "Mapping[str, float]", budget: float, said: str) -> list[str]:
    """What a comparison by time has to own up to: recipes whose runs took much more or less time than the others', or all than the budget (s).

    `seconds`: of training, a recipe's mean. Updates are counted out beforehand, so that a study can go on; load then or now makes them uneven.
    """
    if not seconds:
        return []
    middle = statistics.median(seconds.values())
    took = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    if any(not middle / EVEN <= value <= middle * EVEN for value in seconds.values()):
        why = "since other work was on the machine when updates were timed, or in training"
        return [
            f"Not at equal time: of {said} a run, {took}, {why}. Give the command again when it is quiet, with another --runs."
        ]
    if not budget / EVEN <= middle <= budget * EVEN:
        return [
            f"At equal time, but of {said} a run took {took}: the machine was slower or faster than when updates were timed."
        ]
    return []


def _print_stopped(console: "Console", result: dict[str, Any]) -> None:
    """Which arms fell ill, and what their health rules say."""
    for arm, stops in result["stopped"].items():
        for stop in stops:
            console.print(
                f"fell ill: {arm} with seed {stop['seed']}, stopped at update {stop['update']}: {stop['cause']}: {stop['message']}",
                soft_wrap=True,
                markup=False,
            )


def parse_budget(text: str) -> tuple[float, str]:
    """`30m` -> (1800, "s"); `5h-audio` -> (5, "h-audio"); `1e6tok`, `1e15flop` -> (1e15, "flop"). Raises OvertureError."""
    match = BUDGET.fullmatch(text)
    if not match or float(match[1]) <= 0:
        raise OvertureError(
            f"a budget of {text!r} is not understood: write 90s, 30m, 2h, 5h-audio or 1e15flop, of text 1e6tok. {near(text[-1:], 'smh')}"
        )
    amount, unit = float(match[1]), match[2]
    return (amount * {"s": 1, "m": 60, "h": 3600}[unit], "s") if unit in "smh" else (amount, unit)


def parse_labels(text: str) -> list[dict[str, Any]]:
    """`5m,1h,50rows` -> what a trial is told: [{"label_minutes": 5.0}, {"label_minutes": 60.0}, {"label_rows": 50}]. Raises OvertureError."""
    found: list[dict[str, Any]] = []
    for word in (w.strip() for w in text.split(",")):
        if rows := re.fullmatch(r"([1-9]\d*) ?rows", word):
            found.append({"label_rows": int(rows[1])})
            continue
        seconds, unit = parse_budget(word)
        if unit != "s":
            raise OvertureError(f"--labels {text}: say how long, as in 15m, or how many rows, as in 50rows")
        found.append({"label_minutes": seconds / 60})
    return [amount for i, amount in enumerate(found) if amount not in found[:i]]


def control_name(recipe: str, run: "Run", arms: "Sequence[Arm]") -> str:
    """What the arm of a front end alone is called: by its kind, and by its recipe where another front end has that name."""
    kind = type(run.frontend).__name__
    name = {"LogMel": "log-mel", "Waveform": "log-mel", "KaldiFbank": "filter bank", "Tokens": "tf-idf"}.get(kind, kind)
    return name if all(a.name != name for a in arms) else f"{name} of {recipe}"


def speeds_of(runs: "Mapping[str, Run]", home: Path, *, times: int) -> dict[str, dict[str, Any]]:
    """How fast each of `runs` is on this machine and what an update is; measured once and kept, so that a study that goes on keeps its plan.

    The median of so many short measurements, each after an update to warm up; runs take turns, so that minutes in which the machine is slow
    are bad for all of them alike. Not the fastest: a shared machine is slow for a part of any longer run, too.
    """
    from overture.steps import Step
    from overture.train.speed import measure

    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}

    def keep(name: str, folder: Path) -> None:
        in_order = sorted(found[name], key=lambda one: one["seconds per update"])
        measured = [one["seconds per update"] for one in found[name]]
        jsonfile.write(folder / "speed.json", {**in_order[len(in_order) // 2], "measured": measured})

    steps = {
        name: Step("speed", {"run": run, "median of": times, "updates": UPDATES}, partial(keep, name))
        for name, run in runs.items()
    }
    unknown = [name for name, step in steps.items() if not step.done(home / "judged")]
    for _ in range(times):
        for name in unknown:
            found[name].append(measure(runs[name], UPDATES))
    return {name: jsonfile.read_object(step.perform(home / "judged") / "speed.json") for name, step in steps.items()}


def cost_of(speed: "Mapping[str, Any]", unit: str) -> float:
    """An update's share of a budget, in its unit. Raises OvertureError for hours of text and tokens of speech."""
    if unit in MEASURED:
        name, scale = MEASURED[unit]
        if name not in speed:
            raise OvertureError(
                "a run on text has a budget of tokens, as in 1e6tok, and one on speech of hours, as in 5h-audio"
            )
        return float(speed[name]) * scale
    return float(speed["seconds per update"] if unit == "s" else speed["GFLOP per update"] * 1e9)


def updates_for(speed: "Mapping[str, Any]", amount: float, unit: str) -> int:
    """How many updates a budget pays for."""
    return math.floor(amount / cost_of(speed, unit))


def in_words(speed: "Mapping[str, Any]", updates: int, budget: str, unit: str) -> str:
    """`30m are 1,200 updates of 1.62 s (median of 1.50, 1.62, 1.71 s)`."""
    if unit == "s":
        of = f"{speed['seconds per update']:.3g} s (median of {', '.join(f'{s:.3g}' for s in speed['measured'])} s)"
    else:
        of = {
            "h-audio": lambda: f"{speed['audio seconds per update']:.3g} s of audio",
            "tok": lambda: f"{speed['tokens per update']:,.0f} tokens",
            "flop": lambda: f"{speed['GFLOP per update']:.3g} GFLOP",
        }[unit]()
    return f"{budget} are {updates:,} updates of {of}"
