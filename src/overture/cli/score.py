"""`overture data score`: add columns of scores to a corpus, to select, mix and order by."""

from pathlib import Path
from typing import Annotated

import typer

from overture.errors import OvertureError

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


def score(
    name: Annotated[str, typer.Argument(help="A corpus.")],
    scorers: Annotated[
        list[str] | None, typer.Option("--with", "-w", help="A scorer, or several, parted by commas.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="SCORER.FIELD=VALUE, e.g. ngram.where=\"source = 'manual'\"; may be repeated."),
    ] = None,
    segments: Annotated[
        bool, typer.Option("--segments", help="Also of each sentence (of code: line), where the scorer can.")
    ] = False,
    as_: Annotated[
        str | None, typer.Option("--as", help="Write to a new corpus of the same rows and recordings.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Score anew what was scored otherwise.")] = False,
) -> None:
    """Add columns of raw scores to a corpus: the same command again does nothing, other settings need --replace.

    Then select by them: --where "snr > 20" works wherever a corpus is named.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from overture.config import override
    from overture.data.score import SCORERS, scorer
    from overture.data.score.annotate import annotate

    named = [key for given in scorers or [] for key in given.split(",") if key]
    if not named:
        listed = "\n".join(f"  {key:10s} {about}" for key, (_, about) in SCORERS.items())
        raise OvertureError(f"name a scorer with --with:\n{listed}")
    wanted = {key: scorer(key) for key in dict.fromkeys(named)}
    for text in set_ or []:
        path, equals, value = text.partition("=")
        key, dot, field = path.partition(".")
        if not (equals and dot and field):
            raise OvertureError(f"--set {text!r}: write SCORER.FIELD=VALUE.")
        if key not in wanted:
            raise OvertureError(
                f"--set {text!r}: the scorer {key!r} is not among those of --with ({', '.join(wanted)})."
            )
        wanted[key] = override(wanted[key], {field: value})
    if segments:
        able = {key for key, of in wanted.items() if hasattr(of, "segments")}
        if not able:
            raise OvertureError(f"--segments: none of {', '.join(wanted)} scores segments.")
        wanted = {key: override(of, {"segments": "true"}) if key in able else of for key, of in wanted.items()}

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("opening", total=None)
        done = annotate(
            name, wanted, name=as_, replace=replace,
            progress=lambda key, done, of: bars.update(task, completed=done, total=of, description=key),
        )  # fmt: skip
    _said(done.folder, done.made, done.kept)


def _said(folder: Path, made: tuple[str, ...], kept: tuple[str, ...]) -> None:
    """What the columns hold."""
    import numpy as np
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    from overture.data.select import are_numbers, numbers
    from overture.data.table import Table, about_corpus

    console = Console()
    table = Table.open(str(folder))
    records = about_corpus(folder)["scores"]
    shown = RichTable("column", "least", "10 %", "median", "90 %", "most", "none", box=SIMPLE_HEAD, pad_edge=False)
    for column in shown.columns[1:]:
        column.justify = "right"
    for name in (*made, *kept):
        if not are_numbers(table, name):
            shown.add_row(name, *[""] * 5, f"{table.columns.column(name).null_count:,}")
            continue
        values = numbers(table, name)
        there = values[~np.isnan(values)]
        found = [f"{v:.4g}" for v in np.quantile(there, QUANTILES)] if len(there) else ["-"] * len(QUANTILES)
        shown.add_row(name, *found, f"{len(values) - len(there):,}")
    console.print(f"{table.name}: {len(table):,} rows" + ("" if made else ", scored before"), highlight=False)
    console.print(shown)
    for key, notes in {r["scorer"]: r["notes"] for c in (*made, *kept) if "notes" in (r := records[c])}.items():
        console.print(f"{key}: " + ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in notes.items()), highlight=False)
