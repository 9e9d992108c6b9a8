"""`overture data list` and `overture data show`: which corpora there are, and what is in one of them, speech or text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overture.errors import OvertureError

if TYPE_CHECKING:
    from overture.corpora import Source
    from overture.data.table import Table

OF_SPEECH = (
    ("language", "languages"),
    ("speaker", "speakers"),
    ("gender", "gender"),
    ("rate", "rate, Hz"),
    ("licence", "licences"),
    ("source", "sources"),
)
OF_TEXT = (
    ("language", "languages"),
    ("label", "labels"),
    ("domain", "domains"),
    ("kind", "kind"),
    ("licence", "licences"),
    ("source", "sources"),
)


def grid(*columns: str, title: str = "", right: tuple[str, ...] = ()) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Grid

    found = Grid(
        box=SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
        header_style="bold",
    )
    for name in columns:
        found.add_column(name, justify="right" if name in right else "left", no_wrap=name in right)
    return found


def list_() -> None:
    """The corpora that are here and those that can be got."""
    import pyarrow.parquet as pq
    from rich.console import Console

    from overture.corpora import SOURCES
    from overture.data.table import EMBEDDED, about_corpus, corpora_home, find_corpus

    console = Console()
    here = {name: find_corpus(name) for name in EMBEDDED} | {
        p.parent.name: p.parent
        for p in sorted(corpora_home().glob("[!.]*/table.parquet"))
        if "~" not in p.parent.name  # the pre-training rows of a study
    }
    shown = grid("corpus", "rows", "size", "about", title="Here", right=("rows", "size"))
    for name, folder in here.items():
        about = about_corpus(folder)
        rows = pq.read_metadata(folder / "table.parquet").num_rows
        root = about.get("root", ".")
        what = (
            about.get("about")
            or f"{'text' if 'characters' in about else 'recordings'} in {folder if root == '.' else root}"
        )
        if "rows_of" in about:  # a selection that a study or a protocol keeps
            what = f"a selection of {about['rows_of']}"
        shown.add_row(name, f"{rows:,}", _size(about.get("hours"), about.get("characters")), what)
    console.print(shown)
    shown = grid(
        "source", "size", "download", "about", title="To be got: overture data get SOURCE", right=("size", "download")
    )
    for name, source in SOURCES.items():
        if name not in here:
            shown.add_row(name, _size_of(source), f"{source.download_mb} MB", _told(source))
    if shown.row_count:
        console.print(shown)
    else:
        console.print("All sources are installed.")


def _size(hours: float | None, characters: float | None) -> str:
    """Hours of speech, or characters of text."""
    if characters is not None:
        return f"{characters:,.0f} chars" if characters < 1e5 else f"{characters / 1e6:.1f} M chars"
    return "-" if hours is None else f"{hours:.2f} h"


def _size_of(source: "Source") -> str:
    return _size(None, source.characters * 1e6) if source.documents else _size(source.hours, None)


def _told(source: "Source") -> str:
    extra = f" [needs overture\\[{source.extra}]]" if source.extra else ""
    return f"{source.about}{extra}\n[dim]languages: {source.languages}; licence: {source.licence}[/dim]"


def show(
    name: Annotated[str, typer.Argument(help="A corpus, or the folder of one.")],
    where: Annotated[
        str | None, typer.Option("--where", help="SQL over the columns, e.g. \"language = 'es' and duration < 10\".")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Columns to group by, e.g. language,speaker.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw histograms into this file (PNG).")] = None,
    most: Annotated[int, typer.Option("--most", help="How many groups to show.")] = 40,
) -> None:
    """Of speech: hours, lengths, levels, speakers, languages; what is missing, clipped, silent, double.

    Of text: documents, characters, lengths, languages, labels.
    """
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
    console.print(
        f"[bold]{escape(table.name)}[/bold]" + (f"  {escape(about['about'])}" if about.get("about") else ""),
        highlight=False,
    )
    elsewhere = "" if table.is_text or table.root == folder else f", recordings in {table.root}"
    console.print(f"{folder}{elsewhere}", style="dim", highlight=False, soft_wrap=True)
    if where:
        console.print(f"where {escape(where)}", style="yellow", highlight=False)
    console.print(_facts(table, about, where))
    unit = "documents" if table.is_text else "utterances"
    for title, bins in look.histograms(table):
        chart = grid(title, unit, "", right=(title, unit))
        for label, count, bar in bins:
            chart.add_row(label, f"{count:,}", f"[blue]{bar}[/blue]")
        console.print(chart)
    if by:
        columns = [c.strip() for c in by.split(",") if c.strip()]
        found = look.figures(table, columns)
        console.print((_text_groups if table.is_text else _speech_groups)(columns, found[:most]))
        if len(found) > most:
            console.print(f"and {len(found) - most:,} more groups (--most shows them)", style="dim")
    if plot is not None:
        look.plot(table, plot)
        console.print(f"drawn: {plot}", highlight=False)


def _facts(table: "Table", about: dict[str, Any], where: str | None) -> Any:
    """Totals, the values of columns that tell most, and what was left out."""
    from rich.markup import escape

    from overture.corpora import show as look

    total = look.figures(table)[0]
    facts = grid("", "")
    facts.show_header = False
    rows = f"{len(table):,}" + (f" of {about['rows']:,}" if where and "rows" in about else "")
    lengths = [total[k] for k in ("shortest", "median", "longest")]
    if table.is_text:
        facts.add_row("documents", rows)
        facts.add_row("characters", f"{total['characters']:,}")
        facts.add_row("length", "{:,} shortest, {:,.0f} median, {:,} longest, characters".format(*lengths))
    else:
        facts.add_row("utterances", rows)
        facts.add_row("hours", f"{total['hours']:.2f}")
        facts.add_row("length", "{:.2f} s shortest, {:.2f} s median, {:.2f} s longest".format(*lengths))
    for column, label in OF_TEXT if table.is_text else OF_SPEECH:
        said = look.values(table, column)
        if said:
            many = f"{total[label]}: " if total.get(label) else ""
            facts.add_row(label, escape(many + said))
    if total.get("earliest"):
        facts.add_row("time", f"{total['earliest']} to {total['latest']}")
    for key, label in (("no_text", "without text"), ("clipped", "clipped"), ("silent", "silent"), ("stereo", "stereo")):
        if total.get(key) is not None:
            facts.add_row(label, _share(total[key], len(table)))
    if not where:
        near = f", {about['near_duplicates_dropped']:,} near ones" if "near_duplicates_dropped" in about else ""
        facts.add_row(
            "double", f"{about.get('duplicates_dropped', 0):,} exact duplicates{near} left out when it was made"
        )
        if about.get("problems"):
            left = "; ".join(f"{n:,} x {kind}" for kind, n in about["problems"].items())
            facts.add_row("left out", f"{left} (dropped.tsv)")
    facts.add_row("fingerprint", table.fingerprint)
    return facts


def _groups(columns: list[str], numbers: tuple[str, ...], found: list[dict[str, Any]]) -> Any:
    groups = grid(*columns, *numbers, right=numbers)
    for shown, name in zip(groups.columns, columns, strict=False):
        shown.min_width = min(16, max(len(str(g[name] or "(none)")) for g in found))
    return groups


def _keys(columns: list[str], group: dict[str, Any]) -> list[str]:
    from rich.markup import escape

    return ["(none)" if group[c] is None else escape(str(group[c])) for c in columns]


def _speech_groups(columns: list[str], found: list[dict[str, Any]]) -> Any:
    # columns of zeros, or of ones for counts of speakers and languages, would only push the others off the screen
    optional = [
        k
        for k in ("no_text", "clipped", "silent", "stereo", "speakers", "languages")
        if any((g[k] or 0) > (k in ("speakers", "languages")) for g in found)
    ]
    numbers = ("utterances", "hours", "min s", "median", "max", "dBFS", *(k.replace("_", " ") for k in optional))
    groups = _groups(columns, numbers, found)
    for group in found:
        groups.add_row(
            *_keys(columns, group),
            f"{group['utterances']:,}", f"{group['hours']:.2f}", f"{group['shortest']:.2f}", f"{group['median']:.2f}", f"{group['longest']:.1f}",
            "-" if group["level"] is None else f"{group['level']:.0f}",
            *("-" if group[k] is None else f"{group[k]:,}" for k in optional),
        )  # fmt: skip
    return groups


def _text_groups(columns: list[str], found: list[dict[str, Any]]) -> Any:
    optional = [k for k in ("no_text", "languages", "labels") if any((g[k] or 0) > (k != "no_text") for g in found)]
    numbers = ("documents", "characters", "min", "median", "max", *(k.replace("_", " ") for k in optional))
    groups = _groups(columns, numbers, found)
    for group in found:
        groups.add_row(
            *_keys(columns, group),
            f"{group['documents']:,}", f"{group['characters']:,}", f"{group['shortest']:,}", f"{group['median']:,.0f}", f"{group['longest']:,}",
            *("-" if group[k] is None else f"{group[k]:,}" for k in optional),
        )  # fmt: skip
    return groups


def _share(part: int, whole: int) -> str:
    return f"{part:,}" + (f" ({100 * part / whole:.2g} %)" if 0 < part < whole else "")
