"""`overture data`: get corpora, add your own, derive, cut, join and thin out others. Listing them and looking into them is in `look`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from overture.cli import look
from overture.errors import OvertureError

app = typer.Typer(no_args_is_help=True)


@contextmanager
def _progress(what: str, then: str = "examining recordings") -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal while recordings are examined, or texts."""
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
    if about.get("near_duplicates_dropped"):
        left.append(f"{about['near_duplicates_dropped']:,} x nearly the same text as another")
    if about["duplicates_dropped"]:
        differs = "label" if text else "text"
        other = about.get(f"duplicates_with_another_{differs}")
        left.append(
            f"{about['duplicates_dropped']:,} x the same {'text' if text else 'recording'} again"
            + (f" ({other:,} of them with another {differs})" if other else "")
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
        Path | None, typer.Option(help="A folder with the packages already downloaded; nothing is fetched then.")
    ] = None,
) -> None:
    """Install corpora made from packages (of Debian: needs apt-get and dpkg, not root)."""
    from overture.corpora.get import get as install

    if debs is not None and not debs.is_dir():
        raise OvertureError(f"--debs {debs} is not a folder.")
    for name in names:
        with _progress(f"fetching {name}", "examining") as progress:
            about = install(name, replace=replace, debs=debs, progress=progress)
        _said(about)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call the corpus.")],
    path: Annotated[
        Path,
        typer.Argument(
            help="A folder of recordings (--text: of documents), or a table (.tsv .csv .jsonl .parquet) of them."
        ),
    ],
    text: Annotated[bool, typer.Option("--text", help="PATH holds documents, not recordings.")] = False,
    document: Annotated[
        Literal["file", "line", "paragraph"] | None,
        typer.Option("--document", help="With --text: what a document is in a plain text file; by default all of it."),
    ] = None,
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
    limit: Annotated[float | None, typer.Option("--limit", help="The longest utterance, s; by default 3600.")] = None,
) -> None:
    """Make a corpus of your recordings or, with --text, of your documents.

    Known layouts of recordings: a table beside them, LibriSpeech, Common Voice, a Kaldi data directory, lhotse cuts, Hugging Face datasets (saved to
    disk or Parquet), and a folder of bare recordings. Of documents: plain text, Markdown and HTML files, and tables with a column of texts.
    """
    of_speech = {
        "--transcripts": transcripts,
        "--named": named,
        "--audio": audio,
        "--copy": copy or None,
        "--limit": limit,
    }
    given = [option for option, value in of_speech.items() if value is not None]
    if text and given:
        raise OvertureError(f"{', '.join(given)}: of recordings, and --text says that {path} holds documents.")
    if document is not None and not text:
        raise OvertureError(f"--document {document}: needs --text.")
    columns, filled = _pairs("--column", column), _pairs("--fill", fill)
    if text:
        from overture.corpora.add_text import add_text

        with _progress("reading", "examining") as progress:
            about = add_text(
                name, path, columns=columns, fill=filled, encoding=encoding, document=document or "file", replace=replace,
                on_problem=on_problem, progress=progress,
            )  # fmt: skip
    else:
        from overture.corpora.add import add as import_
        from overture.data.check import LIMIT

        with _progress("reading") as progress:
            about = import_(
                name, path, transcripts=transcripts, columns=columns, fill=filled, named=named, audio=audio, encoding=encoding, copy=copy,
                replace=replace, on_problem=on_problem, limit=LIMIT if limit is None else limit, progress=progress,
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
def cut(
    name: Annotated[str, typer.Argument(help="What to call the new corpus.")],
    parent: Annotated[str, typer.Option("--from", help="The corpus of long recordings.")],
    wished: Annotated[float, typer.Option("--wished", help="Stretches of speech are joined up to this, s.")] = 20.0,
    longest: Annotated[float, typer.Option("--longest", help="No utterance is longer, s.")] = 25.0,
    shortest: Annotated[float, typer.Option("--shortest", help="Speech shorter than this is left out, s.")] = 1.0,
    pause: Annotated[float, typer.Option("--pause", help="The longest pause within an utterance, s.")] = 0.5,
    where: Annotated[str | None, typer.Option("--where", help="SQL over the columns of --from.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Make a corpus of this name anew.")] = False,
) -> None:
    """Make a corpus of utterances of long recordings, by where somebody speaks; needs 'overture models get silero-vad'.

    Rows point into the same files and keep speaker, language and other columns, not the text of the whole recording. The same command again
    does nothing. Then: data score NAME --with snr, and --where "snr > 15" wherever the corpus is named.
    """
    from overture.corpora.cut import cut as make
    from overture.data.cutting import Lengths

    lengths = Lengths(wished=wished, longest=longest, shortest=shortest, pause=pause)
    with _progress("opening", "seconds heard, then utterances examined") as progress:
        about = make(name, parent, lengths, where=where, replace=replace, progress=progress)
    _said(about)
    _said_of_cuts(about, lengths.shortest)


def _said_of_cuts(about: dict[str, Any], shortest: float) -> None:
    """Where the hours of the recordings went."""
    from overture.data.table import find_corpus

    found = about["cut"]
    hours = {k: f"{v / 3600:.2f} h" for k, v in found["seconds"].items()}
    twice = found["rows"] - about["rows"]
    typer.echo(
        f"  of {hours['total']} in {found['recordings']:,} recordings: {hours['kept']} of speech in {found['rows']:,} utterances (with "
        f"{hours['pauses']} of short pauses){f', {twice:,} of them the same samples again' if twice else ''}; left out {hours['silence']} "
        f"where nobody speaks and {hours['short']} of speech shorter than {shortest:g} s"
    )
    if found["cuts_in_speech"]:
        typer.echo(f"  {found['cuts_in_speech']:,} cuts where nobody pauses, at the quietest place about")
    if silent := found["without_speech"]:
        more = f" and {len(silent) - 10:,} more" if len(silent) > 10 else ""
        typer.secho(f"  nobody speaks in {len(silent):,}: {', '.join(silent[:10])}{more}", fg="yellow")
    if left := found["columns_left"]:
        typer.echo(f"  not carried over, since they are of whole recordings: {', '.join(left)}")
    if found["words_outside"]:
        typer.echo(f"  {found['words_outside']:,} words with times are in no utterance")
    typer.echo(f"  each recording: {find_corpus(about['name']) / 'cuts.tsv'}")


@app.command()
def join(
    name: Annotated[str, typer.Argument(help="What to call the new corpus.")],
    parts: Annotated[list[str], typer.Argument(help="The corpora it is made of, two or more, or one and --where.")],
    where: Annotated[str | None, typer.Option("--where", help="SQL over columns that all of them have.")] = None,
    latin: Annotated[
        bool, typer.Option("--latin", help="Texts in Latin letters: Cyrillic and Greek are transliterated.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Make a corpus of this name anew.")] = False,
) -> None:
    """Make one corpus of several, or of some rows of one, to pre-train on all of it; recordings stay where they are.

    The column 'corpus' says where a row is from, and its id begins with it.
    """
    from overture.corpora.join import join as make

    with _progress("opening") as progress:
        about = make(name, parts, where=where, latin=latin, replace=replace, progress=progress)
    _said(about)


@app.command()
def dedup(
    name: Annotated[str, typer.Argument(help="What to call the new corpus.")],
    parent: Annotated[str, typer.Option("--from", help="The corpus of text it is made of.")],
    near: Annotated[
        float, typer.Option("--near", help="From which share of word 5-grams in common two documents are the same.")
    ] = 0.8,
    where: Annotated[str | None, typer.Option("--where", help="SQL over the columns of --from.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Make a corpus of this name anew.")] = False,
) -> None:
    """Make a corpus of text of another one, without its near duplicates: of such documents the first stays.

    dropped.tsv names each document left out and the one it is near to. Equal texts are left out of every corpus when it is made.
    """
    from overture.corpora.dedup import dedup as make

    with _progress("opening", "comparing") as progress:
        about = make(name, parent, near=near, where=where, replace=replace, progress=progress)
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


app.command("list")(look.list_)
app.command("show")(look.show)
