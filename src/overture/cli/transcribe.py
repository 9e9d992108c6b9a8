"""The verb that uses a recogniser: recordings of any length in, text with times out."""

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from overture.errors import OvertureError, near

if TYPE_CHECKING:
    from rich.console import Console

    from overture.recognise.recogniser import Recogniser
    from overture.recognise.transcribe import Failure
    from overture.recognise.write import Transcript

EVERY = 10.0  # s between lines of progress, off a terminal


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings of any length and rate.")],
    model: Annotated[Path, typer.Option(help="The folder of a recogniser, as 'overture finetune' makes it.")],
    format_: Annotated[
        list[str] | None, typer.Option("--format", help="text (default), srt, ctm or json; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder to write into. Without it, text is printed.")] = None,
    existing: Annotated[
        Literal["error", "skip", "replace"],
        typer.Option(help="What an output that is already there does: end the command, be kept, or be made anew."),
    ] = "error",
    lm: Annotated[
        str | None, typer.Option(help="Another language model (ARPA or KenLM file), or 'none'. Default: the model's.")
    ] = None,
    lm_weight: Annotated[
        float | None, typer.Option(help="Of the language model. Default: as tuned with the model.", min=0.0)
    ] = None,
    channel: Annotated[
        int | None, typer.Option(help="Hear this channel only, from 1. Default: the average of all.", min=1)
    ] = None,
) -> None:
    """Transcribe recordings: text, SRT subtitles, CTM or JSON with the time of every word.

    Long recordings are heard in overlapping windows, in bounded memory. A file that cannot be transcribed is reported and the others
    go on; the exit status is then 1.
    """
    from rich.console import Console
    from rich.markup import escape

    from overture.recognise.write import FORMATS, clock, write

    formats = list(dict.fromkeys(format_ or ["text"]))
    for name in formats:
        if name not in FORMATS:
            raise OvertureError(f"--format {name!r}: no such format. {near(name, FORMATS)}")
    if out is None and (len(formats) > 1 or (len(files) > 1 and "srt" in formats)):
        raise OvertureError("several formats, or subtitles of several files, need a folder: --out DIR")
    plan = _plan(files, formats, out, existing)
    asked = [file for file, paths in plan.items() if out is None or paths]
    console = Console(stderr=True)
    for file in plan:
        if file not in asked:
            console.print(f"{escape(str(file))}: there already, kept", style="dim", highlight=False, soft_wrap=True)

    if not asked:
        return
    from overture.recognise import transcribe as recognise

    recogniser, about = _load(model, lm, lm_weight)
    failed: list[Failure] = []
    finished = seconds = 0.0
    with _Live(console, asked) as live:
        try:
            for found in recognise.transcribe(asked, recogniser, channel=channel, on_progress=live.progress):
                if isinstance(found, recognise.Failure):
                    failed.append(found)
                    console.print(escape(found.reason), style="red", highlight=False, soft_wrap=True)
                    continue
                for note in found.notes:
                    console.print(
                        f"{escape(str(found.file))}: [yellow]note[/yellow] {escape(note)}",
                        highlight=False,
                        soft_wrap=True,
                    )
                if out is None:
                    typer.echo(_printed(found, formats[0], about, several=len(asked) > 1), nl=False)
                else:
                    write(found, plan[found.file], about)
                    where = ", ".join(map(str, plan[found.file].values()))
                    console.print(
                        f"{escape(str(found.file))}: {len(found.words):,} words in {clock(found.seconds)} -> {escape(where)}",
                        highlight=False,
                        soft_wrap=True,
                    )
                finished, seconds = finished + 1, seconds + found.seconds
                live.finished(found.file, found.seconds)
        except KeyboardInterrupt:
            kept = (
                f"; {finished:.0f} of {len(asked)} files are written, --existing skip goes on"
                if out is not None
                else ""
            )
            console.print(f"overture: interrupted{kept}", style="yellow", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
        took = live.elapsed
    if seconds:
        console.print(
            f"{finished:.0f} file{'s' * (finished != 1)}, {clock(seconds)} of audio in {clock(took)}, real-time factor {took / seconds:.3f}",
            highlight=False,
        )
    if failed:
        console.print(
            f"{len(failed)} of {len(asked)} files could not be transcribed: "
            + escape(", ".join(str(f.file) for f in failed)),
            style="red",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)


def _plan(
    files: list[Path], formats: list[str], out: Path | None, existing: Literal["error", "skip", "replace"]
) -> dict[Path, dict[str, Path]]:
    """Where each format of each file goes ({} where all is there and kept, or where it is printed).

    Raises OvertureError before anything is heard: two files with one output, or an output that is there.
    """
    from overture.recognise.write import FORMATS

    twice = [str(file) for file, n in Counter(files).items() if n > 1]
    if twice:
        raise OvertureError(f"named twice: {', '.join(twice)}")
    if out is None:
        return {file: {} for file in files}
    if out.exists() and not out.is_dir():
        raise OvertureError(f"--out {out} is a file: name a folder")
    makers: dict[str, Path] = {}
    for file in files:
        other = makers.setdefault(file.stem, file)
        if other != file:
            raise OvertureError(
                f"{other} and {file} would both be written to {out / file.stem}{FORMATS[formats[0]][0]}: transcribe them into two folders"
            )
    plan = {file: {name: out / f"{file.stem}{FORMATS[name][0]}" for name in formats} for file in files}
    there = [path for paths in plan.values() for path in paths.values() if path.exists()]
    if there and existing == "error":
        more = f" and {len(there) - 1:,} more" if len(there) > 1 else ""
        raise OvertureError(
            f"{there[0]}{more} is there already: --existing skip keeps it, --existing replace makes it anew"
        )
    if existing == "skip":
        return {file: {n: p for n, p in paths.items() if not p.exists()} for file, paths in plan.items()}
    return plan


def _load(model: Path, lm: str | None, lm_weight: float | None) -> "tuple[Recogniser, dict[str, Any]]":
    """The recogniser as the options want it, and what is said of it in JSON."""
    from dataclasses import replace

    import overture
    from overture.config import to_dict
    from overture.recognise.lm import NGram
    from overture.recognise.recogniser import Recogniser

    recogniser = Recogniser.load(model)
    name = str(model / recogniser.about["decoding"]["lm"]) if recogniser.lm is not None else None
    if lm is not None:
        name = None if lm == "none" else lm
        recogniser = replace(recogniser, lm=None if name is None else NGram.read(Path(name)))
    if lm_weight is not None:
        if recogniser.lm is None:
            raise OvertureError(f"--lm-weight {lm_weight:g}: there is no language model. Name one with --lm")
        recogniser = replace(recogniser, beam=replace(recogniser.beam, lm_weight=lm_weight))
    return recogniser, {
        "model": str(model),
        "licence": recogniser.about.get("licence"),
        "lm": None if name is None else {"file": name, "beam": to_dict(recogniser.beam)},
        "overture": overture.__version__,
    }


def _printed(found: "Transcript", name: str, about: dict[str, Any], *, several: bool) -> str:
    """What goes to standard output: of several files, a line each of text (FILE, tab, text) and of JSON."""
    import json

    from overture.recognise.write import FORMATS

    if name == "json" and several:
        return json.dumps(json.loads(FORMATS[name][1](found, about)), ensure_ascii=False) + "\n"
    if name == "text" and several:
        return f"{found.file}\t{found.text}\n"
    return FORMATS[name][1](found, about)


class _Live:
    """One live line: which file, how far, how fast. Off a terminal it prints a line now and then instead."""

    def __init__(self, console: "Console", files: list[Path]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console, self.places = console, {file: i for i, file in enumerate(files, start=1)}
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task: Any = None
        self.file: Path | None = None
        self.before = 0.0  # s of audio of the files before this one
        self.begun = self.printed = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """s since the recogniser was loaded."""
        return time.perf_counter() - self.begun

    def __enter__(self) -> "_Live":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def progress(self, file: Path, done: float, whole: float) -> None:
        """Called after each window: s of the file done, and s that it has."""
        from overture.recognise.write import clock

        numbers = (
            f"{clock(done)} of {clock(whole)}, real-time factor {self.elapsed / max(self.before + done, 1e-9):.3f}"
        )
        name = f"{self.places[file]}/{len(self.places)} {file.name}"
        if self.console.is_terminal:
            if self.file != file:
                self._close()
                self.task, self.file = self.bars.add_task(name, total=whole, numbers=""), file
            self.bars.update(self.task, completed=done, numbers=numbers)
        elif time.perf_counter() - self.printed > EVERY:
            self.printed = time.perf_counter()
            self.console.print(f"  {name}: {numbers}", markup=False, highlight=False, soft_wrap=True)

    def finished(self, file: Path, seconds: float) -> None:
        self.before += seconds
        if self.file == file:
            self._close()

    def _close(self) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = self.file = None
