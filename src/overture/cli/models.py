"""The verbs about one recipe or run: list, show, run, export, report, bench."""

import json
import os
import re
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overture.errors import OvertureError, near
from overture.recipes import INDEX

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from overture.run import Run

HIGH_RATE = 1e-4  # peak learning rate that published weights are not gone on with
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change one field, as in players.0.optim.lr=1e-3."),
]


Reparameterise = Annotated[
    str | None,
    typer.Option(help="Linear layers as: low-rank, sltrain, masked, lora, or none; sizes by --set transform.rank=..."),
]


def parse_set(pairs: list[str] | None) -> dict[str, str]:
    """`["a.b=1"]` -> `{"a.b": "1"}`. Raises OvertureError when an item has no '='."""
    for pair in pairs or []:
        if "=" not in pair:
            raise OvertureError(f"--set {pair}: write FIELD=VALUE")
    return dict(pair.split("=", 1) for pair in pairs or [])


def _configured(recipe: str, transform: str | None, changes: dict[str, str]) -> "Run":
    """A recipe's run under a transform, with some fields changed."""
    from dataclasses import replace

    from overture import recipes
    from overture.config import override
    from overture.models import transforms

    found = recipes.get(recipe)
    return override(found if transform is None else replace(found, transform=transforms.find(transform)), changes)


def list_(search: Annotated[str | None, typer.Option(help="Words: what you look for, or have.")] = None) -> None:
    """List the recipes, or those that fit a search, best first."""
    words = re.findall(r"\w{3,}", (search or "").lower())
    scored = []
    for name, entry in INDEX.items():
        text = f" {name} {entry.title} {entry.good_for} {entry.paper}".lower()
        score = sum(bool(re.search(rf"\b{re.escape(w)}", text)) for w in words) + sum(w in name for w in words)
        if score or not search:
            scored.append((-score, name, entry))
    if not scored:
        raise OvertureError(
            f"no recipe fits {search!r}; there are: " + ", ".join(f"{n} ({e.title})" for n, e in INDEX.items())
        )
    width, column = min(shutil.get_terminal_size().columns, 110), max(map(len, INDEX)) + 1
    for _, name, entry in sorted(scored, key=lambda s: s[:2]):
        for text in (f"{name:{column}}{entry.title} ({entry.paper})", f"{'':{column}}good for: {entry.good_for}"):
            typer.echo(textwrap.fill(text, width, subsequent_indent=" " * column))


def show(
    recipe: Annotated[str, typer.Argument(help="NAME or NAME:SIZE (tiny, default, published).")],
    set_: Set = None,
    transform: Reparameterise = None,
) -> None:
    """Show a recipe: what it is, its configuration, its size."""
    import inspect

    import torch

    from overture import recipes
    from overture.config import flatten

    run = _configured(recipe, transform, parse_set(set_))
    typer.echo(inspect.cleandoc(recipes.load(run.recipe).__doc__ or ""))
    typer.echo(
        f"\nsizes: {', '.join(recipes.SIZES)}   claim: overture check {run.recipe}   train: overture run {recipe} --data CORPUS"
    )
    with torch.device("meta"):
        parameters = sum(p.numel() for p in run.model.build(run.frontend).parameters())
    typer.echo(f"\n{run.recipe}:{run.size}  {parameters / 1e6:.1f} M parameters  fingerprint {run.fingerprint}\n")
    if run.transform is not None:
        typer.echo(_transformed(run))
    values = flatten(run)
    width = max(map(len, values))
    for name, value in values.items():
        typer.echo(f"  {name:{width}}  {json.dumps(value)}")


def _transformed(run: "Run") -> str:
    """What a transform makes of a network: parameters, bytes, and FLOPs of its linear layers."""
    from dataclasses import replace

    from overture.models.transforms.apply import counts, outline

    dense, found = counts(outline(replace(run, transform=None))), counts(outline(run))
    lines = [
        ("parameters, M", dense.parameters / 1e6, found.parameters / 1e6),
        ("of these trained, M", dense.trained / 1e6, found.trained / 1e6),
        ("MB of weights and supports", dense.bytes / 1e6, found.bytes / 1e6),
        ("FLOPs a step of linear layers if zeros were skipped, M", dense.skipping / 1e6, found.skipping / 1e6),
    ]
    return "".join(f"  {what:56}{a:12,.2f} dense {b:12,.2f} {type(run.transform).__name__}\n" for what, a, b in lines)


def run(
    recipe: Annotated[str, typer.Argument(help="NAME or NAME:SIZE (tiny, default, published).")],
    data: Annotated[str | None, typer.Option(help="Corpus: a name or a folder.")] = None,
    where: Annotated[
        str | None, typer.Option(help="SQL: which rows, as in \"language = 'es' and duration < 10\".")
    ] = None,
    set_: Set = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            "--from",  # torchrun takes --start for an option of its own
            help="Go on from the weights of a run folder or of a checkpoint folder of transformers: sizes are its own, "
            "model.layers may be lowered, frontend.rate changed, and with grow.method=aki the recipe's own, larger sizes are kept.",
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="A run folder whose network teaches this run, where its objective listens to one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and masks.")] = 0,
    out: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    engine: Annotated[str, typer.Option(help="Under torchrun: ddp or fsdp.")] = "ddp",
    transform: Reparameterise = None,
    track: Annotated[list[str] | None, typer.Option(help="Also write to: tensorboard, trackio.")] = None,
) -> None:
    """Train. Ctrl-C saves; the same command goes on. Under torchrun, on many devices."""
    from collections.abc import Callable
    from dataclasses import replace

    from rich.console import Console
    from rich.markup import escape

    from overture import outcome, recipes
    from overture.cli.progress import Live
    from overture.config import to_dict
    from overture.report import write_run_report
    from overture.report.words import heard
    from overture.train.track import TensorBoardTracker, Tracker, TrackioTracker

    if engine not in ("ddp", "fsdp"):
        raise OvertureError(f"no engine {engine!r}. {near(engine, ('ddp', 'fsdp'))}")
    changes = parse_set(set_)
    configured = _configured(recipe, transform, changes)
    configured = replace(
        configured,
        seed=seed,
        data=replace(configured.data, corpus=data or configured.data.corpus, where=where or configured.data.where),
    )
    known: dict[str, Callable[[Path], Tracker]] = {"tensorboard": TensorBoardTracker, "trackio": TrackioTracker}
    for name in track or []:
        if name not in known:
            raise OvertureError(f"no tracker {name!r}. {near(name, known)}")
    console = Console(quiet=os.environ.get("RANK", "0") != "0")
    if start is not None:
        configured = _continued(configured, start, out, set(changes), console)
    if teacher is not None:
        from overture.models.origin import taught_by

        configured = taught_by(configured, os.path.relpath(teacher, out), out)
    configured = configured.settled()
    folder = out / configured.folder_name
    console.print(f"{configured.recipe}:{configured.size} in {folder}")
    if configured.data.mix or configured.data.matched:
        console.print(_composition(configured))
    ended = outcome.kept(folder)
    if ended is None or track or not outcome.same_data(configured, folder):
        from overture.train.engine import Engine
        from overture.train.loop import train

        def on_record(record: dict[str, Any]) -> None:
            if record["kind"] == "start":
                console.print(f"  [yellow]note[/yellow] {escape(record['text'])}")
            live.record(record)

        with Engine.start("fsdp" if engine == "fsdp" else "ddp") as machine, Live(console) as live:
            found = train(
                configured,
                folder,
                engine=machine,
                trackers=[known[name] for name in track or []],
                on_record=on_record,
                on_progress=live.preparing,
            )
            if machine.first and found.finished:
                outcome.keep(found)
        if not found.finished:
            console.print(f"saved at update {found.updates} of {configured.loop.updates}; the same command goes on")
            if machine.first:
                raise typer.Exit(130)  # so that `overture run ... && overture export ...` exports no half-trained model
        ended = outcome.kept(folder)
    if not console.quiet and ended is not None:
        console.print(f"done: {ended['updates']} updates, {heard(ended)} in {ended['seconds']:.0f} s")
        page = write_run_report(folder, defaults=to_dict(recipes.get(recipe)))
        console.print(f"report: {page}", soft_wrap=True)


def _continued(configured: "Run", start: Path, out: Path, given: set[str], console: "Console") -> "Run":
    """The run as it goes on from the weights in `start`, which it names relative to `out`."""
    from overture.models.start import continued

    if not start.is_dir():
        raise OvertureError(
            f"--start {start} is not a folder: name a run folder, or a checkpoint folder of transformers"
        )
    run = continued(configured, os.path.relpath(start, out), out, given)
    for i, player in enumerate(run.players):
        if not (start / "run.json").exists() and player.optim.lr > HIGH_RATE and f"players.{i}.optim.lr" not in given:
            console.print(
                f"  [yellow]note[/yellow] a peak rate of {player.optim.lr:g} is for fresh weights and soon undoes those of a large "
                f"checkpoint; others went on with 5e-5: --set players.{i}.optim.lr=5e-5"
            )
    return run


def _composition(run: "Run") -> "RichTable":
    """Hours, rows and speakers of each value that the data is matched or mixed by."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    from overture.data.mixture import composition, rows_of

    lines = composition(run.data, rows_of(run.data)[0])
    mixed = any("share" in line for line in lines)
    table = RichTable(
        "column", "value", "rows", "hours", "speakers", *(["share", "times", "rows an epoch"] if mixed else [])
    )
    for line in lines:
        speakers = "-" if line["speakers"] is None else f"{line['speakers']:,}"
        drawn = [f"{line['share']:.3f}", f"{line['ratio']:.3g}", f"{line['drawn']:,}"] if "share" in line else []
        value = "(none)" if line["value"] is None else escape(line["value"])
        table.add_row(line["column"], value, f"{line['rows']:,}", f"{line['hours']:.3f}", speakers, *drawn)
    return table


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
) -> None:
    """Write a run as a folder that transformers opens.

    Refuses when its outputs would differ.
    """
    from overture.export import export as write

    typer.echo(f"exported to {write(run, out)}: transformers gives the same outputs")


def report(
    path: Annotated[Path, typer.Argument(help="A run folder, or the JSON of a claim or comparison.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file.")] = None,
    runs: Annotated[Path, typer.Option(help="Where the run folders of a comparison are, for their curves.")] = Path(
        "runs"
    ),
) -> None:
    """Write one HTML page about a run, a claim or a comparison."""
    from overture.report import write_comparison_report, write_run_report
    from overture.report.sounds import of_result

    if path.is_dir():
        typer.echo(write_run_report(path, out))
        return
    try:
        result = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise OvertureError(f"{path} is no run folder and no JSON ({error})") from error
    if not isinstance(result, dict) or not isinstance(result.get("runs", {}), dict):
        raise OvertureError(f"{path} is JSON, but not of a claim or comparison: 'check' and 'compare' write those")
    named = {arm: [runs / name for name in names] for arm, names in result.get("runs", {}).items()}
    found = {arm: [f for f in folders if f.is_dir()] for arm, folders in named.items()}
    typer.echo(write_comparison_report(result, found, out or path.with_suffix(".html"), of_result(result, runs)))


def bench(
    recipe: Annotated[str, typer.Argument(help="NAME or NAME:SIZE.")] = "tera",
    data: Annotated[str, typer.Option(help="Corpus: a name or a folder.")] = "embedded",
    updates: Annotated[int, typer.Option(help="To time, after one to warm up.")] = 10,
    set_: Set = None,
) -> None:
    """Time updates of a recipe on this machine.

    Audio and targets a second, FLOPs, padding, share of the matrix-product peak.
    """
    from dataclasses import replace

    from overture import recipes
    from overture.config import override
    from overture.train.speed import measure

    run = override(recipes.get(recipe), parse_set(set_))
    found = measure(replace(run, data=replace(run.data, corpus=data)), updates)
    for name, value in found.items():
        typer.echo(f"{name:28} {value:,.4g}" if isinstance(value, float) else f"{name:28} {value}")
