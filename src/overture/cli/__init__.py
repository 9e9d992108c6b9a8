"""The command line. Each verb imports what it needs when it is called, so `overture list` stays under 0.3 s and loads no torch."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import overture
from overture.cli import chat, data, finetune, models, score, sources, speak, study, transcribe
from overture.errors import OvertureError

app = typer.Typer(
    name="overture",
    help="Pre-train, adapt and judge speech, audio and text models: published systems as recipes on the same data, loop and evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data.app.command("score")(score.score)
app.add_typer(data.app, name="data", help="Get, add, list and look at corpora.")
app.add_typer(sources.app, name="models", help="Get and list published models.")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"overture {overture.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for verb in (
    models.list_,
    models.show,
    models.run,
    finetune.finetune,
    transcribe.transcribe,
    chat.chat,
    speak.speak,
    study.check,
    study.compare,
    models.export,
    models.report,
    models.bench,
):
    app.command(verb.__name__.rstrip("_"))(verb)


def main() -> None:
    """Entry point: a problem the user can mend is printed without a traceback, exit status 1; Ctrl-C is 130."""
    try:
        app()
    except OvertureError as error:
        typer.secho(f"overture: {error}", err=True, fg="red")
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("overture: interrupted; what is finished is kept, the same command goes on", err=True, fg="yellow")
        sys.exit(130)


__all__ = ["Path", "app", "main"]
