"""`overture data`: get corpora, add your own, derive and join others, list them, look into them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from overture.errors import OvertureError

app = typer.Typer(no_args_is_help=True)


@contextmanager
def _progress(what: str, then: str = "examining recordings") -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal while recordings are examined."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of, description=then)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    found = {}
    for word in given or []:
        ours, equals, value = word.partition("=")
        if not (ours and equals and value):
            raise OvertureError(f"{option} {word!r}: write NAME=VALUE.")
        found[ours] = value
    return found


def _said(about: dict[str, Any]) -> None:
    """What an import did, in a few lines."""
    from overture.data.check import STOPS, WARNINGS
    from overture.data.table import find_corpus

    text = about.get("kind") == "text"
    size = f"documents, {about['characters']:,} characters" if text else f"utterances, {about['hours']:.2f} h"
    typer.echo(f"{about['name']}: {about['rows']:,} {size}, in {find_corpus(about['name'])}")
    notes = [f"{n:,} x {WARNINGS[kind]}" for kind, n in about["warnings"].items()]
    if notes:
        typer.echo("  to know: " + "; ".join(notes))
    left = [f"{n:,} x {STOPS[kind]}" for kind, n in about["problems"].items()]
    if about["duplicates_dropped"]:
        other = about.get("duplicates_with_another_text")
        left.append(
            f"{about['duplicates_dropped']:,} x the same {'text' if text else 'recording'} again"
            + (f" ({other:,} of them with another text)" if other else "")
        )
    if left:
        typer.echo("  left out (dropped.tsv names them): " + "; ".join(left))
    if about.get("no_text_column"):
        typer.secho(f"  no column of transcripts: {about['no_text_column']}", fg="yellow")
    if about.get("recordings_not_listed"):
        typer.secho(
            f"  {about['recordings_not_listed']:,} recordings in the folder are not in {about['manifest']}", fg="yellow"
        )
    typer.echo(f"  see: overture data show {about['name']}")


@app.command()
def get(
    names: Annotated[list[str], typer.Argument(help="Sources, as 'overture data list' names them.")],
    replace: Annotated[bool, typer.Option("--replace", help="Make a corpus that is installed anew.")] = False,
    debs: Annotated[
        Path | None, typer.Option(help="A folder with the .deb files already downloaded; nothing is fetched then.")
    ] = None,
) -> None:
    """Install corpora made from Debian packages (needs apt-get and dpkg, not root)."""
    from overture.corpora.get import get as install

    if debs is not None and not debs.is_dir():
        raise OvertureError(f"--debs {debs} is not a folder.")
    for name in names:
        with _progress(f"fetching {name}") as progress:
            about = install(name, replace=replace, debs=debs, progress=progress)
        _said(about)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call the corpus.")],
    path: Annotated[
        Path, typer.Argument(help="A folder of recordings, or a table (.tsv .csv .jsonl .parquet) of them.")
    ],
    transcripts: Annotated[
        Path | None,
        typer.Option("--transcripts", "-t", help="TSV, CSV or JSON lines; without it the layout is detected."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", "-c", help="OURS=THEIRS, e.g. text=sentence; may be repeated.")
    ] = None,
    fill: Annotated[
        list[str] | None,
        typer.Option("--fill", help="COLUMN=VALUE for rows without one, e.g. language=es; may be repeated."),
    ] = None,
    named: Annotated[
        str | None,
        typer.Option(
            "--named", help="How recordings are named, e.g. {text}_{speaker}_{take}: columns from file names."
        ),
    ] = None,
    audio: Annotated[
        Path | None, typer.Option("--audio", help="The folder that paths are relative to and must lie in.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of the text files.")] = "utf-8",
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the recordings; otherwise they are used where they are.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Make a corpus of this name anew.")] = False,
    on_problem: Annotated[
        Literal["error", "skip"],
        typer.Option("--on-problem", help="What a broken row does: end the import, or be left out."),
    ] = "error",
    limit: Annotated[float, typer.Option("--limit", help="The longest utterance, s.")] = 3600.0,
) -> None:
    """Make a corpus of your recordings.

    Known layouts: a table beside recordings, LibriSpeech, Common Voice, a Kaldi data directory, lhotse cuts, Hugging Face datasets (saved to disk or
    Parquet), and a folder of bare recordings.
    """
    from overture.corpora.add import add as import_

    with _progress("reading") as progress:
        about = import_(
            name, path, transcripts=transcripts, columns=_pairs("--column", column), fill=_pairs("--fill", fill), named=named,
            audio=audio, encoding=encoding, copy=copy, replace=replace, on_problem=on_problem, limit=limit, progress=progress,
        )  # fmt: skip
    _said(about)


@app.command()
def derive(
    name: Annotated[str, typer.Argument(help="What to call the new corpus.")],
    parent: Annotated[str, typer.Option("--from", help="The corpus it is made of.")],
    telephone: Annotated[bool, typer.Option("--telephone", help="8 kHz, 300 to 3400 Hz, G.711 mu-law.")] = False,
    noise: Annotated[
        str | None, typer.Option("--noise", help="A corpus whose recordings are added, before the telephone.")
    ] = None,
    snr: Annotated[
        str | None, typer.Option("--snr", help="LOW,HIGH: dB, speech over noise, drawn evenly; by default 5,20.")
    ] = None,
    where: Annotated[str | None, typer.Option("--where", help="SQL over the columns of --from.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Make a corpus of this name anew.")] = False,
) -> None:
    """Make a corpus of another one, as it sounds on the telephone or in noise.

    Rows keep their id, text, speaker, source and licence; the column 'derived' says what was done. The same command again does nothing.
    """
    from overture.corpora.derive import derive as make
    from overture.data.augment import TELEPHONE_BAND, WaveAugment

    if not telephone and noise is None:
        raise OvertureError("nothing to do: pass --telephone, --noise CORPUS, or both.")
    if snr is not None and noise is None:
        raise OvertureError(f"--snr {snr}: needs --noise CORPUS.")
    what = WaveAugment(
        speed=(1.0,),
        noise=noise,
        snr=_range("--snr", snr) if snr is not None else WaveAugment.snr,
        band=TELEPHONE_BAND if telephone else None,
        mulaw=telephone,
        share=1.0,
    )
    with _progress("opening", "making and examining recordings") as progress:
        about = make(name, parent, what, where=where, seed=seed, replace=replace, progress=progress)
    _said(about)


@app.command()
def join(
    name: Annotated[str, typer.Argument(help="What to call the new corpus.")],
    parts: Annotated[list[str], typer.Argument(help="The corpora it is made of, two or more.")],
    where: Annotated[str | None, typer.Option("--where", help="SQL over columns that all of them have.")] = None,
    latin: Annotated[
        bool, typer.Option("--latin", help="Texts in Latin letters: Cyrillic and Greek are transliterated.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Make a corpus of this name anew.")] = False,
) -> None:
    """Make one corpus of several, to pre-train on all of them; recordings stay where they are.

    The column 'corpus' says where a row is from, and its id begins with it.
    """
    from overture.corpora.join import join as make

    with _progress("opening") as progress:
        about = make(name, parts, where=where, latin=latin, replace=replace, progress=progress)
    _said(about)


def _range(option: str, given: str) -> tuple[float, float]:
    """'5,20' -> (5.0, 20.0), and '10' -> (10.0, 10.0)."""
    try:
        numbers = [float(word) for word in given.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise OvertureError(f"{option} {given!r}: write LOW,HIGH, such as 5,20.")
    return numbers[0], numbers[-1]


def _table(*columns: str, title: str = "", right: tuple[str, ...] = ()) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
        header_style="bold",
    )
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name in right)
    return table


@app.command(name="list")
def list_() -> None:
    """The corpora that are here and those that can be got."""
    import pyarrow.parquet as pq
    from rich.console import Console

    from overture.corpora import SOURCES
    from overture.data.table import about_corpus, corpora_home, find_corpus

    console = Console()
    here = {"embedded": find_corpus("embedded")} | {
        p.parent.name: p.parent
        for p in sorted(corpora_home().glob("[!.]*/table.parquet"))
        if "~" not in p.parent.name  # the pre-training rows of a study
    }
    table = _table("corpus", "utterances", "hours", "about", title="Here", right=("utterances", "hours"))
    for name, folder in here.items():
        about = about_corpus(folder)
        rows = pq.read_metadata(folder / "table.parquet").num_rows
        what = about.get("about") or f"recordings in {about.get('root', folder)}"
        if "rows_of" in about:  # a selection that a study or a protocol keeps
            what = f"a selection of {about['rows_of']}"
        table.add_row(name, f"{rows:,}", f"{about['hours']:.2f}" if "hours" in about else "-", what)
    console.print(table)
    table = _table(
        "source",
        "hours",
        "download",
        "about",
        title="To be got: overture data get SOURCE",
        right=("hours", "download"),
    )
    for name, source in SOURCES.items():
        if name not in here:
            extra = f" [needs overture\\[{source.extra}]]" if source.extra else ""
            table.add_row(
                name,
                f"{source.hours:g}",
                f"{source.download_mb} MB",
                f"{source.about}{extra}\n[dim]languages: {source.languages}; licence: {source.licence}[/dim]",
            )
    if table.row_count:
        console.print(table)
    else:
        console.print("All sources are installed.")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A corpus, or the folder of one.")],
    where: Annotated[
        str | None, typer.Option("--where", help="SQL over the columns, e.g. \"language = 'es' and duration < 10\".")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Columns to group by, e.g. language,speaker.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw histograms into this file (PNG).")] = None,
    most: Annotated[int, typer.Option("--most", help="How many groups to show.")] = 40,
) -> None:
    """Hours, lengths, levels, speakers, languages; what is missing, clipped, silent, double."""
    from rich.console import Console
    from rich.markup import escape

    from overture.corpora import show as look
    from overture.data.table import Table, about_corpus, find_corpus

    console = Console()
    folder = find_corpus(name)
    about = about_corpus(folder)
    table = Table.open(name, where)
    if not len(table):
        raise OvertureError(f"no row of {name!r} is left by --where {where!r}.")
    total = look.figures(table)[0]
    console.print(
        f"[bold]{escape(table.name)}[/bold]" + (f"  {escape(about['about'])}" if about.get("about") else ""),
        highlight=False,
    )
    console.print(
        f"{folder}" + ("" if table.root == folder else f", recordings in {table.root}"),
        style="dim",
        highlight=False,
        soft_wrap=True,
    )
    if where:
        console.print(f"where {escape(where)}", style="yellow", highlight=False)

    facts = _table("", "")
    facts.show_header = False
    utterances = f"{len(table):,}" + (f" of {about['rows']:,}" if where and "rows" in about else "")
    facts.add_row("utterances", utterances)
    facts.add_row("hours", f"{total['hours']:.2f}")
    facts.add_row(
        "length",
        f"{total['shortest']:.2f} s shortest, {total['median']:.2f} s median, {total['longest']:.2f} s longest",
    )
    for column, label in (
        ("language", "languages"),
        ("speaker", "speakers"),
        ("gender", "gender"),
        ("rate", "rate, Hz"),
        ("licence", "licences"),
        ("source", "sources"),
    ):
        said = look.values(table, column)
        if said:
            many = f"{total[label]}: " if label in ("languages", "speakers") and total[label] else ""
            facts.add_row(label, escape(many + said))
    for key, label in (("no_text", "without text"), ("clipped", "clipped"), ("silent", "silent"), ("stereo", "stereo")):
        if total[key] is not None:
            facts.add_row(label, _share(total[key], len(table)))
    if not where:
        facts.add_row("double", f"{about.get('duplicates_dropped', 0):,} exact duplicates left out when it was made")
        if about.get("problems"):
            facts.add_row(
                "left out", "; ".join(f"{n:,} x {kind}" for kind, n in about["problems"].items()) + " (dropped.tsv)"
            )
    facts.add_row("fingerprint", table.fingerprint)
    console.print(facts)

    for column, edges, unit in (("duration", look.DURATIONS, "s"), ("level", look.LEVELS, "dBFS")):
        if column in table.columns.column_names:
            bins = look.histogram(table.numpy(column).astype(float), edges, unit)
            chart = _table(
                "length" if column == "duration" else "level", "utterances", "", right=("length", "level", "utterances")
            )
            for label, count, bar in bins:
                chart.add_row(label, f"{count:,}", f"[blue]{bar}[/blue]")
            console.print(chart)

    if by:
        columns = [c.strip() for c in by.split(",") if c.strip()]
        found = look.figures(table, columns)
        # columns of zeros, or of ones for counts of speakers and languages, would only push the others off the screen
        optional = [
            k
            for k in ("no_text", "clipped", "silent", "stereo", "speakers", "languages")
            if any((g[k] or 0) > (k in ("speakers", "languages")) for g in found)
        ]
        numbers = ("utterances", "hours", "min s", "median", "max", "dBFS", *(k.replace("_", " ") for k in optional))
        groups = _table(*columns, *numbers, right=numbers)
        for shown, name in zip(groups.columns, columns, strict=False):
            shown.min_width = min(16, max(len(str(g[name] or "(none)")) for g in found[:most]))
        for group in found[:most]:
            groups.add_row(
                *("(none)" if group[c] is None else escape(str(group[c])) for c in columns),
                f"{group['utterances']:,}", f"{group['hours']:.2f}", f"{group['shortest']:.2f}", f"{group['median']:.2f}", f"{group['longest']:.1f}",
                "-" if group["level"] is None else f"{group['level']:.0f}",
                *("-" if group[k] is None else f"{group[k]:,}" for k in optional),
            )  # fmt: skip
        console.print(groups)
        if len(found) > most:
            console.print(f"and {len(found) - most:,} more groups (--most shows them)", style="dim")
    if plot is not None:
        look.plot(table, plot)
        console.print(f"drawn: {plot}", highlight=False)


def _share(part: int, whole: int) -> str:
    return f"{part:,}" + (f" ({100 * part / whole:.2g} %)" if 0 < part < whole else "")
